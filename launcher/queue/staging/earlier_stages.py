"""Staging folders of failed attempts: taken from them, kept for the next attempt, removed after it."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from launcher.queue.home.paths import Attempt, Home
from launcher.queue.staging.stages import (
    LEFT_SUFFIX,
    MAKING_SUFFIX,
    MOVED_LINK,
    VIEW_LINK,
    StagingFolder,
    all_names,
    remove_stages_folder,
    stage_of,
)


def take_earlier_stage(home: Home, job: int, attempt_number: int, run_folder: Path) -> str:
    """Take the staging folders from earlier attempts. Return the one from which the next attempt continues.

    After this call no process of the earlier attempts can change the contents. Call it when all of
    them have ended, or were abandoned.

    Args:
        home: the queue folder.
        job: its number.
        attempt_number: number of the next attempt.
        run_folder: run folder of the job.

    Returns the name of a staging folder, or "" if there is none.
    """
    for stage in _earlier_stages(home, job, attempt_number, run_folder):
        with contextlib.suppress(OSError):  # the next attempt tries again, and fails
            if not detach_stage(stage):
                # not begun, empty, or accepted, and then those before it are gone
                shutil.rmtree(stage.with_suffix(MAKING_SUFFIX).folder, ignore_errors=True)
                continue
        return stage.name
    return ""


def detach_stage(stage: StagingFolder) -> bool:
    """Take a staging folder from its attempt. Return False if there is none.

    Raises:
        OSError: that is not possible now.
    """
    left = stage.with_suffix(LEFT_SUFFIX)
    try:
        os.rename(stage.folder, left.folder)  # noqa: PTH104  # as in the rest of this package
    except FileNotFoundError:
        return os.path.isdir(left.folder)  # noqa: PTH112  # likewise
    return True


def find_unaccepted_output(attempt: Attempt, run_folder: Path) -> str:
    """Return the folder of an attempt's outputs that were not accepted, or "" if there are none."""
    stage = stage_of(attempt, run_folder)
    for named in () if stage is None else all_names(stage):
        with contextlib.suppress(FileNotFoundError):
            if os.listdir(named.output_folder):  # noqa: PTH208  # likewise
                return named.output_folder
    return ""


def remove_earlier_stages(home: Home, job: int, attempt_number: int, run_folder: Path) -> None:
    """Remove the staging folders of the attempts before an accepted one."""
    for stage in _earlier_stages(home, job, attempt_number, run_folder):
        remove_stage(stage)


def remove_attempt_stage(attempt: Attempt, run_folder: Path) -> None:
    """Remove the staging folder of an attempt that is deleted from the queue."""
    for view in (VIEW_LINK, MOVED_LINK):
        stage = stage_of(attempt, run_folder, view)
        if stage is not None:
            remove_stage(stage)


def remove_stage(stage: StagingFolder) -> None:
    """Remove a staging folder with its contents, under all its names. Entries that cannot be removed stay."""
    for named in all_names(stage):
        shutil.rmtree(named.folder, ignore_errors=True)
    remove_stages_folder(stage)


def _earlier_stages(
    home: Home, job: int, attempt_number: int, run_folder: Path
) -> Iterator[StagingFolder]:
    for before in range(attempt_number - 1, 0, -1):
        stage = stage_of(home.attempt(job, before), run_folder)
        if stage is not None:
            yield stage
