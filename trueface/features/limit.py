"""How large the feature store may become, and which views leave it first."""

import contextlib
import logging
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from trueface.features import creation_lock, shard
from trueface.runtime.errors import UsageError
from trueface.runtime.files import parse_bytes

LIMIT = "TRUEFACE_FEATURES_LIMIT"  # environment variable: "20GiB"
MOST_BYTES = 20 << 30
SHARE = 10  # the store takes a tenth of a disk at most

log = logging.getLogger(__name__)


class View(NamedTuple):
    """The files of one view of an identity; views sort in the order in which they leave the store."""

    used_at: float  # when it was last read or written, in seconds since 1970
    lock: Path
    shards: int
    size_bytes: int


def limit_bytes(folder: Path) -> int:
    """Return how many bytes a store in `folder` may take.

    Raises:
        UsageError: the environment holds no size.
    """
    text = os.environ.get(LIMIT)
    if text:
        try:
            return parse_bytes(text)
        except UsageError as error:
            raise UsageError(f"{LIMIT}: {error}") from error
    return min(MOST_BYTES, shutil.disk_usage(folder).total // SHARE)


def views(root: Path) -> list[View]:
    """Return what a store holds, what was used longest ago first."""
    used_at: dict[str, float] = {}
    sizes: dict[str, list[int]] = {}
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith("."):  # a file of digests that is being written
                continue
            stem, _, ending = entry.name.rpartition(".")
            with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                status = entry.stat(follow_symlinks=False)
                if f".{ending}" == creation_lock.ENDING:
                    used_at[stem] = status.st_mtime
                elif f".{ending}" in {shard.ENDING, shard.TEMPORARY}:
                    sizes.setdefault(stem.rpartition("-")[0], []).append(status.st_size)
    return sorted(
        View(
            used_at=used_at.get(stem, 0.0),
            lock=root / f"{stem}{creation_lock.ENDING}",
            shards=len(sizes.get(stem, ())),
            size_bytes=sum(sizes.get(stem, ())),
        )
        for stem in used_at.keys() | sizes.keys()
    )


def make_room(root: Path, need_bytes: int, limit: int, *, but: Path) -> bool:
    """Remove the views that were used longest ago until `need_bytes` more fit; tell whether they do.

    A view that a process is about to write stays; a process that has mapped a shard keeps what it
    has mapped.

    Args:
        root: of the store.
        need_bytes: more.
        limit: of all shards, in bytes.
        but: the lock of the view that they are for; it stays.
    """
    there = views(root)
    total = sum(view.size_bytes for view in there)
    for view in there:
        if total + need_bytes <= limit:
            break
        if view.lock != but and remove(view):
            total -= view.size_bytes
            log.info("state=features removed view=%s bytes=%d", view.lock.stem, view.size_bytes)
    return total + need_bytes <= limit


def remove(view: View) -> bool:
    """Remove a view unless a process writes it; tell whether it is gone."""
    try:
        with creation_lock.held_at_once(view.lock):
            for path in view.lock.parent.glob(f"{view.lock.stem}-*"):
                path.unlink(missing_ok=True)
            view.lock.unlink(missing_ok=True)  # last: where it lies, there may be more
    except creation_lock.BusyError:
        return False
    return True
