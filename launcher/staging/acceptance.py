"""What an accepted attempt has made is moved into its run's folder: decided in one step, then rolled forward.

The decision is the rename of the stage. From then on its attempt reaches it no more, and every further
step can be done again: who is killed between two of them, or finds a full disk, calls `accept` another time.

A stage whose attempt has come to its end: what was deleted is written down, and the links go.
"""

import contextlib
import errno
import os
import shutil
from pathlib import Path

from launcher.staging.stage_links import find_deleted, is_own_link, read_links, write_links
from launcher.staging.stages import (
    ACCEPTED_LINK,
    ACCEPTED_SUFFIX,
    MOVED_LINK,
    VIEW_LINK,
    StagingFolder,
    remove_stages_folder,
    stage_of,
)
from launcher.system.files import sync
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
    if seal(stage) or not _remove_empty(stage):
        return True
    with contextlib.suppress(FileNotFoundError):
        os.unlink(attempt.path_text(VIEW_LINK))  # noqa: PTH108  # done for every attempt
    return False


def seal(stage: StagingFolder) -> bool:
    """Leave in a stage what its attempt has made, and nothing else; return whether that is anything.

    Doing it again changes nothing.

    Raises:
        OSError: the disk is full.
    """
    links = read_links(stage)
    if links.links or links.folders:
        if not links.sealed:  # before any link goes: they are the evidence
            links.gone = find_deleted(stage, links)
            links.gone_folders = [
                name
                for name in links.folders
                if not os.path.lexists(f"{stage.output_folder}/{name}")  # many names
            ]
            links.sealed = True
            write_links(stage, links)
        for name in links.links:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                if is_own_link(stage, name):
                    os.unlink(f"{stage.output_folder}/{name}")  # noqa: PTH108  # likewise
        for name in reversed(links.folders):
            with contextlib.suppress(OSError):  # it holds something
                os.rmdir(f"{stage.output_folder}/{name}")  # noqa: PTH106  # likewise
    if links.gone or links.gone_folders:
        return True
    try:
        os.rmdir(stage.output_folder)  # noqa: PTH106  # done for every attempt
    except FileNotFoundError:
        return False
    except OSError:  # it holds something
        return True
    return False


def _remove_empty(stage: StagingFolder) -> bool:
    """Remove a stage in which nothing is; return whether that was possible."""
    with contextlib.suppress(OSError):
        for file in (stage.links_record, f"{stage.folder}/{ACCEPTED_LINK}"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file)  # noqa: PTH108  # likewise
        os.rmdir(stage.folder)  # noqa: PTH106  # likewise
        remove_stages_folder(stage)
        return True
    return False


_OBSTACLE_ERRORS = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
_REPLACED = "replaced-"  # in the stage: what made place, until it is removed


def accept(attempt: Attempt, run_folder: Path) -> None:
    """Move what an attempt has made into the folder of its run.

    Args:
        attempt: that is done.
        run_folder: of its job, as it is called here.

    Raises:
        FileNotFoundError: its stage cannot be seen; where another machine has made it, that may pass.
        OSError: that is not possible now; what is not moved yet lies in the stage.
    """
    stage, view = stage_of(attempt, run_folder), attempt.path_text(VIEW_LINK)
    if stage is not None:
        _accept_stage(stage.with_suffix(ACCEPTED_SUFFIX), stage)
        os.rename(view, attempt.path_text(MOVED_LINK))  # noqa: PTH104  # done for every attempt
    else:  # it has made nothing; or it was moved, and who did it may have been killed then
        stage = stage_of(attempt, run_folder, MOVED_LINK)
    if stage is not None:
        shutil.rmtree(stage.with_suffix(ACCEPTED_SUFFIX).folder, ignore_errors=True)
        remove_stages_folder(stage)


def undo_acceptance(attempt: Attempt, run_folder: Path) -> None:
    """Leave to the next attempt what could not be moved, as what an attempt has left that did not end well."""
    with contextlib.suppress(OSError):
        stage = stage_of(attempt, run_folder)
        if stage is not None:
            os.rename(stage.with_suffix(ACCEPTED_SUFFIX).folder, stage.folder)  # noqa: PTH104  # done seldom


