"""The folder of the feature store: its path, its contents, and the removal of views.

Planning uses this module, so it does not import numpy.
"""

import contextlib
import logging
import os
import shutil
from functools import partial
from pathlib import Path

from trueface.runtime import artifact
from trueface.runtime.artifact import LOCK, CacheEntry

FOLDER = "features"  # in the cache folder
LIMIT = "TRUEFACE_FEATURES_LIMIT"  # environment variable: "20GiB"
MOST_BYTES = 20 << 30
SHARE = 10  # the store takes a tenth of a disk at most
ENDING, TEMPORARY = ".features", ".tmp"  # suffixes of shards, and of those that are being written

log = logging.getLogger(__name__)


def store_folder() -> Path | None:
    """Return the folder of the user's store, which need not be there; None where there is no home."""
    folder = artifact.cache_folder()
    return None if folder is None else folder / FOLDER


def limit_bytes(folder: Path) -> int:
    """Return how many bytes a store in `folder` may take.

    Raises:
        UsageError: the environment holds no size.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists())
    most = min(MOST_BYTES, shutil.disk_usage(there).total // SHARE)
    return artifact.limit_bytes(LIMIT, os.environ, most)


def lock_of(root: Path, stem: str) -> Path:
    """Return the path of a view's lock."""
    return root / f"{stem}{LOCK}"


def views(root: Path) -> list[CacheEntry]:
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
                if f".{ending}" == LOCK:
                    used_at[stem] = status.st_mtime
                elif f".{ending}" in {ENDING, TEMPORARY}:
                    sizes.setdefault(stem.rpartition("-")[0], []).append(status.st_size)
    there = [
        CacheEntry(
            path=lock_of(root, stem),
            used_at=used_at.get(stem, 0.0),
            bytes=sum(sizes.get(stem, ())),
            files=len(sizes.get(stem, ())),
        )
        for stem in used_at.keys() | sizes.keys()
    ]
    return sorted(there, key=lambda view: view.used_at)


def make_room(root: Path, need_bytes: int, limit: int, *, spared_view: Path) -> bool:
    """Remove least recently used views until `need_bytes` fit, and return whether they do.

    A view that a process is about to write is kept. A process that has mapped a shard keeps its
    mapping.

    Args:
        root: of the store.
        need_bytes: required space.
        limit: of all shards, in bytes.
        spared_view: the lock of the view that needs the space. It is kept.
    """
    return artifact.make_room(
        views(root), need_bytes, limit, partial(_remove_view, spared_view=spared_view)
    )


def remove_features(view: CacheEntry) -> bool:
    """Remove a view unless a process writes it, and return whether it was removed."""
    lock = view.path
    try:
        with artifact.hold_lock_if_free(lock):
            for path in lock.parent.glob(f"{lock.stem}-*"):
                path.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)  # last: where it lies, there may be more
    except artifact.BusyError:
        return False
    return True


def _remove_view(view: CacheEntry, *, spared_view: Path) -> bool:
    if view.path == spared_view or not remove_features(view):
        return False
    log.info("state=features removed view=%s bytes=%d", view.path.stem, view.bytes)
    return True
