"""Whose a process is: the job of ours from whose supervisor it descends, or none of ours."""

from collections.abc import Callable, Mapping

from launcher.system.files import read_bytes
from launcher.system.paths import Attempt
from launcher.system.processes import Identity, identity_lines, read_identity


class Ours:
    """The pids of our own processes, found by whose they descend from; it may be asked in any thread."""

    def __init__(self) -> None:
        """Begin with none."""
        # pid of a supervisor or an unsupervised program → job; replaced as a whole, never changed
        self.heads: Mapping[int, int] = {}

    def __contains__(self, pid: object) -> bool:
        return isinstance(pid, int) and self.owner(pid) is not None

    def owner(self, pid: int) -> int | None:
        """Return the job that a process belongs to, None when it is none of ours."""
        return owner_of(pid, parent_of, self.heads)


_PARENT = 1  # of /proc/<pid>/stat, counted from its third field


def owner_of(
    pid: int, parents: Callable[[int], int | None], supervisors: Mapping[int, int]
) -> int | None:
    """Return the job to which a process belongs, None when it is none of ours.

    Args:
        pid: the process; it may have ended, or be of another container.
        parents: returns a process's parent, None when it is not known.
        supervisors: the job of each supervisor, by the supervisor's pid.
    """
    seen = set()  # a pid may be given anew while we climb, and lead in a circle
    climbing: int | None = pid
    while climbing is not None and climbing > 0 and climbing not in seen:
        if climbing in supervisors:
            return supervisors[climbing]
        seen.add(climbing)
        climbing = parents(climbing)
    return None


def parent_of(pid: int) -> int | None:
    """Return the pid of a living process's parent, None where there is no such process."""
    try:
        stat = read_bytes(f"/proc/{pid}/stat")
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # a program's name may hold anything
    return int(fields[_PARENT])


def on_record(attempt: Attempt) -> Identity | None:
    """Return the program of an attempt as far as it is on record now, whatever still lives."""
    try:
        lines = identity_lines(read_bytes(attempt.started))
    except OSError:
        return None
    return read_identity(lines[1]) if len(lines) > 1 else None
