"""Processes on Linux: identity, PID namespace, locks; what belongs together, and how it is ended.

They belong together as descendants, by session, or by marks in the environment.
"""

import _thread
import contextlib
import ctypes
import errno
import fcntl
import os
import pwd
import resource
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeVar

from launcher.system.cgroup_limits import cpu_quota
from launcher.system.files import Json, opened, read_bytes, read_record
from launcher.units import format_seconds

Answer = TypeVar("Answer")
_FLOCK = "hhqqi"  # struct flock of Linux on 64 bits: type, whence, start, length, pid
MOST_PID = 1 << 22  # the kernel gives no larger one, see proc(5) on pid_max
_HAS_SCHEMA = b'{"schema"'
LOCK_TRIES = 100  # at what others hold for milliseconds
_SCHEDULER = [b"-P", b"-m", b"launcher.scheduler"]  # of its command line
_PARENT, _SESSION, _START_TICKS = 1, 3, 19  # of /proc/<pid>/stat, counted from its third field


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A process that cannot be mistaken for a later one with the same pid."""

    pid: int
    start_ticks: int  # clock ticks from boot to its start, /proc/<pid>/stat field 22
    boot: str
    # in which its pid means it; None: an older version did not put that down
    namespace: int | None = field(default=None, compare=False)

    @property
    def elsewhere(self) -> bool:
        """Whether it belongs to another PID namespace, such as a container: it cannot be seen from here."""
        return self.namespace not in {None, pid_namespace()}

    def record(self) -> dict[str, Json]:
        """Return the identity as it is written to records."""
        return {
            "pid": self.pid,
            "start_ticks": self.start_ticks,
            "boot": self.boot,
            "namespace": self.namespace,
        }


@cache
def boot_id() -> str:
    """Return the kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def seconds_since_start(who: Identity) -> float | None:
    """Return how long ago a process started, by a clock that nobody sets; None: before the last boot."""
    if who.boot != boot_id():
        return None
    started = who.start_ticks / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


@cache
def login(uid: int) -> str:
    """Return a user's login name, or the uid where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@cache
def pid_namespace() -> int | None:
    """Return the inode of our PID namespace: a pid means one process within it; None: unknown.

    Source: namespaces(7).
    """
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return None


def core_mask() -> int:
    """Return the mask of the cores that this process may use."""
    return sum(1 << core for core in os.sched_getaffinity(0))


def cores(root: Path = Path("/")) -> int:
    """Return how many cores we may keep busy: our affinity, and our cgroups' quotas of CPU time."""
    allowed, quota = len(os.sched_getaffinity(0)), cpu_quota(root)
    return allowed if quota is None else max(1, min(allowed, int(quota.cores)))


def identity(pid: int, *, ended: bool = False) -> Identity | None:
    """Return who `pid` is now, or None when no such process lives (a zombie does not, but where `ended` counts, too)."""
    stat = _stat(pid, ended=ended)
    if stat is None:
        return None
    return Identity(
        pid=pid, start_ticks=int(stat[_START_TICKS]), boot=boot_id(), namespace=pid_namespace()
    )


def state_of(pid: int) -> str:
    """Return the letter of a process's state, such as S or D; '' for the dead and for zombies."""
    stat = _stat(pid)
    return "" if stat is None else stat[0]


def is_stopped(pid: int) -> bool:
    """Tell whether a process stands still, by a signal or a debugger, or is none any more.

    One that waits in the kernel and cannot be interrupted there does, too, once SIGSTOP is pending: it does nothing
    of its own before it has stopped. So does for ever the parent of a vfork whose child was stopped before its exec.
    """
    stat = _stat(pid)
    if stat is None or stat[0] in {"T", "t"}:
        return True
    return stat[0] == "D" and (_has(pid, "ShdPnd", signal.SIGSTOP) or _has_stopped_thread(pid))


def handles(pid: int, number: signal.Signals) -> bool:
    """Tell whether a process has a handler of its own for a signal."""
    return _has(pid, "SigCgt", number)


def _has(pid: int, mask: str, number: signal.Signals) -> bool:
    """Tell whether a signal is in one of the masks of /proc/<pid>/status."""
    try:
        status = read_bytes(f"/proc/{pid}/status").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    start = f"{mask}:"
    masks = (line[len(start) :] for line in status.splitlines() if line.startswith(start))
    return bool(int(next(masks, "0"), 16) >> (number - 1) & 1)


