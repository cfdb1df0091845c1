"""The files of executors of Python: each is locked while the process with the executor lives.

The scheduler cancels the jobs of a dead process if its executor says so, and forgets the executor's group
after the last job.
"""

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.queue.home.paths import Home
from launcher.queue.store.executor_groups import PREFIX
from launcher.queue.store.queue import Store
from launcher.system.files import read_json
from launcher.system.locks import lock_descriptor

CHECK_S = 2.0  # seconds between two checks


def hold_executor(home: Home, group: str, *, cancel: bool) -> int:
    """Create the locked file of an executor; return its descriptor, which holds the lock.

    Args:
        home: The queue folder.
        group: Name of its group.
        cancel: Whether its open jobs are cancelled if this process dies.

    Raises:
        OSError: The disk is full, or the file system has no locks.
    """
    home.executors.mkdir(mode=0o700, exist_ok=True)
    path = executor_file(home, group)
    new = path.with_suffix(".new")
    held = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(held, b'{"cancel": true}' if cancel else b'{"cancel": false}')
        lock_descriptor(held)  # the file is new: no other process holds it
        new.rename(path)
    except OSError:
        os.close(held)
        new.unlink(missing_ok=True)
        raise
    return held


def release_executor(descriptor: int) -> None:
    """Unlock the file of an executor that was shut down; its open jobs continue."""
    with contextlib.suppress(OSError):  # a full disk
        os.pwrite(descriptor, b'{"cancel": false}', 0)
    os.close(descriptor)


def executor_file(home: Home, group: str) -> Path:
    """Return the file of an executor."""
    return home.executors / f"{group.removeprefix(PREFIX)}.json"


class AbandonedExecutors:
    """Executors whose processes are dead or have shut them down."""

    def __init__(self, home: Home, store: Store) -> None:
        self._home, self._store, self._next_at = home, store, 0.0

    def end(self) -> bool:
        """Cancel or forget the groups of abandoned executors, once per CHECK_S. Return whether there are executors.

        Raises:
            OSError: The folder cannot be read.
        """
        try:
            names = os.listdir(self._home.executors)  # noqa: PTH208  # in every cycle
        except FileNotFoundError:
            return False
        files = [self._home.executors / name for name in names if name.endswith(".json")]
        now = time.monotonic()
        if files and now >= self._next_at:
            self._next_at = now + CHECK_S / 2  # a cycle is due every CHECK_S
            for file in files:
                self._end(file)
        return bool(files)

    def _end(self, file: Path) -> None:
        lives = _is_locked(file)
        record: Mapping[str, Any] = read_json(file) or {}
        cancel = bool(record.get("cancel")) and not lives
        group = f"{PREFIX}{file.stem}"
        over = self._store.job_control.end_executor(group, time.time(), cancel=cancel)
        if over and not lives:
            file.unlink(missing_ok=True)


def _is_locked(file: Path) -> bool:
    try:
        held = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not lock_descriptor(held)
    finally:
        os.close(held)
