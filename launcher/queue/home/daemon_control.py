"""How processes of ours find, wake and restart the scheduler; one lives per home."""

import contextlib
import errno
import os
import stat
import sys
import time
from functools import partial

from launcher.queue.home.paths import Home
from launcher.system.errors import MachineError
from launcher.system.files import open_descriptor, read_json, write_json
from launcher.system.locks import lock_file, lock_holder
from launcher.system.process_start import spawn_daemon
from launcher.system.processes import identity
from launcher.system.waiting import wait_until

MOST_RESTARTS = 3  # a scheduler that dies again and again must not be restarted for ever
RESTART_WINDOW_S = 300.0
RESTART_TIMEOUT_S = 5.0  # time for which one helper keeps the others from trying, too


def wake(home: Home) -> None:
    """Let a sleeping scheduler look around now; nothing happens when none lives."""
    try:
        with open_descriptor(home.wake_pipe, os.O_WRONLY | os.O_NONBLOCK) as descriptor:
            # a scheduler replaces any other file by a pipe
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
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
    return spawn_daemon(argv, home.scheduler_log)


def exit_code(child: int) -> int | None:
    """Return how a child of ours ended, or None while it runs."""
    try:
        ended, status = os.waitpid(child, os.WNOHANG)
    except ChildProcessError:  # our own parent has us ignore the ends of children
        return 0 if identity(child) is None else None
    return os.waitstatus_to_exitcode(status) if ended else None


def restart_scheduler(home: Home) -> None:
    """Start a scheduler if it died; called by helpers that outlive it, a few times at most.

    All helpers notice a death at once; one helper acts, so that one death counts once.
    """
    # MachineError: the home is not a folder any more
    with contextlib.suppress(OSError, MachineError):
        if not home.exists() or home.stop_record.exists() or scheduler_pid(home) is not None:
            return
        held = lock_file(home.revival_lock)
        if held is None:
            return
        try:
            _restart_until_alive(home)
        finally:
            os.close(held)


def _restart_until_alive(home: Home) -> None:
    while scheduler_pid(home) is None and _count_restart(home):
        child = start_scheduler(home)
        # one that is killed at once is a death of its own, which no other process may notice
        if not wait_until(partial(_has_started_or_ended, home, child), RESTART_TIMEOUT_S, 0.01):
            return


def _has_started_or_ended(home: Home, child: int) -> bool:
    return scheduler_pid(home) is not None or exit_code(child) is not None


def _count_restart(home: Home) -> bool:
    """Count one more restart; False when there were enough lately."""
    now = time.time()
    record = read_json(home.restarts) or {}
    times = record.get("times")
    recent = [
        at
        for at in (times if isinstance(times, list) else [])
        if isinstance(at, int | float) and 0 <= now - at < RESTART_WINDOW_S
    ]
    if len(recent) >= MOST_RESTARTS:
        return False
    write_json(home.restarts, {"schema": 1, "times": [*recent, now]}, mode=0o600)
    return True
