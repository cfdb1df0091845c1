"""The size limit of logs: the first and the last part of a longer log stay, and a line says how much was left out.

The program writes into the file itself, so that it outlives its supervisor and is never blocked. While it runs, the
supervisor frees the middle of the file (a hole), which changes no offset. At the end it moves the last part to the
first one. On a file system without holes it moves the last part while the program runs. Output of the instant between
the end of such a move and the cut is lost.

The supervisor also allocates blocks behind the end of the file, so that the program can print for a while after the
disk is full. File systems without `fallocate`, such as NFS, have no such reserve.
"""

import errno
import os
import re
from contextlib import suppress
from pathlib import Path

from launcher.queue.home.paths import SPEC, Attempt
from launcher.queue.jobs.job import SEPARATE
from launcher.queue.workers.attempt_spec import AttemptSpec, read_attempt_spec
from launcher.queue.workers.progress.reported_numbers import NumbersReader
from launcher.system.files import LOG_RESERVE_BYTES, open_descriptor, read_bytes
from launcher.system.log_setting import NO_LIMIT
from launcher.system.units import format_bytes

BLOCK_BYTES = 1 << 16  # bytes; holes begin and end at multiples, as blocks of file systems do
NOTE_BYTES = 128  # bytes of the note; blanks fill the line, as its number grows
SLACK = 4  # without holes, a log is moved when it exceeds its limit by a quarter
FIRST_S, BUSY_S, LONGEST_S = 1.0, 0.5, 10.0  # between two checks
LEAST_S = 0.05  # shortest pause, on a disk that is almost full
FASTEST = 8 << 30  # bytes a second of a program; the disk must not be full before the next check
CHUNK_BYTES = 1 << 20
_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02  # modes of fallocate
_NO_HOLES = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_NOTE = re.compile(rb"\n\[launcher left out ([0-9,]+) bytes here")


class LogLimit:
    """Keeps the log of one program below its limit, and room for its next lines."""

    def __init__(self, log: Path, limit: int, now: float) -> None:
        """Begin with a program that has just started.

        Args:
            log: its log.
            limit: bytes, or `NO_LIMIT`.
            now: monotonic seconds.
        """
        self._log, self._limit = log, limit
        self._head = self._tail_at = head_bytes(limit)
        self._left_out = self._size = 0  # bytes
        self._pause_s, self._has_holes = FIRST_S, True
        self._numbers = NumbersReader(log)
        self.check_at = now + FIRST_S  # monotonic

    def check(self, now: float) -> None:
        """Shorten the log and read its numbers if a check is due; the program may have deleted it."""
        if now < self.check_at:
            return
        before, room = self._size, FASTEST * LONGEST_S
        with suppress(OSError), open_descriptor(self._log, os.O_RDWR) as log:
            self._size = os.fstat(log).st_size
            self._numbers.read_backlog(log, self._size)
            self._shorten(log, self._size)
            disk = os.fstatvfs(log)
            room = float(disk.f_bavail * disk.f_frsize)
            if room > 2 * LOG_RESERVE_BYTES:  # the rest is for the records of the queue
                fallocate(log, _KEEP_SIZE, os.fstat(log).st_size, LOG_RESERVE_BYTES)
        limit = self._limit or self._size
        is_busy = self._size > limit or self._size - before > limit // 16
        self._pause_s = BUSY_S if is_busy else min(2 * self._pause_s, LONGEST_S)
        self.check_at = now + max(LEAST_S, min(self._pause_s, room / FASTEST))

    def finish(self) -> None:
        """Bring the log to its final length after the program has ended."""
        if self._limit == NO_LIMIT:
            return
        with suppress(OSError), open_descriptor(self._log, os.O_RDWR) as log:
            self._shorten(log, os.fstat(log).st_size)
            if self._tail_at > self._head:
                self._close_gap(log)

    def free_reserve(self) -> None:
        """Free the blocks behind the end of the log after the program has ended."""
        with suppress(OSError), open_descriptor(self._log, os.O_WRONLY) as log:
            os.ftruncate(log, os.fstat(log).st_size)

    def _shorten(self, log: int, size: int) -> None:
        """Leave out the middle of a log that is too long.

        Raises:
            OSError: the disk does not answer.
        """
        kept = self._limit - self._head
        tail_at = (size - kept) // BLOCK_BYTES * BLOCK_BYTES
        slack = 0 if self._has_holes else self._limit // SLACK
        if self._limit == NO_LIMIT or size <= self._limit + slack or tail_at <= self._tail_at:
            return
        self._numbers.read(log, size, end=tail_at)
        self._numbers.keep()
        self._left_out += tail_at - self._tail_at + (0 if self._left_out else NOTE_BYTES)
        self._tail_at = tail_at
        os.pwrite(log, _note(self._left_out, self._limit), self._head - NOTE_BYTES)
        try:
            punch_hole(log, self._head, tail_at)
        except OSError as error:
            if error.errno not in _NO_HOLES:
                raise
            self._has_holes = False
            self._close_gap(log)

    def _close_gap(self, log: int) -> None:
        """Move the last part of a log to its first part; if it is killed meanwhile, a piece is there twice.

        Raises:
            OSError: the disk does not answer.
        """
        read_at, write_at = self._tail_at, self._head
        most = read_at + 2 * self._limit  # a program may write as fast as we read
        while read_at < most and (data := os.pread(log, CHUNK_BYTES, read_at)):
            read_at += len(data)
            view = memoryview(data)
            while view:
                written = os.pwrite(log, view, write_at)
                view, write_at = view[written:], write_at + written
        os.ftruncate(log, write_at)
        self._numbers.move(self._tail_at - self._head)
        self._tail_at = self._head


