"""A stage whose attempt has come to its end: what was deleted is written down, and the links go."""

import contextlib
import os
from pathlib import Path

from launcher.staging.links import gone_of, is_ours, read_links, write_links
from launcher.staging.stages import RUN, VIEW, Stage, stage_of, tidy
from launcher.system.paths import Attempt


def hand_over(attempt: Attempt, run_folder: Path) -> bool:
    """Leave what an attempt has made for its scheduler to accept; where that is nothing, no stage is left.

    Returns whether a stage is left.

    Raises:
        OSError: the disk is full.
    """
    stage = stage_of(attempt, run_folder)
    if stage is None:
        return False
    if seal(stage) or not _removed(stage):
        return True
    with contextlib.suppress(FileNotFoundError):
        os.unlink(attempt.text(VIEW))  # noqa: PTH108  # done for every attempt
    return False


def seal(stage: Stage) -> bool:
    """Leave in a stage what its attempt has made, and nothing else; return whether that is anything.

    Doing it again changes nothing.

    Raises:
        OSError: the disk is full.
    """
    links = read_links(stage)
    if links.links or links.folders:
        if not links.sealed:  # before any link goes: they are the evidence
            links.gone = gone_of(stage, links)
            links.gone_folders = [
                name
                for name in links.folders
                if not os.path.lexists(f"{stage.new}/{name}")  # many names
            ]
            links.sealed = True
            write_links(stage, links)
        for name in links.links:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                if is_ours(stage, name):
                    os.unlink(f"{stage.new}/{name}")  # noqa: PTH108  # likewise
        for name in reversed(links.folders):
            with contextlib.suppress(OSError):  # it holds something
                os.rmdir(f"{stage.new}/{name}")  # noqa: PTH106  # likewise
    if links.gone or links.gone_folders:
        return True
    try:
        os.rmdir(stage.new)  # noqa: PTH106  # done for every attempt
    except FileNotFoundError:
        return False
    except OSError:  # it holds something
        return True
    return False


def _removed(stage: Stage) -> bool:
    """Remove a stage in which nothing is; return whether that was possible."""
    with contextlib.suppress(OSError):
        for file in (stage.record, f"{stage.folder}/{RUN}"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file)  # noqa: PTH108  # likewise
        os.rmdir(stage.folder)  # noqa: PTH106  # likewise
        tidy(stage)
        return True
    return False
