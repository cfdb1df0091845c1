"""Processes that stand still although they live: a signal, a debugger or a frozen control group has stopped them."""

from pathlib import Path

from launcher.system import cgroups
from launcher.system.files import read_bytes
from launcher.system.processes import state_of

STOPPED, TRACED, WAITING = "T", "t", "D"  # letters of /proc/<pid>/stat
_FREEZER_WAIT = b"__refrigerator"  # kernel function where a frozen group of version 1 waits


def why_frozen(pid: int) -> str:
    """Return what has stopped a process, as the end of a sentence; empty if nothing has."""
    match state_of(pid):
        case "":
            return ""
        case state if state == STOPPED:
            return "stopped by a signal"
        case state if state == TRACED:
            return "stopped by a debugger"
        case state:
            frozen = _is_group_frozen(pid) or (state == WAITING and _is_in_freezer(pid))
            return "in a frozen control group" if frozen else ""


def _is_group_frozen(pid: int) -> bool:
    """Return whether a process's group of version 2, or one above it, is frozen."""
    folder = cgroups.read_group_folder(pid)
    return folder is not None and b"frozen 1" in _read(folder / "cgroup.events").splitlines()


def _is_in_freezer(pid: int) -> bool:
    return _read(Path(f"/proc/{pid}/wchan")) == _FREEZER_WAIT


def _read(file: Path) -> bytes:
    try:
        return read_bytes(file)
    except OSError:  # the process has ended, or the kernel has no such file
        return b""
