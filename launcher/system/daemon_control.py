"""How processes of ours find, wake and restart the scheduler; one lives per home.

The right to serve a home is a locked file, which anybody may delete while it is held. Its scheduler sleeps until
something it watches has news, it is woken, or it is time.
"""

import contextlib
import errno
import os
import select
import signal
import stat
import sys
import time
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import launcher
from launcher.errors import MachineError
from launcher.system.files import Json, last_lines, opened, read_json, write_json
from launcher.system.paths import Home, check_home
from launcher.system.processes import (
    alive,
    identity,
    lock,
    lock_holder,
    recorded,
    send,
    serves,
    start_apart,
)

if TYPE_CHECKING:
    from packaging import version


class Version(NamedTuple):
    """A launcher as it is installed.

    Any number of installations on one queue folder have one order, so none takes a scheduler back
    that it has handed over.
    """

    text: str  # as PEP 440 has it, such as 0.3.0.dev1
    changed: int  # ns since 1970, when its youngest file was written; 0: not recorded

    def is_newer_than(self, other: "Version") -> bool:
        """Whether its number is higher or, if both have the same number, its code was changed later."""
        if self.has_higher_number_than(other):
            return True
        return self.changed > other.changed and not other.has_higher_number_than(self)

    def has_higher_number_than(self, other: "Version") -> bool:
        """Whether its version number is higher."""
        return self.text != other.text and _ordered(self.text) > _ordered(other.text)


def _ordered(text: str) -> "version.Version":
    """Return a version as PEP 440 orders it; an invalid one is older than all others."""
    from packaging import version  # 6 ms, only while two versions meet

    try:
        return version.Version(text)
    except version.InvalidVersion:
        return version.Version("0.dev0")


def this_version() -> Version:
    """Return the version of the code that runs here."""
    return Version(launcher.__version__, _youngest())


def version_of(record: Mapping[str, Json]) -> Version:
    """Return the version of a scheduler, as its record tells it."""
    changed = record.get("code")
    return Version(str(record.get("version", "")), changed if isinstance(changed, int) else 0)


@cache
def _youngest() -> int:
    """Return when the youngest file of our own code was written, in ns since 1970."""
    root = Path(launcher.__file__).parent
    files = [file for pattern in ("**/*.py", "**/*.sql") for file in root.glob(pattern)]
    return max((file.stat().st_mtime_ns for file in files), default=0)


START_TIMEOUT_S = 15.0
REVIVALS = 3  # a scheduler that dies again and again must not be restarted for ever
REVIVAL_WINDOW_S = 300.0
REVIVAL_PATIENCE_S = 5.0  # how long one helper keeps the others from trying, too


def wake(home: Home) -> None:
    """Let a sleeping scheduler look around now; nothing happens when none lives."""
    try:
        with opened(home.wake, os.O_WRONLY | os.O_NONBLOCK) as descriptor:
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):  # else a scheduler makes a pipe of it
                os.write(descriptor, b".")
    except OSError as error:
        # EAGAIN: the pipe is full, it is awake already; EPIPE: it was killed just now
        if error.errno not in {errno.ENXIO, errno.ENOENT, errno.EISDIR, errno.EAGAIN, errno.EPIPE}:
            raise


def scheduler_pid(home: Home) -> int | None:
    """Return the living scheduler's pid, or None."""
    return lock_holder(home.scheduler_lock)


def start_scheduler(home: Home) -> int:
    """Start a scheduler in the background and return its pid; a second one leaves by itself."""
    argv = [sys.executable, "-P", "-m", "launcher.scheduler", str(home.folder)]
    return start_apart(argv, home.scheduler_log)


