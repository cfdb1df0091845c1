"""Images and a folder for a store."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trueface.conftest import Tree
from tests.trueface.features.build import Counted, body, read, written
from trueface.data.index import Image
from trueface.data.loading.image_set import ImageLoader


@pytest.fixture
def images(tree: Tree) -> tuple[Image, ...]:
    return written(tree)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "features"


@pytest.fixture
def passes(folder: Path) -> Callable[..., int]:
    """Return a function that counts the images that a new process passes through a backbone."""

    def count(feed: ImageLoader, view: int = 0, counted: Counted | None = None) -> int:
        counted = counted or body()
        read(folder, counted, feed, view)
        return counted.seen

    return count
