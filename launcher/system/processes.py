"""Processes on Linux: their identity and their state."""

import errno
import os
import pwd
import resource
import signal
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from launcher.system.cgroup_limits import cpu_quota
from launcher.system.files import Json, read_bytes, read_record

MOST_PID = 1 << 22  # the kernel gives no larger one, see proc(5) on pid_max
_HAS_SCHEMA = b'{"schema"'
_PARENT, SESSION_FIELD, _START_TICKS = 1, 3, 19  # fields of /proc/<pid>/stat, counted from field 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A process that cannot be mistaken for a later one with the same pid."""

    pid: int
    start_ticks: int  # clock ticks from boot to the process's start, /proc/<pid>/stat field 22
    boot: str
    # in which its pid means it; None: unknown
    namespace: int | None = field(default=None, compare=False)

    @property
    def is_foreign_namespace(self) -> bool:
        """Whether it belongs to another PID namespace, such as a container: it cannot be seen from here."""
        return self.namespace not in {None, pid_namespace()}

    def to_json(self) -> dict[str, Json]:
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


def seconds_since_start(process_identity: Identity) -> float | None:
    """Return how long ago a process started, by a clock that cannot be set; None if before the last boot."""
    if process_identity.boot != boot_id():
        return None
    started = process_identity.start_ticks / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


@cache
def login_name(uid: int) -> str:
    """Return a user's login name, or the uid where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@cache
def pid_namespace() -> int | None:
    """Return the inode of our PID namespace, within which a pid means one process; None if unknown.

    Source: namespaces(7).
    """
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return None


def core_mask() -> int:
    """Return the mask of the cores that this process may use."""
    return sum(1 << core for core in os.sched_getaffinity(0))


def usable_cores(root: Path = Path("/")) -> int:
    """Return how many cores we may keep busy: our affinity, and our cgroups' quotas of CPU time."""
    allowed, quota = len(os.sched_getaffinity(0)), cpu_quota(root)
    return allowed if quota is None else max(1, min(allowed, int(quota.cores)))


def children_cpu_s() -> float:
    """Return the CPU time of all our children that we have waited for, and of theirs, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def identity(pid: int, *, include_ended: bool = False) -> Identity | None:
    """Return the identity of `pid`; None if no such process lives. Zombies count only with `include_ended`."""
    stat = stat_fields(pid, include_ended=include_ended)
    if stat is None:
        return None
    return Identity(
        pid=pid, start_ticks=int(stat[_START_TICKS]), boot=boot_id(), namespace=pid_namespace()
    )


def state_of(pid: int) -> str:
    """Return the letter of a process's state, such as S or D; '' for the dead and for zombies."""
    stat = stat_fields(pid)
    return "" if stat is None else stat[0]


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped by a signal or a debugger, or has ended.

    A process in an uninterruptible wait of the kernel counts as stopped once SIGSTOP is pending, because it stops
    before it executes further. The parent of a vfork whose child was stopped before its exec stays in this state.
    """
    stat = stat_fields(pid)
    if stat is None or stat[0] in {"T", "t"}:
        return True
    return stat[0] == "D" and (
        _is_in_signal_mask(pid, "ShdPnd", signal.SIGSTOP) or _has_stopped_thread(pid)
    )


def has_signal_handler(pid: int, signal_number: signal.Signals) -> bool:
    """Return whether a process has a handler of its own for a signal."""
    return _is_in_signal_mask(pid, "SigCgt", signal_number)


def _is_in_signal_mask(pid: int, mask: str, signal_number: signal.Signals) -> bool:
    """Return whether a signal is in one of the masks of /proc/<pid>/status."""
    try:
        status = read_bytes(f"/proc/{pid}/status").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    start = f"{mask}:"
    masks = (line[len(start) :] for line in status.splitlines() if line.startswith(start))
    return bool(int(next(masks, "0"), 16) >> (signal_number - 1) & 1)


def _has_stopped_thread(pid: int) -> bool:
    """Return whether a thread of a process has stopped; then the others will too, and no signal is pending any more."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208  # a Path per thread is slow
    except (FileNotFoundError, ProcessLookupError):
        return False
    stats = (stat_fields(pid, f"task/{thread}/stat") for thread in threads)
    return any(stat is not None and stat[0] in {"T", "t"} for stat in stats)


def parent_of(process_identity: Identity) -> int | None:
    """Return the parent of exactly this process, also after its end until it is reaped; None if there is none."""
    stat = stat_fields(process_identity.pid, include_ended=True)
    return (
        int(stat[_PARENT])
        if stat and identity(process_identity.pid, include_ended=True) == process_identity
        else None
    )


def stat_fields(pid: int, file: str = "stat", *, include_ended: bool = False) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat from the third on.

    Returns None for a dead process, and for a zombie unless `include_ended` is set.
    """
    try:
        stat = read_bytes(f"/proc/{pid}/{file}").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None  # a process that we may not inspect is not ours
    fields = stat[stat.rindex(")") + 2 :].split()  # a program's name may hold anything
    return None if fields[0] in {"Z", "X"} and not include_ended else fields


def identity_from_record(record: dict[str, Json] | None) -> Identity | None:
    """Return the identity that a record holds, or None when it holds none."""
    match record:
        case {"pid": int(pid), "start_ticks": int(ticks), "boot": str(boot), **more} if (
            0 <= pid <= MOST_PID
        ):
            inode = more.get("namespace")
            namespace = inode if isinstance(inode, int) else None
            return Identity(pid=pid, start_ticks=ticks, boot=boot, namespace=namespace)
    return None


def is_alive(process_identity: Identity) -> bool:
    """Return whether exactly this process still runs: pid, its namespace, start time and boot agree."""
    return (
        not process_identity.is_foreign_namespace
        and identity(process_identity.pid) == process_identity
    )


def open_pidfd(process_identity: Identity) -> int | None:
    """Return a descriptor that becomes readable when `process_identity` ends, or None when it has ended.

    Raises:
        OSError: there are too many open files.
    """
    try:
        descriptor = os.pidfd_open(process_identity.pid)
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:  # the process may live
            raise
        return None  # the process has ended; or the pid is 0, which is not a process
    if is_alive(
        process_identity
    ):  # checked after opening: the descriptor cannot be another's any more
        return descriptor
    os.close(descriptor)
    return None


def identity_lines(content: bytes) -> list[bytes]:
    """Return the lines of an attempt's `content` that name processes, or void it.

    The others, its order and its outcome, contain the number of their schema.
    """
    return [line for line in content.splitlines() if line and not line.startswith(_HAS_SCHEMA)]


def read_identity(line: bytes) -> Identity | None:
    """Read a process from its line of an attempt's `started`; None if that is no such line."""
    return identity_from_record(read_record(line))
