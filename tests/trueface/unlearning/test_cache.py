from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from trueface.data.examples import Meter
from trueface.unlearning.cache import Cache, fingerprint


class Maker:
    """Makes a tensor, reads ten samples for it, and counts how often."""

    def __init__(self, meter: Meter) -> None:
        self.meter, self.calls = meter, 0

    def __call__(self) -> dict[str, Tensor]:
        self.calls += 1
        self.meter.samples += 10
        return {"sums": torch.arange(3.0)}


def test_what_was_made_once_is_found_again_with_its_cost(tmp_path: Path) -> None:
    first, second = Meter(), Meter()
    maker = Maker(first)
    for meter in (first, second):
        found = Cache(tmp_path, meter).tensors("sums", ["model", "data"], maker)
        assert found["sums"].tolist() == [0, 1, 2]
        assert (meter.samples, meter.cached_samples) == (0, 10)
    assert maker.calls == 1
    assert first.making_seconds > 0
    assert second.making_seconds == 0
    assert second.cached_seconds == pytest.approx(first.cached_seconds)


def test_what_follows_from_something_else_is_made_anew(tmp_path: Path) -> None:
    meter = Meter()
    maker = Maker(meter)
    for follows in (["a", "b"], ["a", "c"], ["ab"], ["a", "b"]):
        Cache(tmp_path, meter).tensors("sums", follows, maker)
    assert maker.calls == 3


@pytest.mark.parametrize("damage", [b"", b"no file of tensors", None])
def test_a_broken_file_is_made_again(tmp_path: Path, damage: bytes | None) -> None:
    meter = Meter()
    maker = Maker(meter)
    Cache(tmp_path, meter).tensors("sums", ["a"], maker)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    assert Cache(tmp_path, meter).tensors("sums", ["a"], maker)["sums"].tolist() == [0, 1, 2]
    assert maker.calls == 2


def test_without_a_folder_nothing_is_kept() -> None:
    meter = Meter()
    maker = Maker(meter)
    for _ in range(2):
        Cache(None, meter).tensors("sums", ["a"], maker)
    assert maker.calls == 2


def test_a_folder_that_cannot_be_written_costs_time_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    meter = Meter()
    made = Cache(tmp_path / "file" / "cache", meter).tensors("sums", ["a"], Maker(meter))
    assert made["sums"].tolist() == [0, 1, 2]


def test_the_fingerprint_follows_what_a_model_does_not_save() -> None:
    coarse, fine = nn.Conv2d(1, 1, 3, stride=2), nn.Conv2d(1, 1, 3)
    fine.load_state_dict(coarse.state_dict())
    assert fingerprint(coarse) != fingerprint(fine)
    fine.register_buffer("mean", torch.zeros(1), persistent=False)
    before = fingerprint(fine)
    fine.get_buffer("mean").add_(1)
    assert fingerprint(fine) != before


def test_the_fingerprint_follows_every_number_and_name() -> None:
    layer = nn.Linear(2, 2)
    before = fingerprint(layer)
    assert fingerprint(nn.Linear(2, 2)) != before
    layer.weight.data[0, 0] += 1e-6
    assert fingerprint(layer) != before
