"""Processes that belong together, and how they are stopped and ended.

They belong together as descendants, by session, or by marks in the environment.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from launcher.system.files import read_bytes
from launcher.system.processes import (
    SESSION_FIELD,
    Identity,
    boot_id,
    identity,
    is_alive,
    is_stopped,
    parent_of,
    stat_fields,
)
from launcher.system.waiting import wait_until

_SCHEDULER = [b"-P", b"-m", b"launcher.scheduler"]  # words of the scheduler's command line
_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
ATTEMPT_VARIABLE = (
    "LAUNCHER_ATTEMPT"  # in the environment of all that belongs to an attempt: its folder
)
FORK_SERVER_VARIABLE = (
    # in the environment of a fork server and all its forks: the fork server's mark
    "LAUNCHER_SERVER"
)
STOP_PAUSE_S = 0.002  # seconds for a signal to arrive
# an exec takes less; few processes have no environment at all
EXEC_PAUSES_S = 0.001, 0.004, 0.015


def is_unreaped(process_identity: Identity) -> bool:
    """Return whether a process has ended but its fork server, or a fork of that server, has not reaped it."""
    parent = (
        None
        if process_identity.is_foreign_namespace or is_alive(process_identity)
        else parent_of(process_identity)
    )
    return parent is not None and _read_variable(parent, FORK_SERVER_VARIABLE) is not None


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, so that none escapes."""
    import ctypes  # 1 ms, only for processes that adopt others

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def descendants(pid: int, skip: Callable[[int], bool] = lambda _: False) -> list[int]:
    """Return the pids of all processes below `pid`, parents before children.

    Args:
        pid: where to begin.
        skip: which of them to leave out, with all that is below them.
    """
    pids: list[int] = []
    todo = [pid]
    while todo:
        below = [child for child in _child_pids(todo.pop()) if not skip(child)]
        pids += below
        todo += below
    return pids


def is_scheduler(pid: int) -> bool:
    """Return whether a process is a queue's scheduler."""
    try:
        words = read_bytes(f"/proc/{pid}/cmdline").split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return words[1:4] == _SCHEDULER


def may_serve(pid: int, home: Path) -> bool:
    """Return whether a process may be the scheduler of a home: not that of another one, by its command line."""
    try:
        words = read_bytes(f"/proc/{pid}/cmdline").split(b"\0")
        if words[1:4] != _SCHEDULER:  # launcher.scheduler runs in a process of another kind
            return True
        return home.samefile(os.fsdecode(words[4]))
    except (OSError, IndexError):  # the process has ended, or its home was moved or deleted
        return False


def is_foreign_descendant(pid: int, attempt: str) -> bool:
    """Return whether a process below this supervisor serves a queue, or belongs to another attempt.

    A command of an attempt may start a scheduler. When that dies, its fork servers, supervisors
    and their programs become children of the supervisor of that attempt.

    Args:
        pid: the process.
        attempt: the folder of this supervisor's attempt.
    """
    if is_scheduler(pid):
        return True
    server = _read_variable(pid, FORK_SERVER_VARIABLE)
    if server is not None:
        return server != os.environ.get(FORK_SERVER_VARIABLE, "")
    mark = _read_variable(pid, ATTEMPT_VARIABLE)
    return mark is not None and mark != attempt


def _read_variable(pid: int, name: str) -> str | None:
    """Return a variable as it was when a process began its program; None if it had none."""
    try:
        environment = read_bytes(f"/proc/{pid}/environ")
    except OSError:  # the process has ended, or belongs to another user
        return None
    start = os.fsencode(f"{name}=")
    texts = (entry[len(start) :] for entry in environment.split(b"\0") if entry.startswith(start))
    return next(map(os.fsdecode, texts), None)


def _child_pids(pid: int) -> list[int]:
    pids: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  # a Path per thread is slow
            pids += map(int, read_bytes(f"/proc/{pid}/task/{task}/children").split())
    except (FileNotFoundError, ProcessLookupError):
        pass  # the process ended while we looked
    return pids


def send_signal(pid: int, signal_number: signal.Signals) -> None:
    """Send a signal to a process that may be gone already, or another user's."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal_number)


def terminate(leader: int) -> None:
    """Send SIGTERM to a process group, or to a process that will lead one and does not yet."""
    try:
        os.killpg(leader, signal.SIGTERM)
    except (ProcessLookupError, PermissionError):
        send_signal(leader, signal.SIGTERM)


def stop_processes(pids: Callable[[], Iterable[int]], timeout_s: float) -> bool:
    """Stop processes and their new forks with SIGSTOP; return whether all of them are stopped.

    A signal arrives some time after it was sent, and its receiver may have forked by then. So the processes are listed
    again until all of them are stopped.

    Args:
        pids: returns all of them, parents before children.
        timeout_s: time limit.
    """

    def stop() -> bool:
        moving = [pid for pid in pids() if not is_stopped(pid)]
        for pid in moving:
            send_signal(pid, signal.SIGSTOP)
        return not moving

    return wait_until(stop, timeout_s, STOP_PAUSE_S)


def continue_processes(pids: Iterable[int]) -> None:
    """Continue processes that `stop_processes` has stopped; children before parents, which may watch them."""
    for pid in reversed([*pids]):
        send_signal(pid, signal.SIGCONT)


def end_session(leader: Identity, timeout_s: float = 1.0) -> None:
    """Kill the remaining processes of a dead session leader's session, and wait until they are gone.

    The kernel does not reuse a pid while a session has this number. So a living process with the
    leader's pid but another start time means that nothing is left. After a reboot, and in
    another PID namespace, the number means another session: nothing is killed then.
    """
    if leader.boot != boot_id() or leader.is_foreign_namespace:
        return
    there = identity(leader.pid)
    if there is not None and there != leader:
        return

    def kill() -> bool:
        left = session_processes(leader.pid)
        for pid in left:
            send_signal(pid, signal.SIGKILL)
        return not left

    wait_until(kill, timeout_s, 0.002)


def session_processes(leader: int) -> list[int]:
    """Return the pids of all that lives in the session of `leader`."""
    return [
        pid
        for pid in _all_pids()
        if (stat := stat_fields(pid)) and int(stat[SESSION_FIELD]) == leader
    ]


def processes_with_marker(folder: Path) -> list[Identity]:
    """Return the processes that carry an attempt's mark, the eldest first."""
    mark = os.fsencode(f"{ATTEMPT_VARIABLE}={folder}")
    processes = [
        who
        for pid in _all_pids()
        if mark in _read_environment(pid).split(b"\0") and (who := identity(pid))
    ]
    return sorted(processes, key=lambda who: (who.start_ticks, who.pid))


def _all_pids() -> list[int]:
    """Return the pids of all processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208  # a Path for each is slow


def _read_environment(pid: int) -> bytes:
    """Return the environment of a process; empty for another user's process, or one that has ended.

    In the middle of an exec a process has none for an instant, which would hide a program that was just spawned.
    """
    for pause_s in EXEC_PAUSES_S:
        try:
            environment = read_bytes(f"/proc/{pid}/environ")
            if environment or not os.path.exists(f"/proc/{pid}/exe"):  # noqa: PTH110  # one of hundreds of calls
                return environment
        except OSError:
            return b""
        time.sleep(pause_s)
    return b""