def _has_stopped_thread(pid: int) -> bool:
    """Tell whether a thread of a process has stopped: then the others will, and no signal is pending any more."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208  # a Path per thread is slow
    except (FileNotFoundError, ProcessLookupError):
        return False
    stats = (_stat(pid, f"task/{thread}/stat") for thread in threads)
    return any(stat is not None and stat[0] in {"T", "t"} for stat in stats)


def parent_of(who: Identity) -> int | None:
    """Return the parent of exactly this process, also when it has ended and was not collected; None: there is no such one."""
    stat = _stat(who.pid, ended=True)
    return int(stat[_PARENT]) if stat and identity(who.pid, ended=True) == who else None


def is_unnoticed(who: Identity) -> bool:
    """Tell whether a process has ended, and its fork server, or a fork of that, has still to take notice."""
    parent = None if who.elsewhere or alive(who) else parent_of(who)
    return parent is not None and _variable(parent, SERVER) is not None


def _stat(pid: int, file: str = "stat", *, ended: bool = False) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat from the third on, None for the dead and for zombies, but where `ended` counts."""
    try:
        stat = read_bytes(f"/proc/{pid}/{file}").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None  # one that may not be looked at is none of ours
    fields = stat[stat.rindex(")") + 2 :].split()  # a program's name may hold anything
    return None if fields[0] in {"Z", "X"} and not ended else fields


def recorded(record: dict[str, Json] | None) -> Identity | None:
    """Return the identity that a record holds, or None when it holds none."""
    match record:
        case {"pid": int(pid), "start_ticks": int(ticks), "boot": str(boot), **more} if (
            0 <= pid <= MOST_PID
        ):
            inode = more.get("namespace")
            namespace = inode if isinstance(inode, int) else None
            return Identity(pid=pid, start_ticks=ticks, boot=boot, namespace=namespace)
    return None


def alive(who: Identity) -> bool:
    """Tell whether exactly this process still runs: pid, its namespace, start time and boot agree."""
    return not who.elsewhere and identity(who.pid) == who


def open_pidfd(who: Identity) -> int | None:
    """Return a descriptor that becomes readable when `who` ends, or None when it has ended.

    Raises:
        OSError: there are too many open files.
    """
    try:
        descriptor = os.pidfd_open(who.pid)
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:  # it may live
            raise
        return None  # it has ended; or 0, which is no process
    if alive(who):  # checked after opening: the descriptor cannot be another's any more
        return descriptor
    os.close(descriptor)
    return None


def lock(path: Path) -> int | None:
    """Take the exclusive lock on `path` until the returned descriptor or the process ends.

    A record lock is not inherited by a fork, so a child never keeps its parent's lock alive.
    Returns None when another process holds it. Never open the same path again while holding it:
    closing any descriptor of a file gives up the process's locks on it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def live_in(folder: Path) -> int | None:
    """Show to all, in other containers too, that a folder is in use, until we and all forks of us end.

    While it is shown, systemd-tmpfiles deletes nothing in the folder (tmpfiles.d(5), on aging).
    Returns None where the file system has no such locks, or this one is held for long.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:  # another process checks whether it is inhabited, or cleans up
            time.sleep(0.01)
        except OSError:
            break
        else:
            return descriptor
    os.close(descriptor)
    return None


def inhabited(folder: Path) -> bool:
    """Tell whether a process holds a folder by `live_in`; none of these processes may ask."""
    try:
        with opened(folder, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    return False


def lock_holder(path: Path) -> int | None:
    """Return the pid that holds the lock on `path`, without touching the lock."""
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        with opened(path, os.O_RDONLY) as descriptor:
            answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, asked)
    except FileNotFoundError:
        return None
    kind, _, _, _, pid = struct.unpack(_FLOCK, answer)
    return None if kind == fcntl.F_UNLCK else pid


def identity_lines(started: bytes) -> list[bytes]:
    """Return the lines of an attempt's `started` that name processes, or void it.

    The others, its order and its outcome, tell by which schema they are to be read.
    """
    return [line for line in started.splitlines() if line and not line.startswith(_HAS_SCHEMA)]


def read_identity(line: bytes) -> Identity | None:
    """Read a process from its line of an attempt's `started`; None where that is no such line."""
    return recorded(read_record(line))


