"""A damaged database: distinguished from other errors, kept aside, never silently replaced."""

import contextlib
import os
import shlex
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from launcher.queue.home.daemon_control import scheduler_pid, wake
from launcher.queue.home.paths import Home
from launcher.queue.store.backups import backups, file_timestamp
from launcher.system.errors import StoreError
from launcher.system.files import Json, read_json, sync, write_json
from launcher.system.locks import lock_file
from launcher.system.units import format_bytes, format_seconds

LOCK_TIMEOUT_S = (
    60.0  # another process that checks the same damage now may have to read a large file
)

_THREAD_LOCK = threading.RLock()  # a record lock keeps out other processes, not other threads
_DAMAGE_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PERMISSION_CODES = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN})
_REMEDIES = {
    sqlite3.SQLITE_BUSY: "Another process has locked it for long. Try again.",
    sqlite3.SQLITE_FULL: "Free space on its disk.",
    sqlite3.SQLITE_IOERR: "Its disk may be full or failing. Read the kernel log: dmesg",
    sqlite3.SQLITE_READONLY: "Make it and its folder writable.",
    sqlite3.SQLITE_CANTOPEN: "It must be a file that you may read and write.",
}
MOST_LOG_BYTES = 64 << 20  # a log is longer only while somebody reads the queue without an end
# bytes of the log's index that readers lock. Source: SQLite's walformat.html
_READ_LOCKS = range(123, 128)


def corruption_error(subject: str) -> sqlite3.DatabaseError:
    """Return the error that SQLite would raise for a database of which `subject` is wrong."""
    error = sqlite3.DatabaseError(subject)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def check_integrity(connection: sqlite3.Connection) -> None:
    """Read a whole database and see that it holds together.

    Raises:
        sqlite3.DatabaseError: it is damaged.
    """
    _run_check("quick_check", connection)


def describe_data_loss(home: Home) -> str | None:
    """Return what is wrong when a database has lost all that it held, None otherwise.

    It must not be made meanwhile: ask while `exclusive_database_access`.
    """
    database, log, _ = _database_files(home)
    size = database.stat().st_size if database.exists() else None
    if size:
        return None
    state = "gone" if size is None else "empty"
    if log.exists() and log.stat().st_size:
        return f"{database.name} is {state}, but {log.name} is not"
    if size == 0 and home.attempts.exists() and any(home.attempts.iterdir()):
        return f"{database.name} is empty, but there were jobs: see {home.attempts}"
    return None


def queue_database_error(path: Path, error: sqlite3.Error | OSError) -> StoreError:
    """Return the exception for an error of the queue's database. A damaged database is renamed first.

    Suspected damage is checked again, alone, before the file is renamed. A busy database, a full
    disk and a missing permission are not damage.

    Args:
        path: The database. This process must not be inside a transaction of it.
        error: The error of SQLite or of the disk.
    """
    home = Home(path.parent)
    # another process moved the database meanwhile
    if (record := read_json(home.damage_record)) is not None:
        return _damage_error(home, record)
    # the primary code, without SQLite's extension
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _DAMAGE_CODES:
        try:
            record = _move_damaged_aside(home)
        except OSError as blocked:
            return StoreError(
                f"the queue {path} is damaged ({error}) and cannot be moved aside: "
                f"{blocked.strerror}. Free space or fix the permissions of {path.parent}. "
                "To start with an empty queue, move the file away."
            )
        if record is not None:
            return _damage_error(home, record)
    if not home.folder.exists():
        return StoreError(missing_database_text(home))
    message = getattr(error, "strerror", None) or str(error)
    remedy = f". {_REMEDIES[code]}" if code in _REMEDIES else ""
    if code == sqlite3.SQLITE_IOERR and (holder := _scheduler_with_removed_log(home)) is not None:
        message = f"its log {home.database.name}-wal was removed while the scheduler had it open"
        remedy = f". Run `kill {holder}`, so that it writes its data and exits, and try again."
    if code in _PERMISSION_CODES and home.folder.is_dir() and not os.access(home.folder, os.W_OK):
        read_only = os.statvfs(home.folder).f_flag & os.ST_RDONLY
        message = "its file system is mounted read-only" if read_only else "you may not write to it"
        remedy = ". Fix that, or set LAUNCHER_HOME to a writable folder."
    return StoreError(f"cannot use the queue {path}: {message}{remedy}")


def missing_database_text(home: Home) -> str:
    """Return what to print if a database is not there any more that was in use."""
    return (
        f"the queue {home.database} does not exist any more. "
        "If its folder was moved, set LAUNCHER_HOME to its new path and run this command again."
    )


def _scheduler_with_removed_log(home: Home) -> int | None:
    """Return the scheduler's pid if its open log was removed, otherwise None. The next process would create an empty log."""
    _, log, index = _database_files(home)
    removed = index.exists() and not (log.exists() and log.stat().st_size)
    return scheduler_pid(home) if removed else None


