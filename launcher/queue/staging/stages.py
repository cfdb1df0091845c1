"""Paths of staging folders, and the link from an attempt's folder to its own.

`runs/<run>/.attempts/<job>-<number>-<random>/` is a staging folder, on the file system of the results.
`<run>/` in it contains the outputs of the attempt, with the layout of the run's folder.
`.accepted` in it is a link to the run's folder.
`.links.json` in it lists the names that are links to earlier accepted outputs. It is absent if there are none.
`<attempt>/runs` is a link to the staging folder: the only path to it that a job gets.

The suffix of a staging folder shows its state. Each change of state is a single rename.

`<name>.making`: its worker builds it.
`<name>`: its attempt runs.
`<name>.left`: its attempt was abandoned or failed. The next attempt continues from it.
`<name>.accepted`: its outcome is accepted. Its contents belong into the run's folder.

The link in the attempt's folder always points to `<name>`. It is broken as soon as the staging folder has another
name, so a process that wakes later cannot write through it. After all outputs were moved, the link gets another
name. An attempt without outputs removes it: if the link exists, there is a staging folder.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from launcher.queue.home.paths import Attempt
from launcher.system.lazy_regex import compile_lazily

STAGES_FOLDER = ".attempts"  # in a run's folder
ACCEPTED_LINK, LINKS_RECORD = ".accepted", ".links.json"  # in a staging folder
VIEW_LINK = "runs"  # in an attempt's folder
MOVED_LINK = "runs.moved"  # the link's name when all outputs are in the run's folder
MAKING_SUFFIX, LEFT_SUFFIX, ACCEPTED_SUFFIX = ".making", ".left", ".accepted"
_NAME = compile_lazily(r"\d{1,12}-\d{1,12}-[0-9a-f]{8}")


class StagingFolder(NamedTuple):
    """A staging folder under one of its names. It may not exist."""

    run_folder: Path  # folder of the accepted outputs
    name: str
    suffix: str = ""

    @property
    def folder(self) -> str:
        """Its path; a text, as this is done for every attempt and a Path costs 10 µs."""
        return f"{self.run_folder}/{STAGES_FOLDER}/{self.name}{self.suffix}"

    @property
    def output_folder(self) -> str:
        """The folder into which its attempt writes."""
        return f"{self.folder}/{self.run_folder.name}"

    @property
    def links_record(self) -> str:
        """The record of its links."""
        return f"{self.folder}/{LINKS_RECORD}"

    def with_suffix(self, suffix: str) -> "StagingFolder":
        """Return the same staging folder under another of its names."""
        return self._replace(suffix=suffix)


def new_stage(run_folder: Path, job: int, attempt_number: int) -> StagingFolder:
    """Return a staging folder with a unique name: queue folders that share a project use the same job numbers."""
    return StagingFolder(run_folder, f"{job}-{attempt_number}-{os.urandom(4).hex()}")


def stage_of(attempt: Attempt, run_folder: Path, view: str = VIEW_LINK) -> StagingFolder | None:
    """Return the staging folder of an attempt, under the name that it has while the attempt runs.

    Args:
        attempt: attempt of any node that shares the folder.
        run_folder: the run's folder, by its path on this machine.
        view: the name of the link.

    Returns None if it has none.

    Raises:
        OSError: that cannot be found out now.
    """
    try:
        target = os.readlink(attempt.path_text(view))  # noqa: PTH115  # done for every attempt
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:  # the path is not a link
            return None
        raise
    above, name = ["", *target.split("/")][-2:]
    if above != STAGES_FOLDER or not _NAME.fullmatch(name):
        return None
    return StagingFolder(run_folder, name)


def all_names(stage: StagingFolder) -> Iterator[StagingFolder]:
    """Yield a staging folder under all its names."""
    for suffix in ("", LEFT_SUFFIX, ACCEPTED_SUFFIX, MAKING_SUFFIX):
        yield stage.with_suffix(suffix)


def remove_stages_folder(stage: StagingFolder) -> None:
    """Remove the folder of a run's staging folders if it is empty."""
    with contextlib.suppress(OSError):
        os.rmdir(f"{stage.run_folder}/{STAGES_FOLDER}")  # noqa: PTH106  # done for every attempt
