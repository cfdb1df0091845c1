"""Where stages lie, and how an attempt's folder names its own.

runs/<run>/.attempts/<job>-<number>-<random>/   a stage, on the file system of the results
    <run>/          what the attempt makes, laid out as the run's folder
    .accepted       a link to the run's folder
    .links.json     which names in it are links to what was accepted before; absent where none are
<attempt>/runs      a link to the stage: the only way in that a job is given

The name of a stage tells how far it is; each change is a single rename:

<name>.making     its worker builds it
<name>            its attempt runs
<name>.left       its attempt was given up, or did not end well: the next one goes on from it
<name>.accepted   its outcome is accepted: what it holds belongs into the run's folder

The link in the attempt's folder always means the first of these names. So it leads nowhere as soon as the
stage has another one, and a process that wakes later can write nothing through it. When all is moved the
link gets another name, and an attempt that has made nothing removes it: where it is, there is a stage.
"""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from launcher.system.paths import Attempt

STAGES_FOLDER = ".attempts"  # in a run's folder
ACCEPTED_LINK, LINKS_RECORD = ".accepted", ".links.json"  # in a stage
VIEW_LINK = "runs"  # in an attempt's folder
MOVED_LINK = "runs.moved"  # what the link is called when all is in the run's folder
MAKING_SUFFIX, LEFT_SUFFIX, ACCEPTED_SUFFIX = ".making", ".left", ".accepted"
_NAME = re.compile(r"\d{1,12}-\d{1,12}-[0-9a-f]{8}")


class StagingFolder(NamedTuple):
    """A stage under one of its names; nothing says that it is there."""

    run_folder: Path  # of what was accepted
    name: str
    suffix: str = ""

    @property
    def folder(self) -> str:
        """Its path; a text, as this is done for every attempt and a Path costs 10 µs."""
        return f"{self.run_folder}/{STAGES_FOLDER}/{self.name}{self.suffix}"

    @property
    def output_folder(self) -> str:
        """Where its attempt writes."""
        return f"{self.folder}/{self.run_folder.name}"

    @property
    def links_record(self) -> str:
        """The record of its links."""
        return f"{self.folder}/{LINKS_RECORD}"

    def with_suffix(self, suffix: str) -> "StagingFolder":
        """Return the same stage under another of its names."""
        return self._replace(suffix=suffix)


def new_stage(run_folder: Path, job: int, number: int) -> StagingFolder:
    """Return a stage that no other attempt has: homes that share a project count alike."""
    return StagingFolder(run_folder, f"{job}-{number}-{os.urandom(4).hex()}")


def stage_of(attempt: Attempt, run_folder: Path, view: str = VIEW_LINK) -> StagingFolder | None:
    """Return the stage that an attempt was given, under the name that it has while the attempt runs.

    Args:
        attempt: of any node that shares the folder.
        run_folder: as it is called here.
        view: the name of the link.

    Returns None where it was given none.

    Raises:
        OSError: that cannot be found out now.
    """
    try:
        target = os.readlink(attempt.path_text(view))  # noqa: PTH115  # done for every attempt
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:  # it is no link
            return None
        raise
    above, name = ["", *target.split("/")][-2:]
    if above != STAGES_FOLDER or not _NAME.fullmatch(name):
        return None
    return StagingFolder(run_folder, name)


def all_names(stage: StagingFolder) -> Iterator[StagingFolder]:
    """Return a stage under all its names."""
    for suffix in ("", LEFT_SUFFIX, ACCEPTED_SUFFIX, MAKING_SUFFIX):
        yield stage.with_suffix(suffix)


def remove_stages_folder(stage: StagingFolder) -> None:
    """Remove the folder of a run's stages, where none is left."""
    with contextlib.suppress(OSError):
        os.rmdir(f"{stage.run_folder}/{STAGES_FOLDER}")  # noqa: PTH106  # done for every attempt
