"""Training images as unlearning methods read them."""

import os
from pathlib import Path

import pytest

from tests.trueface.conftest import Tree
from trueface.data.examples import ExampleSource
from trueface.data.index import Image
from trueface.data.loading.image_loaders import eval_loader, train_loader
from trueface.unlearning.image_source import pixel_source
from trueface.unlearning.settings import UnlearningSettings

COUNT = 4


@pytest.fixture
def images(tree: Tree) -> tuple[Image, ...]:
    root = tree([f"PreSocial/Real/FFHQ/{number:05}.png" for number in range(COUNT)])
    paths = sorted(root.rglob("*.png"))
    return tuple(Image(str(path), f"FFHQ/{path.stem}", 0, "FFHQ", "pre") for path in paths)


def pixels(images: tuple[Image, ...]) -> ExampleSource:
    settings = UnlearningSettings(
        data_root="data", split_path="splits", method="relabel", model="slim18", weights="none",
        resize_size=12, flip_prob=0,
    )  # fmt: skip
    return pixel_source(train_loader(images, settings), eval_loader(images, settings), settings)


def test_same_files_in_the_same_order_have_the_same_identity(images: tuple[Image, ...]) -> None:
    assert pixels(images).identity == pixels(images).identity
    assert pixels(images).identity != pixels(images[::-1]).identity


def test_another_image_of_the_same_name_size_and_mtime_changes_the_identity(
    images: tuple[Image, ...],
) -> None:
    before, file = pixels(images).identity, Path(images[0].file)
    status, content = file.stat(), file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert pixels(images).identity != before
