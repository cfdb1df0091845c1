"""The translator: its networks, labels, and weight files, of which only those with published names are accepted."""

from collections import OrderedDict
from pathlib import Path

import PIL.Image
import pytest
import torch
from torch import Tensor

from tests.trueface.generators.translation.build import a_translator, portraits
from trueface.generators.drawn_set import attributes_of
from trueface.generators.made_folders import image_names
from trueface.generators.translation.settings import critic_layers
from trueface.generators.translation.translator import (
    Generator,
    GeneratorShape,
    build_generator,
    flip_each_attribute,
    labels_of,
    load_foreign,
    load_translator,
    refuse_shared,
)
from trueface.runtime.errors import CheckpointError, DataError, JobError

SHAPE = GeneratorShape(5, width=8, blocks=2)


def authors(**more: Tensor) -> "OrderedDict[str, Tensor]":
    """Return a state dict as the authors' program writes it: with running statistics."""
    state = OrderedDict(build_generator(SHAPE, seed=3).state_dict())
    for name in [name for name in state if name.endswith(".bias")]:
        prefix = name.removesuffix("bias")
        state[f"{prefix}running_mean"] = torch.zeros_like(state[name])
        state[f"{prefix}running_var"] = torch.ones_like(state[name])
    return OrderedDict(state | more)


def test_shape_is_read_from_published_weights(tmp_path: Path) -> None:
    path = tmp_path / "200000-G.ckpt"
    torch.save(authors(), path)
    generator = load_foreign(path, 5)
    assert generator.shape == SHAPE
    images, labels = torch.rand(1, 3, 16, 16), torch.ones(1, 5)
    assert torch.equal(generator(images, labels), build_generator(SHAPE, seed=3)(images, labels))


@pytest.mark.parametrize(
    ("more", "labels", "reason"),
    [
        ({}, 3, r"with 5 labels \(c_dim\), but 3 are set"),
        ({"main.99.weight": torch.zeros(1)}, 5, r"with 2 blocks: unknown main\.99\.weight"),
        (
            {"main.1.weight": torch.zeros(7)},
            5,
            r"main\.1\.weight has the shape \[7\], .* has \[8\]",
        ),
        ({"main.0.weight": torch.zeros(8, 3)}, 5, "is not a StarGAN generator"),
    ],
)
def test_unsuitable_weights_are_rejected_with_a_reason(
    tmp_path: Path, more: dict[str, Tensor], labels: int, reason: str
) -> None:
    torch.save(authors(**more), tmp_path / "G.ckpt")
    with pytest.raises(CheckpointError, match=reason):
        load_foreign(tmp_path / "G.ckpt", labels)


def test_code_in_weight_files_is_not_executed(tmp_path: Path) -> None:
    torch.save({"main.0.weight": Path("anything")}, tmp_path / "G.ckpt")
    with pytest.raises(CheckpointError, match="read safely") as caught:
        load_foreign(tmp_path / "G.ckpt", 5)
    assert str(caught.value).endswith(". Give a state dict of StarGAN's generator.")


def test_file_without_translator_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Train it first"):
        load_translator(tmp_path / "absent.pt")
    torch.save({"schema": 1, "arch": "slim"}, tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match="is not a translator"):
        load_translator(tmp_path / "best.pt")
    torch.save({"schema": 1, "kind": "translator", "labels": ["a"]}, tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match="damaged translator"):
        load_translator(tmp_path / "best.pt")


def test_labels_are_found_by_image_name(tmp_path: Path) -> None:
    root = portraits(tmp_path) / "A"
    names = image_names(root)[::-1]
    attributes, labels = labels_of(root, names, ("warm_skin", "dark_hair"))
    assert attributes == ("warm_skin", "dark_hair")
    for name, row in zip(names, labels.tolist(), strict=True):
        holds = attributes_of(name.removesuffix(".png"), 42)
        assert row == [float(holds["warm_skin"]), float(holds["dark_hair"])]