class LogLimits:
    """Keeps the files of one program's output below their limit."""

    def __init__(self, attempt: Attempt, order: AttemptSpec, now: float) -> None:
        """Begin with a program that has just started; `now` is in monotonic seconds."""
        separate = order.spec.terms.stderr == SEPARATE
        files = (attempt.log, attempt.stderr) if separate else (attempt.log,)
        self._limits = [LogLimit(file, order.log_limit, now) for file in files]

    @property
    def check_at(self) -> float:
        """When the next check is due, in monotonic seconds."""
        return min(each.check_at for each in self._limits)

    def check(self, now: float) -> None:
        """Shorten the files whose check is due and that are too long."""
        for each in self._limits:
            each.check(now)

    def finish(self) -> None:
        """Bring the files to their final length after the program has ended."""
        for each in self._limits:
            each.finish()

    def free_reserve(self) -> None:
        """Free the blocks behind the ends of the files after the program has ended."""
        for each in self._limits:
            each.free_reserve()


def head_bytes(limit: int) -> int:
    """Return the length of the first part of a log, with the line about the bytes that were left out."""
    return limit // 2 // BLOCK_BYTES * BLOCK_BYTES


def _note(left_out: int, limit: int) -> bytes:
    text = (
        f"\n[launcher left out {left_out:,} bytes here: log_limit of config.toml is "
        f"{format_bytes(limit)}]"
    )
    return f"{text:<{NOTE_BYTES - 1}}\n".encode()


def offset_after_move(log: Path, offset: int, old_offset: int) -> tuple[int, int]:
    """Return where the output at an offset is after a log became shorter, and how many bytes of the log are left out.

    Args:
        log: log of an attempt.
        offset: before the last part was moved.
        old_offset: bytes that had been left out when it was moved before, 0 if it was not.

    Returns:
        Zeros if the log was shortened by its program.
    """
    with suppress(OSError, ValueError):
        head = head_bytes(read_attempt_spec(read_bytes(log.with_name(SPEC))).log_limit)
        with open_descriptor(log, os.O_RDONLY) as file:
            text = os.pread(file, NOTE_BYTES, max(0, head - NOTE_BYTES))
        if note := _NOTE.match(text):
            left_out = int(note[1].replace(b",", b""))
            shift = left_out - old_offset - (0 if old_offset else NOTE_BYTES)
            return max(head, offset - shift), left_out
    return 0, 0


def punch_hole(file: int, begin: int, end: int) -> None:
    """Free the blocks of a part of a file, which then reads as zeros; its length stays.

    Raises:
        OSError: the file system has no holes.
    """
    fallocate(file, _KEEP_SIZE | _PUNCH_HOLE, begin, end - begin)


def fallocate(file: int, mode: int, begin: int, length: int) -> None:
    """Change the blocks of a part of a file; see the manual of the system call.

    Raises:
        OSError: the disk is full, or the file system cannot do it.
    """
    try:
        import ctypes  # an attempt of less than a second does not need `ctypes`

        change = ctypes.CDLL(None, use_errno=True).fallocate
    except (ImportError, AttributeError) as error:  # a Python or a C library lacks the call
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from error
    if change(file, mode, *map(ctypes.c_longlong, (begin, length))) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
