"""The work and the memory of running jobs: of each attempt's supervisor and all that descends from it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from os import sysconf

from launcher.system.files import read_bytes
from launcher.system.processes import descendants

_TIMES = slice(11, 15)  # utime, stime, cutime, cstime after the name. Source: proc_pid_stat(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessTimes:
    """What trees of processes have done so far."""

    ticks: Mapping[int, int] = field(default_factory=dict)  # root → of its whole tree
    resident: int = 0  # bytes that no others share

    def since(self, before: "ProcessTimes", span_s: float) -> float | None:
        """Return the cores' worth of work since an earlier moment; a tree that is new does not count.

        The time of a child that has ended is its parent's from then on, so that a tree's sum only grows.
        """
        if span_s <= 0:
            return None
        grown = (
            max(0, ticks - before.ticks[root])
            for root, ticks in self.ticks.items()
            if root in before.ticks
        )
        return sum(grown) / sysconf("SC_CLK_TCK") / span_s


def times_of(roots: Iterable[int]) -> ProcessTimes:
    """Return what the trees below these pids have done; one that is gone counts for nothing."""
    ticks, pages = {}, 0
    for root in roots:
        tree = [root, *descendants(root)]
        times = [time for pid in tree if (time := tree_ticks(_read(pid, "stat"))) is not None]
        if times:
            ticks[root] = sum(times)
        pages += sum(own_pages(_read(pid, "statm")) for pid in tree)
    return ProcessTimes(ticks=ticks, resident=pages * sysconf("SC_PAGE_SIZE"))


def tree_ticks(stat: str) -> int | None:
    """Return the time of a process and of its children that have ended, from its stat."""
    words = stat.rpartition(")")[2].split()[_TIMES]
    return sum(map(int, words)) if len(words) == 4 else None


def own_pages(statm: str) -> int:
    """Return how many pages a process has to itself, from its statm. Source: proc_pid_statm(5)."""
    words = statm.split()
    return max(0, int(words[1]) - int(words[2])) if len(words) > 2 else 0


def _read(pid: int, name: str) -> str:
    try:
        return read_bytes(f"/proc/{pid}/{name}").decode(errors="replace")
    except OSError:  # it has ended meanwhile
        return ""
