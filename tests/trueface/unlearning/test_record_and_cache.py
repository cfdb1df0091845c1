"""The record of an unlearning, and its cache."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trueface.unlearning.unlearned_runs import make_record
from trueface.data.examples import CostCounter
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.unlearning.cache import Cache, fingerprint
from trueface.unlearning.record import NoiseSearchResult, Probe, Record, Relearn, read, write


def make_test_record(**changed: Any) -> Record:
    """Return the record of an unlearning of flips, with changes."""
    given: dict[str, Any] = {
        "found": NoiseSearchResult(flagged=10, hidden=8, right=6),
        "options": {"lr": 0.1, "groups": [1, 2], "inner": {"a": None}},
        "notes": ("one", "two"),
        "peak_bytes": 1 << 20,
        "relearn": Relearn(steps=None, most=50, loss=0.25),
        "probe": Probe(before=1.0, after=0.75, chance=0.5),
        "attack_before": 0.5,
        "log": ({"step": 0, "loss": 0.7}, {"step": 1, "loss": None}),
    }
    return make_record("gan:pre%20~scrub", "gan:pre%20", **{**given, **changed})


def test_fractions_of_nothing_are_unknown() -> None:
    found = NoiseSearchResult(flagged=0, hidden=0, right=0)
    assert found.precision is None
    assert found.recall is None
    assert NoiseSearchResult(flagged=10, hidden=8, right=6).precision == 0.6
    assert NoiseSearchResult(flagged=10, hidden=8, right=6).recall == 0.75


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "damaged"), ('{"schema": 2}', "schema 2"), ('{"schema": 1}', "method: Field required")],
)
def test_invalid_record_is_an_error(tmp_path: Path, text: str, said: str) -> None:
    paths.unlearning(tmp_path).write_text(text)
    with pytest.raises(DataError, match=said):
        read(tmp_path)


def test_record_survives_a_round_trip_except_a_non_finite_loss(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    record = make_test_record()
    write(tmp_path / "model", record)
    assert read(tmp_path / "model") == record
    assert json.loads(paths.unlearning(tmp_path / "model").read_text())["schema"] == 1
    write(tmp_path, replace(record, log=({"step": 1, "loss": math.nan},)))
    found = read(tmp_path)
    assert found is not None
    assert found.log == ({"step": 1, "loss": None},)
    with pytest.raises(ValueError, match="seconds of an unlearning is nan"):
        make_test_record(seconds=math.nan)


class Maker:
    """Makes a tensor, reads ten samples for it, and counts how often."""

    def __init__(self, meter: CostCounter) -> None:
        self.meter, self.calls = meter, 0

    def __call__(self) -> dict[str, Tensor]:
        self.calls += 1
        self.meter.samples += 10
        return {"sums": torch.arange(3.0)}


def test_cached_value_is_found_again_with_its_cost(tmp_path: Path) -> None:
    first, second = CostCounter(), CostCounter()
    maker = Maker(first)
    for meter in (first, second):
        found = Cache(tmp_path, meter).tensors("sums", ["model", "data"], maker)
        assert found["sums"].tolist() == [0, 1, 2]
        assert (meter.samples, meter.cached_samples) == (0, 10)
    assert maker.calls == 1
    assert first.making_seconds > 0
    assert second.making_seconds == 0
    assert second.cached_seconds == pytest.approx(first.cached_seconds)


def test_value_with_another_key_is_computed_again(tmp_path: Path) -> None:
    meter = CostCounter()
    maker = Maker(meter)
    for follows in (["a", "b"], ["a", "c"], ["ab"], ["a", "b"]):
        Cache(tmp_path, meter).tensors("sums", follows, maker)
    assert maker.calls == 3


@pytest.mark.parametrize("damage", [b"", b"no file of tensors", None])
def test_broken_file_is_computed_again(tmp_path: Path, damage: bytes | None) -> None:
    meter = CostCounter()
    maker = Maker(meter)
    Cache(tmp_path, meter).tensors("sums", ["a"], maker)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    assert Cache(tmp_path, meter).tensors("sums", ["a"], maker)["sums"].tolist() == [0, 1, 2]
    assert maker.calls == 2


def test_nothing_is_cached_without_a_folder() -> None:
    meter = CostCounter()
    maker = Maker(meter)
    for _ in range(2):
        Cache(None, meter).tensors("sums", ["a"], maker)
    assert maker.calls == 2


def test_unwritable_folder_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    meter = CostCounter()
    made = Cache(tmp_path / "file" / "cache", meter).tensors("sums", ["a"], Maker(meter))
    assert made["sums"].tolist() == [0, 1, 2]


def test_fingerprint_covers_state_that_a_model_does_not_save() -> None:
    coarse, fine = nn.Conv2d(1, 1, 3, stride=2), nn.Conv2d(1, 1, 3)
    fine.load_state_dict(coarse.state_dict())
    assert fingerprint(coarse) != fingerprint(fine)
    fine.register_buffer("mean", torch.zeros(1), persistent=False)
    before = fingerprint(fine)
    fine.get_buffer("mean").add_(1)
    assert fingerprint(fine) != before


def test_fingerprint_covers_every_number_and_name() -> None:
    layer = nn.Linear(2, 2)
    before = fingerprint(layer)
    assert fingerprint(nn.Linear(2, 2)) != before
    layer.weight.data[0, 0] += 1e-6
    assert fingerprint(layer) != before
