"""A control group (cgroup v2) of each supervisor: nothing that an attempt starts can leave it.

A supervisor lives in its group, so all that it starts begins there, whatever session or environment
it takes later. When the supervisor was killed, the scheduler that takes over empties the group. A group is made
where that is allowed, for root or in a group that was delegated to its user; elsewhere attempts run
without one. Source: Linux, Documentation/admin-guide/cgroup-v2.rst.
"""

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

from launcher.system.files import open_descriptor, read_bytes
from launcher.system.lazy_regex import compile_lazily
from launcher.system.mounts import parse_mounts, read_mountinfo
from launcher.system.process_trees import send_signal
from launcher.system.processes import Identity, boot_id, is_alive
from launcher.system.waiting import wait_until

PREFIX = "launcher-"
RECORD_KEY = "group"  # beside a supervisor's identity in `started`: the folder of its group
KILL_TIMEOUT_S = 1.0  # seconds until killed processes must be gone
_NAME = compile_lazily(rf"{PREFIX}(\d+)-(\d+)")  # pid and start time of a supervisor
_LINKS_OF_LEAF = 2  # links of a folder without folders in it: its name and its own "."


def path_of(cgroup: str) -> str | None:
    """Return a process's group of version 2; None if it has none.

    Args:
        cgroup: cgroup as /proc/<pid>/cgroup has it. Source: cgroups(7).
    """
    for line in cgroup.splitlines():
        number, _, rest = line.partition(":")
        if number == "0" and rest.startswith(":"):
            return rest[1:].removesuffix(" (deleted)")
    return None


def folder_of(mountinfo: str, cgroup: str) -> Path | None:
    """Return the folder of a process's group; None if it cannot be seen from here."""
    # also beside version 1
    mount = next((each for each in parse_mounts(mountinfo) if each.kind == "cgroup2"), None)
    path = path_of(cgroup)
    if mount is None or path is None:
        return None
    try:
        below = Path(path).relative_to(mount.root)
    except ValueError:  # inside a container, the path may be that of the host
        return None
    return None if ".." in below.parts else Path(mount.mount_point) / below


def base_of(folder: Path) -> Path:
    """Return the group in which a process makes groups for supervisors: its own, but none of those."""
    while _NAME.fullmatch(folder.name):
        folder = folder.parent
    return folder


def name_of(supervisor: Identity) -> str:
    """Return the name of a supervisor's group."""
    return f"{PREFIX}{supervisor.pid}-{supervisor.start_ticks}"


def read_group_folder(pid: int | str = "self") -> Path | None:
    """Return the folder of a process's group; None if unknown."""
    try:
        cgroup = read_bytes(f"/proc/{pid}/cgroup").decode(errors="surrogateescape")
    except OSError:
        return None
    return folder_of(read_mountinfo(), cgroup)


def unavailability_reason(pid: int | str = "self") -> str:
    """Return why supervisors below a process can have no groups; empty if they can."""
    folder = read_group_folder(pid)
    if folder is None:
        return "no control groups of version 2 are visible here"
    base = base_of(folder)
    if not os.access(base, os.W_OK | os.X_OK) or not os.access(base / "cgroup.procs", os.W_OK):
        return f"you cannot write {base}"
    return ""


def join_own_group(me: Identity) -> Path | None:
    """Make this supervisor's group and move it there; None if that is not possible."""
    folder = read_group_folder()
    if folder is None or me.start_ticks == 0:
        return None
    group = base_of(folder) / name_of(me)
    try:
        group.mkdir()
    except OSError:
        return None
    if _enter(group):
        return group
    with contextlib.suppress(OSError):
        group.rmdir()
    return None


def leave_group(group: Path) -> None:
    """Move this process out of its group, and remove the group if nothing is left in it."""
    _enter(group.parent)
    _remove(group)


def leave_attempt_group() -> None:
    """Move this process out of the group of an attempt that started it, where it is in one."""
    folder = read_group_folder()
    if folder is not None and base_of(folder) != folder:
        _enter(base_of(folder))


def read_recorded_group(supervisor: Identity, text: str | None) -> Path | None:
    """Return the group of a supervisor; None if it does not exist.

    Args:
        supervisor: its identity, during this boot.
        text: the group as it recorded it; None if it did not.
    """
    if supervisor.pid == 0 or supervisor.boot != boot_id():
        return None
    if text is None:  # the record is gone, or has none
        folder = read_group_folder()
        group = None if folder is None else base_of(folder) / name_of(supervisor)
    else:
        group = Path(text)
    if group is None or group.name != name_of(supervisor) or not (group / "cgroup.procs").exists():
        return None
    return group


def group_members(group: Path) -> list[int]:
    """Return the pids of all processes in a group and in those below it."""
    pids: list[int] = []
    for folder in _with_subgroups(group):
        with contextlib.suppress(OSError, ValueError):
            pids += map(int, read_bytes(f"{folder}/cgroup.procs").split())
    return [pid for pid in pids if pid > 0]  # 0: of another container


def kill_group(
    group: Path, is_spared: Callable[[int], bool], timeout_s: float = KILL_TIMEOUT_S
) -> None:
    """Kill all processes of a group whose supervisor is dead, wait until they are gone, and remove the group.

    Args:
        group: its folder.
        is_spared: returns whether a process is left alone.
        timeout_s: how long to wait for the killed processes.
    """

    def kill() -> bool:
        left = group_members(group)
        doomed = [pid for pid in left if not is_spared(pid)]
        # the kernel kills all of a group so that no fork is missed; not before Linux 5.14
        if doomed and (len(doomed) < len(left) or not _write(group / "cgroup.kill", b"1")):
            for pid in doomed:
                send_signal(pid, signal.SIGKILL)
        return not doomed

    wait_until(kill, timeout_s, 0.002)
    _remove(group)


def remove_dead_groups() -> None:
    """Remove the empty groups of supervisors that are dead."""
    folder = read_group_folder()
    if folder is None:
        return
    with contextlib.suppress(OSError):
        for group in base_of(folder).glob(f"{PREFIX}*"):
            name = _NAME.fullmatch(group.name)
            if name is None:
                continue
            who = Identity(pid=int(name[1]), start_ticks=int(name[2]), boot=boot_id())
            if not is_alive(who):
                _remove(group)


def _enter(group: Path) -> bool:
    return _write(group / "cgroup.procs", b"0")


def _write(file: Path, text: bytes) -> bool:
    try:
        with open_descriptor(file, os.O_WRONLY) as descriptor:
            os.write(descriptor, text)
    except OSError:
        return False
    return True


def _remove(group: Path) -> None:
    """Remove a group and the groups that an attempt made in it; groups that are not empty stay."""
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)  # noqa: PTH106  # os.walk gives texts


def _with_subgroups(group: Path) -> list[str]:
    """Return the folders of a group and of those below it; its link count shows if there are none, as is usual."""
    with contextlib.suppress(OSError):
        if os.stat(group).st_nlink == _LINKS_OF_LEAF:  # noqa: PTH116  # done for every attempt
            return [str(group)]
    return [folder for folder, _, _ in os.walk(group)]