def describe_long_log(home: Home) -> str:
    """Return a warning if the queue's log has grown, with the process that keeps reading it. '' otherwise.

    The log cannot be reset while a process reads its earlier content. The locks are read from the
    kernel's list: if we opened and closed the index ourselves, we would lose our own locks.
    """
    _, log, index = _database_files(home)
    try:
        if (size := log.stat().st_size) <= MOST_LOG_BYTES:
            return ""
        there = index.stat()
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return ""
    # "7: POSIX ADVISORY READ 4242 fe:00:2752 123 127"; a process that waits for a lock has "->" after the number
    device = f"{os.major(there.st_dev):02x}:{os.minor(there.st_dev):02x}"
    readers = {
        int(pid)
        for _, kind, _, how, pid, file, first, *_ in (line for line in locks if "->" not in line)
        if (kind, how, file) == ("POSIX", "READ", f"{device}:{there.st_ino}")
        and first.isdigit()
        and int(first) in _READ_LOCKS
    }
    readers -= {os.getpid(), scheduler_pid(home)}
    text = f"{log.name} has grown to {format_bytes(size)}"
    if not readers:
        return f"{text}. It is emptied as soon as no process reads the queue"
    pids = " ".join(map(str, sorted(readers)))
    return f"{text}, because other processes read the queue. If this continues: kill {pids}"


def refuse_damaged(home: Home) -> None:
    """Refuse to continue until the owner of a damaged database has decided how.

    Raises:
        StoreError: It was found damaged earlier. The message states the possible actions.
    """
    if not home.damage_record.exists():
        return
    record = read_json(home.damage_record)
    if record is None and not home.damage_record.exists():
        return  # decided just now
    with contextlib.suppress(OSError), exclusive_database_access(home):
        _move_files(
            home, record or {}
        )  # the process that wrote the record may have been killed before it renamed the files
    raise _damage_error(home, record or {})


@contextlib.contextmanager
def exclusive_database_access(home: Home) -> Iterator[None]:
    """Prevent other processes from creating or renaming the database of the queue folder.

    Raises:
        StoreError: Another process does so for too long.
    """
    with _THREAD_LOCK:
        held = lock_file(home.damage_lock, LOCK_TIMEOUT_S)
        if held is None:
            raise StoreError(
                f"another process has kept {home.damage_lock} locked for "
                f"{format_seconds(LOCK_TIMEOUT_S)}. Find it with `fuser {home.damage_lock}`, "
                "wait for its end or kill it, and try again."
            )
        try:
            yield
        finally:
            os.close(held)


def _move_damaged_aside(home: Home) -> dict[str, Json] | None:
    """Move a damaged database away and return the record of it; None when it is sound after all."""
    with exclusive_database_access(home):
        record = read_json(home.damage_record)
        if record is None:
            what = _diagnose_damage(home)
            if what is None:
                return None
            now = time.time()
            files: list[Json] = [file.name for file in _database_files(home) if file.exists()]
            folder = str(home.damaged / file_timestamp(now))
            record = {"schema": 1, "at": now, "what": what, "folder": folder, "files": files}
            home.renumber_request.touch(mode=0o600)
            write_json(home.damage_record, record, mode=0o600)
        _move_files(home, record)
    with contextlib.suppress(OSError):
        wake(home)  # a scheduler must not continue with a renamed file
    return record


def _diagnose_damage(home: Home) -> str | None:
    """Return the damage of a database as seen by a new connection, None if there is none."""
    if lost := describe_data_loss(home):
        return lost
    try:
        address = f"{home.database.absolute().as_uri()}?mode=rw"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
            _run_check("integrity_check", connection)
    except sqlite3.Error as error:
        return str(error) if error.sqlite_errorcode & 0xFF in _DAMAGE_CODES else None
    return None


def _run_check(check: str, connection: sqlite3.Connection) -> None:
    (result,) = connection.execute(f"PRAGMA {check}(1)").fetchone()
    if result != "ok":
        raise corruption_error(" ".join(str(result).split()))


def _move_files(home: Home, record: dict[str, Json]) -> None:
    """Move what the record names, as far as that has not happened yet."""
    match record:
        case {"folder": str(folder), "files": [*files]}:
            kept = home.damaged / Path(folder).name  # the queue folder may have been moved since
        case _:
            return
    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.damaged.chmod(0o700)
    for name in map(str, files):
        source = home.folder / name
        if source.exists() and not (kept / name).exists():
            source.replace(kept / name)
    for folder_changed in (kept, home.damaged, home.folder):
        sync(folder_changed)


def _database_files(home: Home) -> tuple[Path, Path, Path]:
    """Return the database, its log, and the log's index."""
    log, index = (home.database.with_name(home.database.name + end) for end in ("-wal", "-shm"))
    return home.database, log, index


def _damage_error(home: Home, record: dict[str, Json]) -> StoreError:
    database, decided = shlex.quote(str(home.database)), shlex.quote(str(home.damage_record))
    lines = [
        f"the queue's database {home.database} was found damaged: {record.get('what', 'unknown')}",
        f"it was moved to {home.damaged / Path(str(record.get('folder', ''))).name}. The queue is stopped "
        "until you decide how to continue:",
    ]
    if copies := backups(home.backups):
        newest = shlex.quote(str(copies[-1]))
        lines += [
            f"from the newest backup: cp {newest} {database} && rm {decided}",
            f"with an empty queue:    rm {decided}",
        ]
    else:
        lines.append(f"with an empty queue (there is no backup): rm {decided}")
    return StoreError("\n".join(lines))
