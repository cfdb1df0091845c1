"""Records of programs inside jobs that wait for other jobs of the queue, each in a file of its attempt."""

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from launcher.queue.home.paths import Attempt
from launcher.system.files import Json, read_json, write_json
from launcher.system.processes import identity, identity_from_record, is_alive

_PREFIX = "waits-"  # before the pid and the thread that waits
SCHEMA = 1


class WaitRecord(NamedTuple):
    """A wait without a time limit."""

    jobs: tuple[int, ...]  # jobs that must end before the wait returns
    is_main: bool  # whether the main thread of the wait's process waits


def write_wait_record(attempt: Attempt, jobs: Iterable[int]) -> Path | None:
    """Record that this thread waits for jobs; return the file, which must be deleted at the end of the wait.

    Return None if that is impossible, for example on a full disk.
    """
    me, thread = identity(os.getpid()), threading.current_thread()
    path = attempt.folder / f"{_PREFIX}{os.getpid()}-{thread.ident}"
    record: dict[str, Json] = {
        "schema": SCHEMA,
        "process": me.to_json() if me else {},
        "jobs": [*jobs],
        "main": thread is threading.main_thread(),
    }
    with suppress(OSError):
        write_json(path, record, mode=0o600, durable=False)
        return path
    return None


def read_wait_records(attempt: Attempt) -> list[WaitRecord]:
    """Return the waits of an attempt whose processes live."""
    records = []
    with suppress(OSError):
        for path in sorted(attempt.folder.glob(f"{_PREFIX}*")):
            match read_json(path):
                case {"process": dict(process), "jobs": list(jobs), "main": bool(main)}:
                    who = identity_from_record(process)
                    if who is not None and is_alive(who):
                        numbers = tuple(job for job in jobs if isinstance(job, int))
                        records.append(WaitRecord(numbers, main))
    return records
