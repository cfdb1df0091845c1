"""Stages of attempts that did not end well: taken from them, kept for the next attempt, removed after it."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from launcher.staging.stages import LEFT, MAKING, MOVED, VIEW, Stage, names_of, stage_of, tidy
from launcher.system.paths import Attempt, Home


def take_left(home: Home, job: int, number: int, run_folder: Path) -> str:
    """Take their stages from the attempts before the next one; return from which of them that one goes on.

    After this call no process of theirs can change what it will find. To be called when all of
    them have ended, or were given up.

    Args:
        home: the queue's.
        job: its number.
        number: of the next attempt.
        run_folder: of the job.

    Returns the name of a stage; "" where there is none.
    """
    for stage in _earlier(home, job, number, run_folder):
        with contextlib.suppress(OSError):  # its next attempt tries it again, and fails
            if not take(stage):
                # not begun, empty, or accepted, and then those before it are gone
                shutil.rmtree(stage.named(MAKING).folder, ignore_errors=True)
                continue
        return stage.name
    return ""


def take(stage: Stage) -> bool:
    """Take a stage from its attempt; return False where there is none.

    Raises:
        OSError: that is not possible now.
    """
    left = stage.named(LEFT)
    try:
        os.rename(stage.folder, left.folder)  # noqa: PTH104  # as in the rest of this package
    except FileNotFoundError:
        return os.path.isdir(left.folder)  # noqa: PTH112  # likewise
    return True


def left_by(attempt: Attempt, run_folder: Path) -> str:
    """Return where it lies what an attempt has made and nobody has accepted; "" where there is nothing."""
    stage = stage_of(attempt, run_folder)
    for named in () if stage is None else names_of(stage):
        with contextlib.suppress(FileNotFoundError):
            if os.listdir(named.new):  # noqa: PTH208  # likewise
                return named.new
    return ""


def remove_earlier(home: Home, job: int, number: int, run_folder: Path) -> None:
    """Remove the stages of the attempts before one that is accepted."""
    for stage in _earlier(home, job, number, run_folder):
        remove(stage)


def remove_of(attempt: Attempt, run_folder: Path) -> None:
    """Remove the stage of an attempt that is to be forgotten."""
    for view in (VIEW, MOVED):
        stage = stage_of(attempt, run_folder, view)
        if stage is not None:
            remove(stage)


def remove(stage: Stage) -> None:
    """Remove a stage under all its names, with all that is in it; what cannot be removed stays."""
    for named in names_of(stage):
        shutil.rmtree(named.folder, ignore_errors=True)
    tidy(stage)


def _earlier(home: Home, job: int, number: int, run_folder: Path) -> Iterator[Stage]:
    for before in range(number - 1, 0, -1):
        stage = stage_of(home.attempt(job, before), run_folder)
        if stage is not None:
            yield stage
