"""The record of an unlearning: written, read, and what is refused."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.unlearning.record import Found, Probe, Record, Relearn, read, write


def a_record(**changed: Any) -> Record:
    """Return the record of an unlearning of flips, with changes."""
    given: dict[str, Any] = {
        "method": "scrub",
        "model": "gan:pre%20~scrub",
        "base": "gan:pre%20",
        "goal": "flips",
        "classes": 2,
        "class_names": ("real", "fake"),
        "forgotten": (),
        "seed": 0,
        "rate": 0.2,
        "known": 1.0,
        "found": Found(flagged=10, hidden=8, right=6),
        "forced": False,
        "options": {"lr": 0.1, "groups": [1, 2], "inner": {"a": None}},
        "notes": ("one", "two"),
        "seconds": 3.5,
        "samples_read": 640,
        "cached_seconds": 0.5,
        "cached_samples": 64,
        "peak_bytes": 1 << 20,
        "training_seconds": 60.0,
        "training_samples": 6400,
        "relearn": Relearn(steps=None, most=50, loss=0.25),
        "probe": Probe(before=1.0, after=0.75, chance=0.5),
        "attack": None,
        "attack_before": 0.5,
        "log": ({"step": 0, "loss": 0.7}, {"step": 1, "loss": None}),
    }
    return Record(**{**given, **changed})


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    record = a_record()
    write(tmp_path / "model", record)
    assert read(tmp_path / "model") == record


def test_a_folder_without_a_record_has_none(tmp_path: Path) -> None:
    assert read(tmp_path) is None


def test_shares_of_nothing_are_not_known() -> None:
    found = Found(flagged=0, hidden=0, right=0)
    assert found.precision is None
    assert found.recall is None
    assert Found(flagged=10, hidden=8, right=6).precision == 0.6
    assert Found(flagged=10, hidden=8, right=6).recall == 0.75


def test_a_loss_that_is_no_number_is_written_as_unknown(tmp_path: Path) -> None:
    write(tmp_path, a_record(log=({"step": 1, "loss": math.nan},)))
    found = read(tmp_path)
    assert found is not None
    assert found.log == ({"step": 1, "loss": None},)


def test_a_measured_value_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="seconds of an unlearning is nan"):
        replace(a_record(), seconds=math.nan)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "damaged"), ('{"schema": 2}', "schema 2"), ('{"schema": 1}', "method: Field required")],
)
def test_a_record_that_cannot_be_understood_is_an_error(
    tmp_path: Path, text: str, said: str
) -> None:
    paths.unlearning(tmp_path).write_text(text)
    with pytest.raises(DataError, match=said):
        read(tmp_path)


def test_the_file_says_its_schema(tmp_path: Path) -> None:
    write(tmp_path, a_record())
    assert json.loads(paths.unlearning(tmp_path).read_text())["schema"] == 1
