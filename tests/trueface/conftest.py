"""Small image trees in TrueFace's layout, created for each test."""

from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
import torch.utils.data

from tests.trueface.commands import Command
from trueface.models import checkpoint

Tree = Callable[[Iterable[str]], Path]
# Seconds that torch waits for each process of an abandoned loader, whose queues are gone when it is collected as
# garbage. With torch's 5 s, a later test waits, whichever happens to collect it.
torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.2
# each of hundreds of trainings would let git look at all files
checkpoint.git_commit = cache(checkpoint.git_commit)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin each test, and the fixtures that it shares, with one thread: a job sets its own number.

    Two threads that wait for each other on a busy core make a small training ten times slower.
    """
    torch.set_num_threads(1)


def write_images(root: Path, paths: Iterable[str], side: int = 12) -> Path:
    """Write a small image at each path below a data root."""
    root.mkdir(exist_ok=True)
    for number, path in enumerate(paths):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        grey = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
        PIL.Image.fromarray(grey).save(file)
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Return a function that writes a small image at each path below a data root."""
    return partial(write_images, tmp_path / "data")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Commands of trueface."""
    return Command(capsys)
