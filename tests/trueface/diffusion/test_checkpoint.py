"""Diffusers as files."""

from pathlib import Path

import pytest
import torch

from tests.trueface.diffusion.closed_forms import SIDE, drawn, small
from trueface.diffusion.diffuser import load_diffuser, read_diffuser, save_diffuser
from trueface.runtime import tensor_files
from trueface.runtime.errors import CheckpointError


def test_a_diffuser_comes_back_with_the_same_bits(tmp_path: Path) -> None:
    diffuser, path = small(prediction="v"), tmp_path / "a/best.pt"
    diffuser.t_max = 400
    save_diffuser(path, diffuser, {"seed": 3})
    kept = read_diffuser(path)
    back = kept.diffuser
    assert kept.provenance == {"seed": 3}
    assert (back.prediction, back.t_max, back.size, back.channels) == ("v", 400, SIDE, 1)
    assert (back.class_names, back.has_null) == (diffuser.class_names, True)
    assert torch.equal(back.schedule.alpha_bar, diffuser.schedule.alpha_bar)
    x, t = drawn(2, 1, SIDE, SIDE), torch.tensor([3, 400])
    named = torch.tensor([0, 3])
    assert torch.equal(back.eps(x, t, back.embed(named)), diffuser.eps(x, t, diffuser.embed(named)))
    assert not any(weight.requires_grad for weight in back.network.parameters())


def test_files_that_are_no_diffusers_are_errors_that_say_so(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    with pytest.raises(CheckpointError, match=r"no diffuser .*train it first"):
        load_diffuser(path)
    path.write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="cannot be read safely"):
        load_diffuser(path)
    tensor_files.save(path, {"schema": 1, "arch": "resnet18"})
    with pytest.raises(CheckpointError, match="a model of another kind of job"):
        load_diffuser(path)


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("schema", 9, "of schema 9"),
        ("t_max", "all", "its 't_max' is absent"),
        ("t_max", 2000, "t_max 2000"),
        ("state", {}, "weights do not fit"),
        ("network", {"network": "mlp"}, "broken diffuser"),
        ("schedule", {"name": "cosine"}, "no schedule 'cosine'"),
    ],
)
def test_a_part_that_is_wrong_is_named(tmp_path: Path, key: str, value: object, match: str) -> None:
    path = tmp_path / "best.pt"
    save_diffuser(path, small(), {})
    tensor_files.save(path, {**tensor_files.load(path), key: value})
    with pytest.raises(CheckpointError, match=match):
        load_diffuser(path)
