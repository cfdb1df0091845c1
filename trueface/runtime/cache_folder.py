"""The laboratory's cache: where it lies, whether a folder of it can be trusted, how much it may hold.

What lies there can be made again. So nothing is wrong when a folder is missing, full or not to be
trusted: work goes on without it.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import platformdirs

from trueface.runtime.errors import UsageError
from trueface.runtime.files import parse_bytes

CACHE = "TRUEFACE_CACHE"  # environment variable: another folder than the user's cache


class Entry(NamedTuple):
    """Something in a cache that is removed as a whole."""

    path: Path
    used_at: float  # s since the epoch
    bytes: int
    files: int = 1


def cache_folder() -> Path | None:
    """Return where the laboratory keeps what it can make again; None where there is no home."""
    if given := os.environ.get(CACHE):
        return Path(given).absolute()
    folder = platformdirs.user_cache_path("trueface", appauthor=False)
    return folder if folder.is_absolute() else None


def make_private(folder: Path) -> None:
    """Make a folder that only its owner can write, where there is none yet.

    Raises:
        PermissionError: another user owns it, or can write it, and so could change what it holds.
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to another user (uid {status.st_uid})")
    if status.st_mode & 0o022:
        raise PermissionError(f"{folder} can be written by other users: chmod 700 {folder}")


def limit_bytes(variable: str, environ: Mapping[str, str], default: int) -> int:
    """Return how much a cache may hold: what an environment variable says, such as 20GiB.

    Raises:
        UsageError: it says no amount of memory.
    """
    text = environ.get(variable, "")
    if not text:
        return default
    try:
        return int(parse_bytes(text))
    except UsageError as error:
        raise UsageError(f"{variable}: {error}") from error


def free_bytes(folder: Path) -> int:
    """Return how much of its disk is free for a folder, which need not exist; 0 if nobody can tell."""
    with contextlib.suppress(OSError):
        there = next(place for place in (folder, *folder.parents) if place.exists())
        return shutil.disk_usage(there).free
    return 0


def make_room(
    entries: Iterable[Entry], need: int, limit: int, remove: Callable[[Entry], bool]
) -> bool:
    """Remove the least recently used entries until `need` more bytes fit into the limit.

    Args:
        entries: all that the cache holds.
        need: bytes that are to be added.
        limit: bytes that it may hold.
        remove: removes an entry; False: it is in use and stays.

    Returns:
        Whether they fit; nothing is removed where they never could.
    """
    if need > limit:
        return False
    oldest_first = sorted(entries, key=lambda entry: entry.used_at)
    total = sum(entry.bytes for entry in oldest_first)
    for entry in oldest_first:
        if total + need <= limit:
            break
        if remove(entry):
            total -= entry.bytes
    return total + need <= limit
