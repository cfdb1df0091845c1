"""Images and a folder for a store."""

from pathlib import Path

import pytest

from tests.trueface.conftest import Tree
from tests.trueface.features.build import written
from trueface.data.index import Image


@pytest.fixture
def images(tree: Tree) -> tuple[Image, ...]:
    return written(tree)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "features"
