"""Facts about processes on Linux: identity, PID namespace, locks."""

import fcntl
import json
import os
import signal
import struct
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from launcher.system.files import Json, read_bytes

_FLOCK = "hhqqi"  # struct flock of Linux on 64 bits: type, whence, start, length, pid
MOST_PID = 1 << 22  # the kernel gives no larger one, see proc(5) on pid_max
_HAS_SCHEMA = b'{"schema"'
LOCK_TRIES = 100  # at what others hold for milliseconds
_SESSION, _START_TICKS = 3, 19  # of /proc/<pid>/stat, counted from its third field


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


def cores() -> int:
    """Return how many cores we may keep busy: our affinity, and our cgroup's quota of CPU time."""
    allowed = len(os.sched_getaffinity(0))
    quota = _quota()
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def _quota(cgroup: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the cores' worth of CPU time that our cgroup gets, None where there is no limit."""
    try:
        if (cgroup / "cpu.max").exists():
            most, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        else:
            most = (cgroup / "cpu/cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text(encoding="ascii")
        return int(most) / int(period) if int(most) > 0 else None
    except (OSError, ValueError):  # "max", or no such file
        return None


def identity(pid: int) -> Identity | None:
    """Return who `pid` is now, or None when no such process lives (a zombie does not)."""
    stat = _stat(pid)
    if stat is None:
        return None
    return Identity(
        pid=pid, start_ticks=int(stat[_START_TICKS]), boot=boot_id(), namespace=pid_namespace()
    )


def session_id(pid: int) -> int | None:
    """Return the pid of the leader of a process's session, None where there is no such process."""
    stat = _stat(pid)
    return None if stat is None else int(stat[_SESSION])


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


def _stat(pid: int, file: str = "stat") -> list[str] | None:
    """Return the fields of /proc/<pid>/stat from the third on, None for the dead and zombies."""
    try:
        stat = read_bytes(f"/proc/{pid}/{file}").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None  # one that may not be looked at is none of ours
    fields = stat[stat.rindex(")") + 2 :].split()  # a program's name may hold anything
    return None if fields[0] in {"Z", "X"} else fields


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
    """Return a descriptor that becomes readable when `who` ends, or None when it has ended."""
    try:
        descriptor = os.pidfd_open(who.pid)
    except OSError:  # it has ended; or 0, which is no process
        return None
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
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def lock_holder(path: Path) -> int | None:
    """Return the pid that holds the lock on `path`, without touching the lock."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, asked)
    finally:
        os.close(descriptor)
    kind, _, _, _, pid = struct.unpack(_FLOCK, answer)
    return None if kind == fcntl.F_UNLCK else pid


def identity_lines(started: bytes) -> list[bytes]:
    """Return the lines of an attempt's `started` that name processes, or void it.

    The others, its order and its outcome, tell by which schema they are to be read.
    """
    return [line for line in started.splitlines() if line and not line.startswith(_HAS_SCHEMA)]


def read_identity(line: bytes) -> Identity | None:
    """Read a process from its line of an attempt's `started`; None where that is no such line."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return recorded(record) if isinstance(record, dict) else None
