"""Copies of an earlier attempt's outputs into the staging folder of the next one, which continues from there."""

import contextlib
import os
import shutil

from launcher.queue.staging.stage_links import StagingLinks, find_deleted, is_own_link, read_links
from launcher.queue.staging.stages import StagingFolder

_TEMPORARY_AFFIXES = (".", ".tmp")  # prefix and suffix of names of files that were being written


def copy_earlier_stage(earlier: StagingFolder, stage: StagingFolder, links: StagingLinks) -> None:
    """Copy the outputs and deletions of an earlier, abandoned attempt into a staging folder.

    Files get a hard link. A process of that attempt that still lives replaces names only in its own
    staging folder, so it changes nothing here.

    Args:
        earlier: the staging folder of the earlier attempt, taken from it. If it is gone, nothing is inherited.
        stage: the staging folder of the next attempt, as it was made.
        links: the links in `stage`. Entries that the earlier attempt has deleted stay among them.

    Raises:
        OSError: the disk is full.
    """
    before = read_links(earlier)
    ours = {*before.links}
    _copy_names(earlier, stage, "", ours)
    for name in before.gone if before.sealed else find_deleted(earlier, before):
        if _is_existing_own_link(stage, name):
            os.unlink(f"{stage.output_folder}/{name}")  # noqa: PTH108  # as in the rest of this package
    links.replaced = [*dict.fromkeys((*links.replaced, *before.replaced))]


def _copy_names(
    earlier: StagingFolder, stage: StagingFolder, folder: str, earlier_links: set[str]
) -> None:
    try:
        entries = [*os.scandir(f"{earlier.output_folder}/{folder}")]
    except FileNotFoundError:
        return
    for entry in entries:
        name = f"{folder}{entry.name}"
        here = f"{stage.output_folder}/{name}"
        if entry.name.startswith(_TEMPORARY_AFFIXES[0]) and entry.name.endswith(
            _TEMPORARY_AFFIXES[1]
        ):
            continue
        if entry.is_dir(follow_symlinks=False):
            if os.path.islink(here):  # noqa: PTH114  # likewise
                os.unlink(here)  # noqa: PTH108  # likewise
            with contextlib.suppress(FileExistsError):
                os.mkdir(here)  # noqa: PTH102  # likewise
            _copy_names(earlier, stage, f"{name}/", earlier_links)
        elif not (entry.is_symlink() and name in earlier_links):
            with contextlib.suppress(
                FileNotFoundError
            ):  # the earlier attempt still lives, and replaces the file now
                _copy_name(entry.path, here)


def _copy_name(source: str, target: str) -> None:
    """Add a hard link to a file, which replaces the symbolic link that may be there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(target)  # noqa: PTH108  # likewise
    try:
        os.link(source, target, follow_symlinks=False)  # likewise
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        shutil.copy2(source, target, follow_symlinks=False)


def _is_existing_own_link(stage: StagingFolder, name: str) -> bool:
    try:
        return is_own_link(stage, name)
    except (FileNotFoundError, NotADirectoryError):
        return False
