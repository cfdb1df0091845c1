"""The record of an unlearning: written, read, and what is refused."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.trueface.unlearning.said import told
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.unlearning.record import Found, Probe, Record, Relearn, read, write


def a_record(**changed: Any) -> Record:
    """Return the record of an unlearning of flips, with changes."""
    given: dict[str, Any] = {
        "found": Found(flagged=10, hidden=8, right=6),
        "options": {"lr": 0.1, "groups": [1, 2], "inner": {"a": None}},
        "notes": ("one", "two"),
        "peak_bytes": 1 << 20,
        "relearn": Relearn(steps=None, most=50, loss=0.25),
        "probe": Probe(before=1.0, after=0.75, chance=0.5),
        "attack_before": 0.5,
        "log": ({"step": 0, "loss": 0.7}, {"step": 1, "loss": None}),
    }
    return told("gan:pre%20~scrub", "gan:pre%20", **{**given, **changed})


def test_shares_of_nothing_are_not_known() -> None:
    found = Found(flagged=0, hidden=0, right=0)
    assert found.precision is None
    assert found.recall is None
    assert Found(flagged=10, hidden=8, right=6).precision == 0.6
    assert Found(flagged=10, hidden=8, right=6).recall == 0.75


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


def test_what_is_written_is_read_again_but_a_loss_that_is_no_number(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    record = a_record()
    write(tmp_path / "model", record)
    assert read(tmp_path / "model") == record
    assert json.loads(paths.unlearning(tmp_path / "model").read_text())["schema"] == 1
    write(tmp_path, replace(record, log=({"step": 1, "loss": math.nan},)))
    found = read(tmp_path)
    assert found is not None
    assert found.log == ({"step": 1, "loss": None},)
    with pytest.raises(ValueError, match="seconds of an unlearning is nan"):
        a_record(seconds=math.nan)