_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
MARK = "LAUNCHER_ATTEMPT"  # in the environment of all that belongs to an attempt: its folder
SERVER = "LAUNCHER_SERVER"  # in that of a fork server and all its forks: which fork server it is
SPARE_FILES = 24  # for what is open for a moment: the queue's database, an engine's answer
_raised_from: list[int] = []  # our limits of open files before we raised them
STOP_PAUSE_S = 0.002  # for a signal to arrive
EXEC_PAUSES_S = (
    0.001,
    0.004,
    0.015,
)  # an exec takes less; few processes have no environment at all


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, so that none escapes."""
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
        below = [child for child in _children(todo.pop()) if not skip(child)]
        pids += below
        todo += below
    return pids


def is_scheduler(pid: int) -> bool:
    """Tell whether a process is a queue's scheduler."""
    try:
        words = read_bytes(f"/proc/{pid}/cmdline").split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return words[1:4] == _SCHEDULER


def serves(pid: int, home: Path) -> bool:
    """Return whether a process may be the scheduler of a home: not that of another one, by its command line."""
    try:
        words = read_bytes(f"/proc/{pid}/cmdline").split(b"\0")
        if words[1:4] != _SCHEDULER:  # it is run in a process of another kind
            return True
        return home.samefile(os.fsdecode(words[4]))
    except (OSError, IndexError):  # it has ended, or its home was moved away or deleted
        return False


def is_foreign(pid: int, attempt: str) -> bool:
    """Tell whether a process below this supervisor serves a queue, or belongs to another attempt.

    A command of an attempt may start a scheduler. When that dies, its fork servers, supervisors
    and their programs become children of the supervisor of that attempt.

    Args:
        pid: the process.
        attempt: the folder of this supervisor's attempt.
    """
    if is_scheduler(pid):
        return True
    server = _variable(pid, SERVER)
    if server is not None:
        return server != os.environ.get(SERVER, "")
    mark = _variable(pid, MARK)
    return mark is not None and mark != attempt


def _variable(pid: int, name: str) -> str | None:
    """Return a variable as it was when a process began its program, None where it had none."""
    try:
        environment = read_bytes(f"/proc/{pid}/environ")
    except OSError:  # it has ended, or is another user's
        return None
    start = os.fsencode(f"{name}=")
    texts = (entry[len(start) :] for entry in environment.split(b"\0") if entry.startswith(start))
    return next(map(os.fsdecode, texts), None)


def _children(pid: int) -> list[int]:
    pids: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  # a Path per thread is slow
            pids += map(int, read_bytes(f"/proc/{pid}/task/{task}/children").split())
    except (FileNotFoundError, ProcessLookupError):
        pass  # it ended while we looked
    return pids


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone already, or another user's."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def terminate(leader: int) -> None:
    """Send SIGTERM to a process group, or to a process that will lead one and does not yet."""
    try:
        os.killpg(leader, signal.SIGTERM)
    except (ProcessLookupError, PermissionError):
        send(leader, signal.SIGTERM)


def stop_all(pids: Callable[[], Iterable[int]], patience_s: float) -> bool:
    """Stop processes with SIGSTOP, and those that they fork meanwhile; tell whether all of them stand still.

    A signal arrives some time after it was sent, and who got it may have forked by then: so all are looked for
    again until each is seen to stand still.

    Args:
        pids: returns all of them, parents before children.
        patience_s: how long at most.
    """
    deadline = time.monotonic() + patience_s
    while moving := [pid for pid in pids() if not is_stopped(pid)]:
        if time.monotonic() >= deadline:
            return False
        for pid in moving:
            send(pid, signal.SIGSTOP)
        time.sleep(STOP_PAUSE_S)
    return True


def go_on(pids: Iterable[int]) -> None:
    """Let processes go on that `stop_all` has stopped: children before parents, who may look after them."""
    for pid in reversed([*pids]):
        send(pid, signal.SIGCONT)


def end_session(leader: Identity, patience_s: float = 1.0) -> None:
    """Kill what a dead session leader left in its session, and see it gone.

    A number is not given to a new process while it still names a session, so a living process with
    the leader's pid but another start time means that nothing is left. After a reboot, and in
    another PID namespace, the number means another session: nothing is killed then.
    """
    if leader.boot != boot_id() or leader.elsewhere:
        return
    there = identity(leader.pid)
    if there is not None and there != leader:
        return
    deadline = time.monotonic() + patience_s
    while (left := session(leader.pid)) and time.monotonic() < deadline:
        for pid in left:
            send(pid, signal.SIGKILL)
        time.sleep(0.002)


