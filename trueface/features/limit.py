"""What lies in the feature store, and which views leave it first."""

import contextlib
import logging
import os
from functools import partial
from pathlib import Path

from trueface.features import creation_lock, shard
from trueface.runtime import cache_folder
from trueface.runtime.cache_folder import Entry

log = logging.getLogger(__name__)


def views(root: Path) -> list[Entry]:
    """Return the views that a store holds, each by the path of its lock, the oldest use first."""
    used_at: dict[str, float] = {}
    sizes: dict[str, list[int]] = {}
    with os.scandir(root) as listing:
        for entry in listing:
            if entry.name.startswith("."):  # a file of digests that is being written
                continue
            stem, _, ending = entry.name.rpartition(".")
            with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                status = entry.stat(follow_symlinks=False)
                if f".{ending}" == creation_lock.ENDING:
                    used_at[stem] = status.st_mtime
                elif f".{ending}" in {shard.ENDING, shard.TEMPORARY}:
                    sizes.setdefault(stem.rpartition("-")[0], []).append(status.st_size)
    there = [
        Entry(
            path=creation_lock.path_of(root, stem),
            used_at=used_at.get(stem, 0.0),
            bytes=sum(sizes.get(stem, ())),
            files=len(sizes.get(stem, ())),
        )
        for stem in used_at.keys() | sizes.keys()
    ]
    return sorted(there, key=lambda view: view.used_at)


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
    return cache_folder.make_room(views(root), need_bytes, limit, partial(_removed, but=but))


def remove(view: Entry) -> bool:
    """Remove a view unless a process writes it; tell whether it is gone."""
    lock = view.path
    try:
        with creation_lock.held_at_once(lock):
            for path in lock.parent.glob(f"{lock.stem}-*"):
                path.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)  # last: where it lies, there may be more
    except creation_lock.BusyError:
        return False
    return True


def _removed(view: Entry, *, but: Path) -> bool:
    if view.path == but or not remove(view):
        return False
    log.info("state=features removed view=%s bytes=%d", view.path.stem, view.bytes)
    return True
