"""An attempt's `started` file: which supervisor took the right to start it, and its program.

The first line names the supervisor, or voids the attempt; the second names the program.
"""

import fcntl
import os
import time

from launcher.states import Outcome, read_outcome
from launcher.system.files import read_bytes, read_json, write_whole
from launcher.system.paths import Attempt
from launcher.system.processes import Identity, read_identity, recorded

VOID = b'{"void": true}'
SPAWN_PATIENCE_S = 0.5


def recorded_outcome(attempt: Attempt) -> Outcome | None:
    """Return the outcome that an attempt's supervisor recorded, None where there is none."""
    record = read_json(attempt.outcome)
    return None if record is None else read_outcome(record)


def void_attempt(attempt: Attempt) -> bool:
    """Take the right to start away; False where it is taken, or the folder was deleted.

    Raises:
        OSError: the disk is full.
    """
    if attempt.started.exists():
        return first_line(attempt) == VOID
    if not attempt.folder.exists():
        return False  # it was there before the claim: who deleted it may be the job itself
    file = attempt.folder / f".void-{os.getpid()}"
    try:
        write_whole(file, f"{VOID.decode()}\n")
        attempt.started.hardlink_to(file)  # whole, and only where there is none
    except FileNotFoundError:
        return False
    except FileExistsError:
        return first_line(attempt) == VOID
    finally:
        file.unlink(missing_ok=True)
    return True


def first_line(attempt: Attempt) -> bytes:
    """Return the line that takes the right to start; empty where it is not taken."""
    try:
        return read_bytes(attempt.started).partition(b"\n")[0]
    except FileNotFoundError:
        return b""


def starter_of(attempt: Attempt) -> Identity | None:
    """Return the supervisor that took the right to start an attempt, None where none is on record.

    Raises:
        OSError: its record cannot be read.
    """
    return read_identity(first_line(attempt))


def program_of(attempt: Attempt) -> Identity | None:
    """Return the program of an attempt whose supervisor is dead, None when none was started."""
    try:
        with attempt.started.open("rb") as file:
            # what the supervisor had begun to start is either the program then, or dead
            _await_lock(file.fileno())
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    if len(lines) > 1:
        return read_identity(lines[1])
    return recorded(read_json(attempt.folder / "process.json"))  # of a launcher before 0.2


def _await_lock(descriptor: int) -> None:
    """Wait until no supervisor is between a spawn and its record; that takes milliseconds.

    Raises:
        BlockingIOError: it takes longer: the program lies on a disk that does not answer.
    """
    deadline = time.monotonic() + SPAWN_PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.002)
        else:
            return
