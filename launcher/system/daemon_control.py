"""How processes of ours find, wake and restart the scheduler; one lives per home."""

import contextlib
import errno
import os
import re
import signal
import stat
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import launcher
from launcher.errors import MachineError
from launcher.system.files import Json, read_json, write_json
from launcher.system.paths import Home, check_home
from launcher.system.process_tree import send, start_apart
from launcher.system.processes import identity, lock, lock_holder


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A launcher as it is installed; the larger one is newer.

    Of two with the same number, as while one is developed, that with the younger file of code is
    newer. So any number of installations on one home have one order, and none takes a scheduler
    back that it has handed over.
    """

    number: tuple[int, ...]
    final: bool  # not a.1, b2, rc1 or .dev3
    suffix: str
    changed: int  # ns since 1970, when its youngest file was written; 0: not recorded


def this_version() -> Version:
    """Return the version of the code that runs here."""
    return _version(launcher.__version__, _youngest())


def version_of(record: Mapping[str, Json]) -> Version:
    """Return the version of a scheduler, as its record tells it."""
    changed = record.get("code")
    return _version(str(record.get("version", "")), changed if isinstance(changed, int) else 0)


def _version(text: str, changed: int) -> Version:
    match = re.match(r"(\d+(?:\.\d+)*)(.*)", text)
    numbers = [int(number) for number in match[1].split(".")] if match else []
    while numbers and not numbers[-1]:  # 0.3 and 0.3.0 are the same
        numbers.pop()
    suffix = match[2] if match else text
    early = re.match(r"[.-]?(a|b|rc|dev|alpha|beta)", suffix) is not None
    return Version(tuple(numbers), not early, suffix, changed)


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
        descriptor = os.open(home.wake, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ENXIO, errno.ENOENT, errno.EISDIR}:
            return
        raise
    try:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):  # else a scheduler makes a pipe of it
            os.write(descriptor, b".")
    except BlockingIOError:
        pass  # the pipe is full: it is awake already
    finally:
        os.close(descriptor)


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
            elif version_of(record) >= this_version():
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
        f"the scheduler does not start; its log {home.scheduler_log} ends with:\n"
        + _tail(home.scheduler_log)
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


def _tail(log: Path, lines: int = 5) -> str:
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"
