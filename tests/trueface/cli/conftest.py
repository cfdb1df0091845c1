"""Fixtures of several commands."""

from pathlib import Path

import pytest

from tests.trueface.commands import Command
from tests.trueface.conftest import write_images
from trueface.cli import main
from trueface.data.splits.split_files import write_splits

METHODS = ("Fake/StyleGAN2", "Real/FFHQ")


@pytest.fixture
def predict(capsys: pytest.CaptureFixture[str]) -> Command:
    """`trueface predict` on the CPU."""
    return Command(capsys, lambda words: main.run(["predict", *words, "--device", "cpu"]))


def write_classic(folder: Path, lists: dict[str, range]) -> None:
    """Write images of two folders, and lists of their numbers."""
    count = lists["test"].stop
    images = (f"PreSocial/{method}/{n:05d}.png" for method in METHODS for n in range(count))
    write_images(folder / "data", images)
    names = [method.partition("/")[2] for method in METHODS]
    splits = {
        name: [f"{method}/{n:05d}" for method in names for n in numbers]
        for name, numbers in lists.items()
    }
    write_splits(folder / "splits", splits)
