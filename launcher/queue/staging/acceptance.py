"""Outputs of an accepted attempt are moved into its run's folder: decided in one step, then rolled forward.

The decision is the rename of the staging folder. From then on its attempt cannot reach it, and every further step can
be repeated. After a kill between two steps, or on a full disk, `accept` is called again.

When an attempt has ended, its deletions are recorded, and the links in its staging folder are removed.
"""

import contextlib
import errno
import os
import shutil
from pathlib import Path

from launcher.queue.home.paths import Attempt, Home
from launcher.queue.staging.stage_links import (
    StagingLinks,
    find_deleted,
    is_own_link,
    read_links,
    write_links,
)
from launcher.queue.staging.stages import (
    ACCEPTED_LINK,
    ACCEPTED_SUFFIX,
    MOVED_LINK,
    VIEW_LINK,
    StagingFolder,
    remove_stages_folder,
    stage_of,
)
from launcher.system.files import sync


def hand_over(attempt: Attempt, run_folder: Path) -> bool:
    """Leave the outputs of an attempt for its scheduler to accept. Without outputs, remove the staging folder.

    Returns whether a staging folder is left.

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
    """Leave only the attempt's own outputs in a staging folder. Return whether there are outputs or deletions.

    A repeated call changes nothing.

    Raises:
        OSError: the disk is full.
    """
    links = read_links(stage)
    if links.links or links.folders:
        if not links.sealed:  # before any link is removed: missing links show deletions
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
            with contextlib.suppress(OSError):  # the folder holds something
                os.rmdir(f"{stage.output_folder}/{name}")  # noqa: PTH106  # likewise
    if links.gone or links.gone_folders:
        return True
    try:
        os.rmdir(stage.output_folder)  # noqa: PTH106  # done for every attempt
    except FileNotFoundError:
        return False
    except OSError:  # the folder holds something
        return True
    return False


def _remove_empty(stage: StagingFolder) -> bool:
    """Remove an empty staging folder. Return whether that was possible."""
    with contextlib.suppress(OSError):
        for file in (stage.links_record, f"{stage.folder}/{ACCEPTED_LINK}"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file)  # noqa: PTH108  # likewise
        os.rmdir(stage.folder)  # noqa: PTH106  # likewise
        remove_stages_folder(stage)
        return True
    return False


_OBSTACLE_ERRORS = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
_REPLACED = "replaced-"  # prefix in the staging folder of entries that were moved aside, until they are removed


def accept(attempt: Attempt, run_folder: Path, own_folder: str = "") -> None:
    """Move the outputs of an attempt into the folder of its run.

    Args:
        attempt: an attempt that is done.
        run_folder: its run's folder, by its path on this machine.
        own_folder: final name of the folder of a program, relative to the run's folder. It replaces a folder of this
            name as a whole, also one that was created while the program ran.

    Raises:
        FileNotFoundError: its staging folder is not visible. If another machine has made it, that may be temporary.
        OSError: that is not possible now. Outputs that were not moved yet are in the staging folder.
    """
    stage, view = stage_of(attempt, run_folder), attempt.path_text(VIEW_LINK)
    if stage is not None:
        _accept_stage(stage.with_suffix(ACCEPTED_SUFFIX), stage, own_folder)
        os.rename(view, attempt.path_text(MOVED_LINK))  # noqa: PTH104  # done for every attempt
    else:  # the attempt has no outputs, or a process that was killed had moved them
        stage = stage_of(attempt, run_folder, MOVED_LINK)
    if stage is not None:
        shutil.rmtree(stage.with_suffix(ACCEPTED_SUFFIX).folder, ignore_errors=True)
        remove_stages_folder(stage)


def undo_acceptance(attempt: Attempt, run_folder: Path) -> None:
    """Leave outputs that could not be moved to the next attempt, like the outputs of a failed attempt."""
    with contextlib.suppress(OSError):
        stage = stage_of(attempt, run_folder)
        if stage is not None:
            os.rename(stage.with_suffix(ACCEPTED_SUFFIX).folder, stage.folder)  # noqa: PTH104  # done seldom


def is_staged(attempt: Attempt, run_folder: Path) -> bool:
    """Return whether an attempt visibly has, or had, a staging folder.

    Raises:
        OSError: the link to it cannot be read now.
    """
    views = (VIEW_LINK, MOVED_LINK)
    return any(stage_of(attempt, run_folder, view) is not None for view in views)


def is_accepted(attempt: Attempt, run_folder: Path) -> bool:
    """Return whether the acceptance of an attempt has begun. It must then be completed.

    Raises:
        OSError: that cannot be found out now.
    """
    stage = stage_of(attempt, run_folder)
    return stage is None or not os.path.lexists(stage.folder)


def has_accepted_earlier(home: Home, job: int, attempt_number: int) -> bool:
    """Return whether outputs of an earlier attempt of a job were moved into its run's folder."""
    return any(
        os.path.lexists(home.attempt(job, before).path_text(MOVED_LINK))
        for before in range(1, attempt_number)
    )


