"""Copies of a queue's database, of which the newest few are kept."""

import contextlib
import os
import sqlite3
import time
from pathlib import Path

from launcher.system.files import sync

BACKUPS_KEPT = 5


def back_up(database: Path, folder: Path, version: int) -> Path:
    """Copy a database to `folder` and return the copy. Only the newest few are kept.

    It is read over a connection of its own, so the caller may hold a transaction that has not
    written. It should hold one, because two concurrent copies disturb each other.

    Raises:
        sqlite3.Error: The disk is full, or the database cannot be read.
        OSError: The folder cannot be written.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    for left in folder.glob(".*.tmp"):  # remains of a process that was killed here
        left.unlink(missing_ok=True)
    backup = folder / f"queue-v{version}-{file_timestamp(time.time())}.sqlite"
    temporary = folder / f".{os.urandom(8).hex()}.tmp"
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with (
            contextlib.closing(sqlite3.connect(database)) as source,
            contextlib.closing(sqlite3.connect(temporary)) as target,
        ):
            target.execute("PRAGMA synchronous = FULL")
            source.backup(target)
        temporary.replace(backup)
    finally:
        temporary.unlink(missing_ok=True)
    sync(folder)
    for old in backups(folder)[:-BACKUPS_KEPT]:
        old.unlink(missing_ok=True)
    return backup


def backups(folder: Path) -> list[Path]:
    """Return the copies in a folder, the oldest first."""
    return sorted(folder.glob("queue-v*-*.sqlite"), key=lambda path: path.stem.rpartition("-")[2])


def file_timestamp(timestamp: float) -> str:
    """Return a time as part of a file's name; names sort as times do."""
    whole, part = divmod(timestamp, 1)
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(whole))}.{int(part * 1e6):06}Z"
