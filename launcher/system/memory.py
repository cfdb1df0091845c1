"""The main memory of this machine, as far as we may use it, and whom the kernel killed for it.

Control groups that limit our cores and memory are named, as others of theirs share these limits.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from launcher.system.files import read_bytes

_CGROUPS = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # version 1 says "no limit" with a number near 2^63


def total(root: Path = Path("/")) -> int:
    """Return the bytes that processes of ours can use: the machine's, or our cgroup's limit."""
    return min([there(root), *_limits(root)])


def there(root: Path = Path("/")) -> int:
    """Return the bytes that the machine has, usable by us or not."""
    return _meminfo(root).get("MemTotal", 0)


def limiting(root: Path = Path("/")) -> Path | None:
    """Return the folder of the group whose limit is ours, None where that is the machine itself."""
    limits = _limits(root)
    least = min(limits, default=None)
    return None if least is None or least >= there(root) else limits[least]


def _limits(root: Path) -> dict[int, Path]:
    """Return limits of our group and those above it, each with the highest that has it."""
    controllers = {}
    for folder in folders(root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name).strip()
            if text.isdigit() and int(text) < _UNLIMITED:
                controllers[int(text)] = folder
    return controllers


def available(root: Path = Path("/")) -> int:
    """Return the bytes that could be used now without swapping, as the kernel guesses."""
    return _meminfo(root).get("MemAvailable", 0)


def oom_kills(root: Path = Path("/")) -> int | None:
    """Return how many processes of our cgroup the kernel has killed for lack of memory so far.

    None where it does not tell.
    """
    kills = None
    for file in _oom_files(root):
        for line in _read(file).splitlines():
            if line.startswith("oom_kill "):
                kills = max(kills or 0, int(line.split()[1]))
    return kills


@cache
def _oom_files(root: Path) -> list[Path]:
    names = ("memory.events.local", "memory.events", "memory.oom_control")
    for folder in folders(root):  # a group of ours has no memory of its own: that above it counts
        files = [folder / name for name in names if (folder / name).exists()]
        if files:
            return files
    return []


def _meminfo(root: Path) -> dict[str, int]:
    lines = (line.split() for line in _read(root / "proc/meminfo").splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) == 3}


def folders(root: Path) -> list[Path]:
    """Return the folders of our memory cgroup and those above it, the nearest first."""
    cgroups = root / _CGROUPS.relative_to("/")
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if number == "0" and (cgroups / "cgroup.controllers").exists():
            top = cgroups
        elif "memory" in controllers.split(","):
            top = cgroups / "memory"
        else:
            continue
        here = top / name.strip("/")
        chain = [here, *here.parents]
        # inside a container the path may be the host's, and not be there
        present = [folder for folder in chain if folder.is_relative_to(top) and folder.is_dir()]
        if present:
            return present
    return []


def _read(path: Path) -> str:
    try:
        return read_bytes(path).decode(errors="replace")
    except OSError:
        return ""


_MOST = 16  # groups one below the other that are published


class Quotas(NamedTuple):
    """A process's control groups, each named by its device and inode, which are the same from everywhere."""

    within: frozenset[str] = frozenset()  # those that it lives in, as far as it can see them
    cores: str = ""  # the one whose quota of CPU time limits it; empty: none, or unknown
    memory: str = ""  # likewise, of main memory


def of_this_process(root: Path = Path("/")) -> Quotas:
    """Return ours."""
    top = root / "sys/fs/cgroup"
    # where the quota of CPU time is looked for, see `processes.cores`
    time = top if (top / "cpu.max").exists() else top / "cpu"
    limit = limiting(root)
    groups = [time, *folders(root)]
    return Quotas(
        within=frozenset(filter(None, map(_name, groups[:_MOST]))),
        cores=_name(time),
        memory="" if limit is None else _name(limit),
    )


def _name(folder: Path) -> str:
    try:
        there = folder.stat()
    except OSError:
        return ""
    return f"{there.st_dev}:{there.st_ino}"