def is_staged(attempt: Attempt, run_folder: Path) -> bool:
    """Tell whether an attempt is seen to have, or to have had, a stage.

    Raises:
        OSError: that cannot be found out now.
    """
    views = (VIEW_LINK, MOVED_LINK)
    return any(stage_of(attempt, run_folder, view) is not None for view in views)


def _accept_stage(accepted: StagingFolder, stage: StagingFolder) -> None:
    try:
        os.rename(stage.folder, accepted.folder)  # noqa: PTH104  # done for every attempt
    except FileNotFoundError:
        if not os.path.isdir(accepted.folder):  # noqa: PTH112  # likewise
            raise
    seal(accepted)
    _apply_deletions(accepted)
    try:
        os.stat(accepted.output_folder)  # noqa: PTH116  # likewise
    except FileNotFoundError:  # all was moved before
        return
    _move(accepted, "", {*read_links(accepted).replaced})
    # refused where a network file system has not listed all that lies there: the rest is moved later
    os.rmdir(accepted.output_folder)  # noqa: PTH106  # likewise


def _apply_deletions(stage: StagingFolder) -> None:
    """Delete of what was accepted before what the attempt has deleted in its view."""
    links = read_links(stage)
    for name in links.gone:
        path = f"{stage.run_folder}/{name}"
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            try:
                os.unlink(path)  # noqa: PTH108  # likewise
            except IsADirectoryError:
                shutil.rmtree(path)
    for name in reversed(links.gone_folders):
        with contextlib.suppress(OSError):  # another job has put something into it
            os.rmdir(f"{stage.run_folder}/{name}")  # noqa: PTH106  # likewise


def _move(stage: StagingFolder, within: str, replaced: set[str]) -> None:
    """Move what a folder of a stage holds to where it belongs; folders that are new there go as one."""
    with os.scandir(f"{stage.output_folder}/{within}") as entries:
        listed = [*entries]
    for entry in listed:
        name = f"{within}{entry.name}"
        place = f"{stage.run_folder}/{name}"
        if entry.is_symlink() and is_own_link(
            stage, name
        ):  # its record was lost, as in a power cut
            os.unlink(entry.path)  # noqa: PTH108  # likewise
            continue
        is_folder = entry.is_dir(follow_symlinks=False)
        if is_folder and name in replaced and os.path.isdir(place):  # noqa: PTH112  # likewise
            _move_obstacle_aside(stage, place)
        try:
            os.rename(entry.path, place)  # noqa: PTH104  # likewise
        except OSError as error:
            if is_folder and os.path.isdir(place):  # noqa: PTH112  # likewise
                _move(stage, f"{name}/", replaced)
                os.rmdir(entry.path)  # noqa: PTH106  # likewise
            elif error.errno == errno.EXDEV:
                _copy(entry.path, place)
            elif error.errno in _OBSTACLE_ERRORS:
                _move_obstacle_aside(stage, place)
                os.rename(entry.path, place)  # noqa: PTH104  # likewise
            else:
                raise
    if listed:
        sync(f"{stage.run_folder}/{within}")


def _move_obstacle_aside(stage: StagingFolder, place: str) -> None:
    """Move what lies at a place aside; it is removed with the stage."""
    aside = f"{stage.folder}/{_REPLACED}{os.urandom(4).hex()}"
    try:
        os.rename(place, aside)  # noqa: PTH104  # likewise
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.rmtree(place)


def _copy(path: str, place: str) -> None:
    """Move what cannot be renamed, as it comes from another file system; at its place it appears whole."""
    half = f"{os.path.dirname(place)}/.{os.urandom(8).hex()}.tmp"  # noqa: PTH120  # likewise
    try:
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114  # likewise
            shutil.copytree(path, half, symlinks=True)
            os.rename(half, place)  # noqa: PTH104  # likewise
            shutil.rmtree(path)
        else:
            shutil.copy2(path, half, follow_symlinks=False)
            os.replace(half, place)  # noqa: PTH105  # likewise
            os.unlink(path)  # noqa: PTH108  # likewise
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.unlink(half)  # noqa: PTH108  # likewise
        raise
