"""The sleep of a scheduler or pilot: it ends when a watched descriptor is ready, by a wake-up, or after a time."""

import contextlib
import os
import select
import signal
import stat
from collections.abc import Iterable
from pathlib import Path

WAKE_BYTE = b"."


class WakeupPipe:
    """A poll over descriptors, and a pipe by which signals, threads and other processes can end it.

    `selectors` has no poll that keeps its registrations and returns numbers, which a scheduler needs in each cycle.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open the pipe.

        Args:
            path: a named pipe, to which other processes can write. None: the pipe has no name.
        """
        self._path = path
        if path is None:
            self._pipe, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        else:
            self._pipe = self._write_end = _open_pipe(path)
        self._poll, self._registered = select.poll(), set[int]()
        self.ready_descriptors: set[int] | None = (
            None  # ready descriptors; None: all are to be polled
        )

    def reopen_pipe(self) -> None:
        """See that the named pipe which is watched is the one that others see.

        Raises:
            OSError: there is none, and none can be made.
        """
        assert self._path is not None
        try:
            if os.path.samestat(self._path.stat(), os.fstat(self._pipe)):
                return
        except FileNotFoundError:
            pass
        fresh = _open_pipe(self._path)
        # under the old number: a signal handler may ring just now
        os.dup2(fresh, self._pipe, inheritable=False)
        os.close(fresh)

    def wake_on_signals(self) -> None:
        """Let every signal that has a handler end the sleep, for a process's main thread.

        A handler in Python runs between two steps of a program: one whose signal comes after the last
        step before a sleep begins would run after that sleep. Python's own handler rings at once.
        """
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)

    def wake_up(self) -> None:
        """End the sleep, from a signal handler or another thread, too."""
        with contextlib.suppress(OSError):  # it is full: it was rung already
            os.write(self._write_end, WAKE_BYTE)

    def is_ready(self, within_s: float = 0.0) -> bool:
        """Return whether one of the descriptors watched last is ready, or becomes ready within a time."""
        return bool(self._poll.poll(within_s * 1000))

    def poll_until(self, descriptors: Iterable[int], timeout_s: float) -> bool:
        """Sleep until one of them has news; return whether it was for another reason, or for a ring.

        Args:
            descriptors: descriptors to be watched.
            timeout_s: the longest time.
        """
        here = {self._pipe, *descriptors}
        for gone in self._registered - here:
            self._poll.unregister(gone)
        for new in here - self._registered:
            self._poll.register(new, select.POLLIN)
        self._registered = here
        self.ready_descriptors = {descriptor for descriptor, _ in self._poll.poll(timeout_s * 1000)}
        rung = self._pipe in self.ready_descriptors
        if rung:
            with contextlib.suppress(BlockingIOError):
                os.read(self._pipe, 4096)
        return rung or not self.ready_descriptors


def _open_pipe(path: Path) -> int:
    """Open a named pipe, and create it if it is missing; a file of another type with its name is renamed."""
    while True:
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        if stat.S_ISFIFO(path.lstat().st_mode):
            # read-write: without a writer of our own the pipe would be at its end all the time
            return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        path.rename(path.with_name(f"{path.name}.{os.urandom(4).hex()}"))