def ensure_scheduler(home: Home) -> int:
    """Return the pid of a scheduler of this version or a newer one, started if none lives.

    Raises:
        MachineError: it does not come up; the message ends with its last output.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    starting: int | None = None
    while time.monotonic() < deadline:
        pid = scheduler_pid(home)
        if pid == 0:  # it cannot be seen from here, as it lives in another container
            check_home(home)
        if pid is not None:
            record = read_json(home.scheduler_record) or {}
            if record.get("pid") != pid:
                wake(home)  # its record was deleted: it writes another
                if time.monotonic() > deadline - START_TIMEOUT_S / 2:
                    return pid  # the disk is too full for its record
            elif "left" in record:
                pass  # it is on its way out
            elif not this_version().is_newer_than(version_of(record)):
                return pid
            else:
                send(pid, signal.SIGTERM)  # an older one hands over; its jobs run on
        elif starting is None:
            starting = start_scheduler(home)
        if starting is not None and (code := _exit_code(starting)) is not None:
            if code > 0:
                break
            starting = None  # it left to another one, or was killed
        time.sleep(0.005)
    raise MachineError(
        f"the scheduler does not start. Its log {home.scheduler_log} ends with:\n"
        + ("\n".join(last_lines(home.scheduler_log, 5)) or "(no log)")
    )


def _exit_code(child: int) -> int | None:
    """Return how a child of ours ended, or None while it runs."""
    try:
        ended, status = os.waitpid(child, os.WNOHANG)
    except ChildProcessError:  # our own parent has us ignore the ends of children
        return 0 if identity(child) is None else None
    return os.waitstatus_to_exitcode(status) if ended else None


def revive(home: Home) -> None:
    """Start a scheduler if it died; called by helpers that outlive it, a few times at most.

    All helpers notice a death at once; one of them acts, so that one death counts once.
    """
    with contextlib.suppress(OSError, MachineError):  # MachineError: the home is no folder any more
        if not home.exists() or home.stop.exists() or scheduler_pid(home) is not None:
            return
        held = lock(home.revival_lock)
        if held is None:
            return
        try:
            _start_again(home)
        finally:
            os.close(held)


def _start_again(home: Home) -> None:
    while scheduler_pid(home) is None and _may_start_again(home):
        child = start_scheduler(home)
        deadline = time.monotonic() + REVIVAL_PATIENCE_S
        # one that is killed at once is a death of its own, which no other process may notice
        while scheduler_pid(home) is None and _exit_code(child) is None:
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)


def _may_start_again(home: Home) -> bool:
    """Count one more restart; False when there were enough lately."""
    now = time.time()
    record = read_json(home.restarts) or {}
    times = record.get("times")
    recent = [
        at
        for at in (times if isinstance(times, list) else [])
        if isinstance(at, int | float) and 0 <= now - at < REVIVAL_WINDOW_S
    ]
    if len(recent) >= REVIVALS:
        return False
    write_json(home.restarts, {"schema": 1, "times": [*recent, now]}, mode=0o600)
    return True


PATIENCE_S = 1.0  # a predecessor may still be on its way out
LOOK_S = 0.02


class Right:
    """The right of one process to serve a home; given up with the process, or by `leave`."""

    def __init__(self, home: Home) -> None:
        """Hold nothing yet."""
        self._home = home
        self._held: list[int] = []

    def take(self) -> bool:
        """Take the right; False when another process has it.

        A scheduler whose lock file was deleted serves on without it: it is known by its record.
        """
        deadline = time.monotonic() + PATIENCE_S
        while (held := lock(self._home.scheduler_lock)) is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_S)
        self._held.append(held)
        while self._other_serves():
            if time.monotonic() > deadline:
                self.leave()
                wake(self._home)  # it locks the new file then
                return False
            time.sleep(LOOK_S)
        return True

    def keep(self) -> bool:
        """See that the file which is locked is the one that others see; False when another serves."""
        try:
            there = self._home.scheduler_lock.stat()
        except FileNotFoundError:
            there = None
        if there is not None and os.path.samestat(there, os.fstat(self._held[-1])):
            return True
        held = lock(self._home.scheduler_lock)
        if held is None:  # who has it looks for us, and leaves where our record tells of us
            return not self._other_serves()
        self._held.append(held)  # the old one is kept, too: closing it would take time
        return True

    def leave(self) -> None:
        """Give the right up."""
        for held in self._held:
            os.close(held)
        self._held.clear()

    def _other_serves(self) -> bool:
        record = read_json(self._home.scheduler_record)
        who = recorded(record)
        if record is None or who is None or "left" in record:
            return False
        # the record in a copied home names the scheduler of the original
        return who.pid != os.getpid() and alive(who) and serves(who.pid, self._home.folder)


RING = b"."


class Sleeper:
    """A poll over descriptors, and a pipe in the home by which everybody can end it."""

    def __init__(self, home: Home) -> None:
        """Open the pipe."""
        self._path = home.wake
        self._pipe = _pipe_at(home.wake)
        self._poll, self._polled = select.poll(), set[int]()
        self.news: set[int] | None = None  # descriptors that have some; None: look at all

    def mend(self) -> None:
        """See that the pipe which is watched is the one that others see.

        Raises:
            OSError: there is none, and none can be made.
        """
        try:
            if os.path.samestat(self._path.stat(), os.fstat(self._pipe)):
                return
        except FileNotFoundError:
            pass
        fresh = _pipe_at(self._path)
        # under the old number: a signal handler may ring just now
        os.dup2(fresh, self._pipe, inheritable=False)
        os.close(fresh)

    def ring_at_signals(self) -> None:
        """Let every signal that has a handler end the sleep, for a process's main thread.

        A handler in Python runs between two steps of a program: one whose signal comes after the last
        step before a sleep begins would run after that sleep. Python's own handler rings at once.
        """
        signal.set_wakeup_fd(self._pipe, warn_on_full_buffer=False)

    def ring(self) -> None:
        """End the sleep, from a signal handler or another thread, too."""
        with contextlib.suppress(OSError):  # it is full: it was rung already
            os.write(self._pipe, RING)

    def has_news(self, within_s: float = 0.0) -> bool:
        """Tell whether one of the descriptors that were watched last has news now, or gets it soon."""
        return bool(self._poll.poll(within_s * 1000))

    def sleep(self, descriptors: Iterable[int], timeout_s: float) -> bool:
        """Sleep until one of them has news; return whether it was for another reason, or for a ring.

        Args:
            descriptors: to be watched.
            timeout_s: the longest time.
        """
        here = {self._pipe, *descriptors}
        for gone in self._polled - here:
            self._poll.unregister(gone)
        for new in here - self._polled:
            self._poll.register(new, select.POLLIN)
        self._polled = here
        self.news = {descriptor for descriptor, _ in self._poll.poll(timeout_s * 1000)}
        rung = self._pipe in self.news
        if rung:
            with contextlib.suppress(BlockingIOError):
                os.read(self._pipe, 4096)
        return rung or not self.news


def _pipe_at(path: Path) -> int:
    """Open a named pipe, made where there is none; what else has its name gets another one."""
    while True:
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        if stat.S_ISFIFO(path.lstat().st_mode):
            # read-write: without a writer of our own the pipe would be at its end all the time
            return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        path.rename(path.with_name(f"{path.name}.{os.urandom(4).hex()}"))
