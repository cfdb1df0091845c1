"""An attempt's journal, the file `started`: which process took the right to start it, its program, and its outcome.

It is a second name of `spec.json`, so that an attempt costs one file less; an existing name
cannot be given a second time. Below the order, a line names the supervisor, or voids the attempt. The
next one names the program. The last one is the outcome, or the fork server's report if the supervisor was killed.

Nothing of it is synced, because written data outlives every process. A power cut ends the programs, too.
After it only the queue's database counts, whose commits are synced.
"""

import contextlib
import errno
import fcntl
import json
import os
import time

from launcher.queue.home.paths import SPEC, STARTED, Attempt
from launcher.queue.jobs.states import Outcome, outcome_record, read_outcome
from launcher.queue.workers.lease import Lease
from launcher.system.files import append_whole, read_bytes, write_whole
from launcher.system.processes import Identity, identity_lines, read_identity

REVOKED_LINE = b'{"void": true}'
SUCCESS_LINE = b'{"schema": 1, "exit_code": 0}\n'  # end of an unsupervised program: the fork server was its parent
SPAWN_TIMEOUT_S = 0.5
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}
_OPEN = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC


def acquire_start(attempt: Attempt) -> int | None:
    """Take the right to start an attempt; return its record, open, and None if the right is taken.

    Raises:
        OSError: there is no room for it, or no folder.
    """
    try:
        os.link(attempt.path_text(SPEC), attempt.path_text(STARTED))
    except FileExistsError:
        return None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _acquire_without_link(attempt)
    return os.open(attempt.path_text(STARTED), _OPEN)


def _acquire_without_link(attempt: Attempt) -> int | None:
    """Take it on a file system where no file has two names."""
    try:
        descriptor = os.open(attempt.started, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return None
    try:
        os.write(descriptor, read_bytes(attempt.spec))
        os.lseek(descriptor, 0, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def outcome_line(outcome: Outcome) -> bytes:
    """Return an outcome as its record holds it."""
    return json.dumps(outcome_record(outcome)).encode() + b"\n"


def record_outcome(attempt: Attempt, line: bytes) -> None:
    """Write down how an attempt ended.

    Raises:
        FileNotFoundError: the record is gone: its own program may have deleted it.
        OSError: the disk is full; nothing was written.
    """
    append_whole(
        attempt.path_text(STARTED), b"\n" + line
    )  # on a full disk, the line before may be cut off


def record_outcome_when_possible(
    outcome: Outcome, attempt: Attempt, lease: Lease, order: bytes = b""
) -> bytes:
    """Write down how an attempt ended; wait for room when the disk is full, since only its supervisor knows it.

    Args:
        outcome: the outcome to write.
        attempt: whose folder may have been deleted by its own program.
        lease: lease of the attempt; when the lease is over, nothing is written.
        order: the order by which such a folder is recognized.

    Returns the outcome as it is on record; nothing where it is not ours any more.
    """
    line = outcome_line(outcome)
    while not lease.is_over():
        try:
            record_outcome(attempt, line)
        except FileNotFoundError:  # the job has deleted the folder
            if attempt.is_away():
                return line  # the whole home is gone
            with contextlib.suppress(OSError):
                restore_record(attempt, order)
                continue
            time.sleep(1)
        except OSError:
            time.sleep(1)
        else:
            return line
    return b""


def restore_record(attempt: Attempt, order: bytes) -> None:
    """Make the record of an attempt again that has deleted its folder.

    Raises:
        OSError: the disk is full.
    """
    attempt.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not attempt.spec.exists():
        write_whole(attempt.spec, order.decode())
    record = acquire_start(attempt)
    if record is not None:
        os.close(record)


def read_recorded_outcome(attempt: Attempt) -> Outcome | None:
    """Return the outcome that an attempt's supervisor recorded; None if there is none."""
    try:
        lines = read_bytes(attempt.started).splitlines()
    except FileNotFoundError:
        return None
    return read_outcome_line(lines[-1]) if lines else None


def has_ended_successfully(attempt: Attempt) -> bool:
    """Return whether a record shows that a program ended with exit code 0 after its supervisor."""
    with contextlib.suppress(FileNotFoundError):
        return read_bytes(attempt.started).endswith(SUCCESS_LINE)
    return False


def read_outcome_line(line: bytes) -> Outcome | None:
    """Return the outcome of a line that `outcome_line` made; None if the line is another, or cut off."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return read_outcome(record) if isinstance(record, dict) and "ending" in record else None


def revoke_attempt(attempt: Attempt) -> bool:
    """Take the right to start away; False where it is taken, or the folder was deleted.

    Raises:
        OSError: the disk is full.
    """
    if attempt.started.exists():
        return read_starter_line(attempt) == REVOKED_LINE
    if not attempt.folder.exists():
        return False  # the folder existed before the claim, so the job itself may have deleted it
    file = attempt.folder / f".void-{os.getpid()}"
    try:
        write_whole(file, f"{REVOKED_LINE.decode()}\n")
        attempt.started.hardlink_to(file)  # whole, and only where there is none
    except FileNotFoundError:
        return False
    except FileExistsError:
        return read_starter_line(attempt) == REVOKED_LINE
    finally:
        file.unlink(missing_ok=True)
    return True


def read_starter_line(attempt: Attempt) -> bytes:
    """Return the line that takes the right to start; empty where it is not taken, or not yet."""
    try:
        lines = identity_lines(read_bytes(attempt.started))
    except FileNotFoundError:
        return b""
    return lines[0] if lines else b""


def read_starter(attempt: Attempt) -> Identity | None:
    """Return the supervisor that took the right to start an attempt; None if none is recorded.

    Raises:
        OSError: its record cannot be read.
    """
    return read_identity(read_starter_line(attempt))


def read_program(attempt: Attempt) -> Identity | None:
    """Return the program of an attempt whose supervisor is dead; None if none was started."""
    try:
        with attempt.started.open("rb") as file:
            # a process that the supervisor had begun to start is either the program then, or dead
            _await_lock(file.fileno())
            lines = identity_lines(file.read())
    except FileNotFoundError:
        return None
    return read_identity(lines[1]) if len(lines) > 1 else None


def _await_lock(descriptor: int) -> None:
    """Wait until no supervisor is between a spawn and its record; that takes milliseconds.

    Raises:
        BlockingIOError: it takes longer, because the program is on a disk that does not answer.
    """
    deadline = time.monotonic() + SPAWN_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.002)
        else:
            return
