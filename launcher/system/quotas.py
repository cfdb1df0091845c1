"""Which control groups limit our cores and memory, and in which we live: others of theirs share these limits."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from launcher.system import memory

_MOST = 16  # groups one below the other that are published


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """A process's control groups, each named by its device and inode, which are the same from everywhere."""

    within: frozenset[str] = frozenset()  # those that it lives in, as far as it can see them
    cores: str = ""  # the one whose quota of CPU time limits it; empty: none, or unknown
    memory: str = ""  # likewise, of main memory


def of_this_process(root: Path = Path("/")) -> Quotas:
    """Return ours."""
    top = root / "sys/fs/cgroup"
    # where the quota of CPU time is looked for, see `processes.cores`
    time = top if (top / "cpu.max").exists() else top / "cpu"
    limit = memory.limiting(root)
    folders = [time, *memory.folders(root)]
    return Quotas(
        within=frozenset(_names(folders[:_MOST])),
        cores=_name(time),
        memory="" if limit is None else _name(limit),
    )


def _names(folders: Iterable[Path]) -> Iterable[str]:
    return (name for name in map(_name, folders) if name)


def _name(folder: Path) -> str:
    try:
        there = folder.stat()
    except OSError:
        return ""
    return f"{there.st_dev}:{there.st_ino}"
