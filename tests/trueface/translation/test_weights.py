"""Files of weights: what is written is read, the authors' names fit, anything else is refused."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.trueface.translation.build import a_translator
from trueface.runtime.errors import CheckpointError
from trueface.translation.translator import (
    GeneratorShape,
    build_generator,
    load_foreign,
    load_translator,
    save_translator,
)

SHAPE = GeneratorShape(5, width=8, blocks=2)


def authors(**more: Tensor) -> "OrderedDict[str, Tensor]":
    """Return a state dict as the authors' program writes it: with running statistics."""
    state = OrderedDict(build_generator(SHAPE, seed=3).state_dict())
    for name in [name for name in state if name.endswith(".bias")]:
        prefix = name.removesuffix("bias")
        state[f"{prefix}running_mean"] = torch.zeros_like(state[name])
        state[f"{prefix}running_var"] = torch.ones_like(state[name])
    return OrderedDict(state | more)


def test_a_translator_that_is_read_translates_alike(tmp_path: Path) -> None:
    translator = a_translator()
    save_translator(tmp_path / "best.pt", translator, {"seed": 1})
    again = load_translator(tmp_path / "best.pt")
    images, targets = torch.rand(2, 3, 32, 32), torch.ones(2, 3)
    assert again.labels == translator.labels
    assert again.size == translator.size
    assert torch.equal(again(images, targets), translator(images, targets))


def test_the_authors_weights_tell_their_shape(tmp_path: Path) -> None:
    path = tmp_path / "200000-G.ckpt"
    torch.save(authors(), path)
    generator = load_foreign(path, 5)
    assert generator.shape == SHAPE
    images, labels = torch.rand(1, 3, 16, 16), torch.ones(1, 5)
    assert torch.equal(generator(images, labels), build_generator(SHAPE, seed=3)(images, labels))


@pytest.mark.parametrize(
    ("more", "labels", "reason"),
    [
        ({}, 3, r"of 5 labels \(c_dim\), and 3 are named"),
        ({"main.99.weight": torch.zeros(1)}, 5, r"with 2 blocks: unknown main\.99\.weight"),
        ({"main.1.weight": torch.zeros(7)}, 5, r"main\.1\.weight is \[7\], .* has \[8\]"),
        ({"main.0.weight": torch.zeros(8, 3)}, 5, "is no generator of StarGAN"),
    ],
)
def test_other_weights_are_refused_with_what_is_wrong(
    tmp_path: Path, more: dict[str, Tensor], labels: int, reason: str
) -> None:
    torch.save(authors(**more), tmp_path / "G.ckpt")
    with pytest.raises(CheckpointError, match=reason):
        load_foreign(tmp_path / "G.ckpt", labels)


def test_weights_with_code_in_them_are_not_executed(tmp_path: Path) -> None:
    torch.save({"main.0.weight": Path("anything")}, tmp_path / "G.ckpt")
    with pytest.raises(CheckpointError, match="read safely") as caught:
        load_foreign(tmp_path / "G.ckpt", 5)
    assert str(caught.value).endswith("; give a state dict of StarGAN's generator")


def test_a_file_that_is_no_translator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="train it first"):
        load_translator(tmp_path / "absent.pt")
    torch.save({"schema": 1, "arch": "slim"}, tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match="is no translator"):
        load_translator(tmp_path / "best.pt")
    torch.save({"schema": 1, "what": "translator", "labels": ["a"]}, tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match="broken translator"):
        load_translator(tmp_path / "best.pt")