def _accept_stage(accepted_stage: StagingFolder, stage: StagingFolder, own_folder: str) -> None:
    try:
        os.rename(stage.folder, accepted_stage.folder)  # noqa: PTH104  # done for every attempt
    except FileNotFoundError:
        if not os.path.isdir(accepted_stage.folder):  # noqa: PTH112  # likewise
            raise
    seal(accepted_stage)
    _apply_deletions(accepted_stage)
    try:
        os.stat(accepted_stage.output_folder)  # noqa: PTH116  # likewise
    except FileNotFoundError:  # everything was moved before
        return
    links = read_links(accepted_stage)
    links.replaced.append(own_folder)
    _move(accepted_stage, "", "", links)
    # fails if a network file system has not listed all entries: the rest is moved later
    os.rmdir(accepted_stage.output_folder)  # noqa: PTH106  # likewise


def _apply_deletions(stage: StagingFolder) -> None:
    """Delete the earlier accepted outputs that the attempt has deleted in its view."""
    links = read_links(stage)
    for name in links.gone:
        path = f"{stage.run_folder}/{name}"
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            try:
                os.unlink(path)  # noqa: PTH108  # likewise
            except IsADirectoryError:
                shutil.rmtree(path)
    for name in reversed(links.gone_folders):
        with contextlib.suppress(OSError):  # another job has put something into the folder
            os.rmdir(f"{stage.run_folder}/{name}")  # noqa: PTH106  # likewise


def _move(stage: StagingFolder, folder: str, final: str, links: StagingLinks) -> None:
    """Move the contents of a folder of a staging folder into the run's folder.

    New folders are moved as a whole, but not those above an output that gets another name.

    Args:
        stage: the staging folder.
        folder: path of the folder in the staging folder. It ends with a slash if it is not empty.
        final: the same in the run's folder.
        links: the links of the staging folder.
    """
    with os.scandir(f"{stage.output_folder}/{folder}") as entries:
        listed = [*entries]
    for entry in listed:
        name = f"{folder}{entry.name}"
        final_name = links.renamed[1] if name in links.renamed[:1] else f"{final}{entry.name}"
        place = f"{stage.run_folder}/{final_name}"
        if entry.is_symlink() and is_own_link(
            stage, name
        ):  # the record of the move was lost, as in a power cut
            os.unlink(entry.path)  # noqa: PTH108  # likewise
            continue
        is_folder = entry.is_dir(follow_symlinks=False)
        if is_folder and any(path.startswith(f"{name}/") for path in links.renamed[:1]):
            with contextlib.suppress(FileExistsError):
                os.mkdir(place)  # noqa: PTH102  # likewise
            _move(stage, f"{name}/", f"{final_name}/", links)
            os.rmdir(entry.path)  # noqa: PTH106  # likewise
            continue
        is_replacing = is_folder and final_name in links.replaced
        if is_replacing and os.path.isdir(place):  # noqa: PTH112  # likewise
            _move_obstacle_aside(stage, place)
        try:
            os.rename(entry.path, place)  # noqa: PTH104  # likewise
        except OSError as error:
            # a folder to replace that is there again came from another queue folder: see _OBSTACLE_ERRORS
            if is_folder and not is_replacing and os.path.isdir(place):  # noqa: PTH112  # likewise
                _move(stage, f"{name}/", f"{final_name}/", links)
                os.rmdir(entry.path)  # noqa: PTH106  # likewise
            elif error.errno == errno.EXDEV:
                _copy(entry.path, place)
            elif error.errno in _OBSTACLE_ERRORS:
                _move_obstacle_aside(stage, place)
                os.rename(entry.path, place)  # noqa: PTH104  # likewise
            else:
                raise
    if listed:
        sync(f"{stage.run_folder}/{final}")


def _move_obstacle_aside(stage: StagingFolder, place: str) -> None:
    """Move the entry at a path aside. It is removed with the staging folder."""
    aside = f"{stage.folder}/{_REPLACED}{os.urandom(4).hex()}"
    try:
        os.rename(place, aside)  # noqa: PTH104  # likewise
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.rmtree(place)


def _copy(path: str, place: str) -> None:
    """Move an entry that is on another file system and cannot be renamed. It appears complete at its new path."""
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