def session(leader: int) -> list[int]:
    """Return the pids of all that lives in the session of `leader`."""
    return [pid for pid in _pids() if (stat := _stat(pid)) and int(stat[_SESSION]) == leader]


def marked(folder: Path) -> list[Identity]:
    """Return the processes that carry an attempt's mark, the eldest first."""
    mark = os.fsencode(f"{MARK}={folder}")
    processes = [
        who
        for pid in _pids()
        if mark in _environment_of(pid).split(b"\0") and (who := identity(pid))
    ]
    return sorted(processes, key=lambda who: (who.start_ticks, who.pid))


def _pids() -> list[int]:
    """Return the pids of all processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208  # a Path for each is slow


def _environment_of(pid: int) -> bytes:
    """Return what a process has in its environment; nothing of another user's, or of one that has ended.

    In the middle of an exec a process has none for an instant, which would hide a program that was just spawned.
    """
    for pause_s in EXEC_PAUSES_S:
        try:
            environment = read_bytes(f"/proc/{pid}/environ")
            if environment or not os.path.exists(f"/proc/{pid}/exe"):  # noqa: PTH110  # of hundreds of processes
                return environment
        except OSError:
            return b""
        time.sleep(pause_s)
    return b""


def short_of_files() -> str:
    """Return why nothing may be opened that stays open, '' where there is room; the limit is raised where it can be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)  # the kernel gives the lowest number that is free
    os.close(lowest)
    if soft == resource.RLIM_INFINITY or lowest < soft - SPARE_FILES:
        return ""
    if hard == resource.RLIM_INFINITY or soft < hard:
        more = 4 * soft if hard == resource.RLIM_INFINITY else min(hard, 4 * soft)
        _raised_from.append(soft)
        resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
        return ""
    return f"the scheduler may open only {soft:,} files (ulimit -n); each running job needs one"


def start_apart(
    argv: Sequence[str],
    log: Path,
    *,
    keep: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
) -> int:
    """Start a background process of ours and return its pid: own session, no terminal.

    Args:
        argv: the program, as an absolute path, and its arguments.
        log: its output is appended here.
        keep: descriptors that it inherits under the same numbers.
        environment: what is added to our own environment.
    """
    # a caller's pipe or lock must not stay open for as long as we live; one above the limit of open files, which was
    # lowered since, cannot be among the actions of a spawn
    for descriptor in {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2}:  # noqa: PTH208
        with contextlib.suppress(OSError):  # that of the listing itself is closed again
            os.set_inheritable(descriptor, descriptor in keep)
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # what we have raised is ours: a program may close all that it could have open
    resource.setrlimit(resource.RLIMIT_NOFILE, (min([soft, *_raised_from]), hard))
    try:
        return _spawn_apart(argv, log, append, environment)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _spawn_apart(
    argv: Sequence[str], log: Path, append: int, environment: Mapping[str, str] | None
) -> int:
    return os.posix_spawn(
        argv[0],
        list(argv),
        # what a job's own command starts does not belong to the job
        {key: text for key, text in os.environ.items() if key != MARK} | dict(environment or {}),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
    )


def answer(argv: Sequence[str], patience_s: float) -> str:
    """Return what a program says within a time; what it complains of where it says nothing."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=patience_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {format_seconds(patience_s)}"
    except OSError as error:
        return error.strerror or str(error)
    return done.stdout or done.stderr


class StopEvent(threading.Event):
    """An event that a signal handler may set.

    A handler runs in the main thread, between two of its instructions, and so it may be within `wait`: there it would
    wait for ever for the lock that its own thread holds.
    """

    def __init__(self) -> None:
        """Begin unset."""
        super().__init__()
        self._asked = False

    def is_set(self) -> bool:
        """Tell whether it was set, at once."""
        return self._asked

    def set(self) -> None:
        """Set it; who waits is woken by another thread."""
        self._asked = True
        try:
            _thread.start_new_thread(super().set, ())
        except RuntimeError:  # no thread can be started
            super().set()


def in_time(
    questions: Mapping[str, Callable[[], Answer]], patience_s: float
) -> Mapping[str, Answer]:
    """Return by name what questions answer that are all asked at once; one that hangs is left alone after a time."""
    answers: dict[str, Answer] = {}

    def ask(name: str) -> None:
        answers[name] = questions[name]()

    # daemon threads, which do not delay the exit: a question may never return
    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in questions]
    for thread in threads:
        thread.start()
    end = time.monotonic() + patience_s
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return answers.copy()