def test_each_attribute_is_flipped_separately() -> None:
    labels = torch.tensor([[1.0, 0, 1]])
    assert flip_each_attribute(labels, ("a", "b", "c")).tolist() == [
        [[0, 0, 1]],
        [[1, 1, 1]],
        [[1, 0, 0]],
    ]
    assert labels.tolist() == [[1, 0, 1]]


def test_face_has_one_hair_colour() -> None:
    names = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young")
    labels = torch.tensor([[1.0, 0, 0, 1, 0]])
    assert flip_each_attribute(labels, names)[:, 0].tolist() == [
        [1, 0, 0, 1, 0],  # black already
        [0, 1, 0, 1, 0],
        [0, 0, 1, 1, 0],
        [1, 0, 0, 0, 0],
        [1, 0, 0, 1, 1],
    ]


def test_image_in_two_folders_raises_error_that_names_it(tmp_path: Path) -> None:
    root = portraits(tmp_path)
    refuse_shared(root)
    twice = image_names(root / "A")[0]
    PIL.Image.new("RGB", (32, 32)).save(root / "C" / twice.replace(".png", ".jpg"))
    with pytest.raises(DataError, match=rf"{twice.removesuffix('.png')}\.jpg in A and C"):
        refuse_shared(root)


def test_full_generator_has_published_parameter_names_and_shapes() -> None:
    state = Generator(GeneratorShape(5)).state_dict()
    assert state["main.0.weight"].shape == (64, 8, 7, 7)
    assert state["main.6.weight"].shape == (256, 128, 4, 4)
    blocks = [f"main.{number}.main.0.weight" for number in range(9, 15)]
    assert all(state[name].shape == (256, 256, 3, 3) for name in blocks)
    assert state["main.15.weight"].shape == (256, 128, 4, 4)
    assert state["main.18.weight"].shape == (128, 64, 4, 4)
    assert state["main.21.weight"].shape == (3, 64, 7, 7)
    assert sum(tensor.numel() for tensor in state.values()) == 8_430_528


@pytest.mark.parametrize(("size", "layers"), [(128, 6), (32, 4), (24, 3), (256, 6), (20, 2)])
def test_critic_halves_size_down_to_two_pixels_at_most_six_times(size: int, layers: int) -> None:
    assert critic_layers(size) == layers


def test_translated_images_stay_in_range_and_depend_on_labels() -> None:
    translator = a_translator()
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    none = translator(images, torch.zeros(2, 3))
    every = translator(images, torch.ones(2, 3))
    assert none.shape == images.shape
    assert none.abs().max() <= 1
    assert not torch.equal(none, every)


def test_attack_has_gradients_of_images_but_not_of_weights() -> None:
    translator = a_translator()
    images = torch.zeros(1, 3, 32, 32, requires_grad=True)
    translator(images, torch.ones(1, 3)).square().sum().backward()  # type: ignore[no-untyped-call]  # torch's stub
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in translator.generator.parameters())


@pytest.mark.parametrize(
    ("images", "targets", "reason"),
    [
        ((2, 1, 32, 32), (2, 3), "2×1×32×32, but a translator takes N×3×H×W"),
        ((2, 3, 30, 32), (2, 3), "32x30 pixels, but a translator takes only multiples of 4"),
        (
            (2, 3, 32, 32),
            (2, 5),
            "2×5, expected 2×3 .images × dark_hair, light_background, warm_skin.",
        ),
        ((2, 3, 32, 32), (3, 3), "targets have the shape 3×3, expected 2×3"),
    ],
)
def test_images_and_labels_of_wrong_shape_are_rejected(
    images: tuple[int, ...], targets: tuple[int, ...], reason: str
) -> None:
    with pytest.raises(JobError, match=reason):
        a_translator()(torch.zeros(images), torch.zeros(targets))
