"""SQLite databases that are only read: no byte of the file or its folder changes."""

import sqlite3
from pathlib import Path


def readonly_uri(database: Path) -> str:
    """Return the URI with which SQLite only reads a database.

    No byte of it changes, and no file appears beside it.

    Args:
        database: `Home.database` of a queue folder.
    """
    # if no process has the database open, the file is complete, and even a reader would add two files
    alone = "" if Path(f"{database}-wal").exists() else "&immutable=1"
    return f"{database.absolute().as_uri()}?mode=ro{alone}"


def connect_readonly(database: Path, timeout_s: float) -> sqlite3.Connection:
    """Open the database of a queue for reading, without creating, repairing or migrating it.

    Args:
        database: `Home.database` of a queue folder.
        timeout_s: seconds for which a query waits while another process has locked the database.

    Raises:
        sqlite3.Error: there is none, or it cannot be read.
    """
    return sqlite3.connect(
        readonly_uri(database), uri=True, timeout=timeout_s, isolation_level=None
    )
