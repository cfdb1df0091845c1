"""The main memory of this machine that we may use, and the number of processes that the kernel killed for it.

Control groups that limit our cores and memory are named, as others of theirs share these limits.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from launcher.system.cgroup_limits import cpu_quota, group_folders, read_text

_UNLIMITED = 1 << 60  # version 1 says "no limit" with a number near 2^63


def usable_bytes(root: Path = Path("/")) -> int:
    """Return the bytes that processes of ours can use: the machine's, or our cgroup's limit."""
    return min([installed_bytes(root), *_limits(root)])


def installed_bytes(root: Path = Path("/")) -> int:
    """Return the bytes that the machine has, usable by us or not."""
    return _meminfo(root).get("MemTotal", 0)


def limiting_group(root: Path = Path("/")) -> Path | None:
    """Return the folder of the group whose limit applies to us; None if only the machine limits us."""
    limits = _limits(root)
    least = min(limits, default=None)
    return None if least is None or least >= installed_bytes(root) else limits[least]


def _limits(root: Path) -> dict[int, Path]:
    """Return limits of our group and those above it, each with the highest that has it."""
    controllers = {}
    for folder in group_folders("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = read_text(folder / name).strip()
            if text.isdigit() and int(text) < _UNLIMITED:
                controllers[int(text)] = folder
    return controllers


def available_bytes(root: Path = Path("/")) -> int:
    """Return the bytes that could be used now without swapping, as the kernel guesses."""
    return _meminfo(root).get("MemAvailable", 0)


def count_oom_kills(root: Path = Path("/")) -> int | None:
    """Return how many processes of our cgroup the kernel has killed for lack of memory so far.

    None if the kernel does not report it.
    """
    kills = None
    for file in _oom_files(root):
        for line in read_text(file).splitlines():
            if line.startswith("oom_kill "):
                kills = max(kills or 0, int(line.split()[1]))
    return kills


@cache
def _oom_files(root: Path) -> list[Path]:
    names = ("memory.events.local", "memory.events", "memory.oom_control")
    # if our group has no limit, the limit above counts
    for folder in group_folders("memory", root):
        files = [folder / name for name in names if (folder / name).exists()]
        if files:
            return files
    return []


def _meminfo(root: Path) -> dict[str, int]:
    lines = (line.split() for line in read_text(root / "proc/meminfo").splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) == 3}


_MOST_GROUPS = 16  # groups of one hierarchy that are published


class ProcessGroups(NamedTuple):
    """A process's control groups, each named by its device and inode, which are the same from everywhere."""

    # those that the process lives in, as far as it can see them
    groups: frozenset[str] = frozenset()
    # the one whose quota of CPU time limits the process; empty: none, or unknown
    cpu_limit_group: str = ""
    # the one whose limit of main memory limits it; empty: none, or unknown
    memory_limit_group: str = ""


def read_process_groups(root: Path = Path("/")) -> ProcessGroups:
    """Return the groups of this process."""
    quota, time, space = cpu_quota(root), *(group_folders(name, root) for name in ("cpu", "memory"))
    # without a quota the highest group counts, which holds all processes that we can see
    limits_cores = time[-1:] if quota is None else [quota.folder]
    limits_memory = limiting_group(root)
    groups = [*limits_cores, *time[:_MOST_GROUPS], *space[:_MOST_GROUPS]]
    return ProcessGroups(
        groups=frozenset(filter(None, map(_group_id, groups))),
        cpu_limit_group=next(map(_group_id, limits_cores), ""),
        memory_limit_group="" if limits_memory is None else _group_id(limits_memory),
    )


def _group_id(folder: Path) -> str:
    try:
        there = folder.stat()
    except OSError:
        return ""
    return f"{there.st_dev}:{there.st_ino}"
