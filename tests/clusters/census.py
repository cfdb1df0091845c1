"""Which processes of a proof live now, found in /proc: those of a node, of a pilot, and those that are left."""

import os
import re
import signal
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from launcher.system.process_trees import descendants, send_signal

PILOT = b"launcher.pilots"
DAEMON = re.compile(rb"(\S*/)?(slurmd|slurmctld|munged)(: .*)?")


@dataclass(frozen=True, slots=True)
class Process:
    """One that lives."""

    pid: int
    words: tuple[bytes, ...]
    environment: frozenset[bytes]

    @property
    def folder(self) -> Path | None:
        """The folder of the pilot that it is, None where it is none."""
        return Path(os.fsdecode(self.words[-1])) if PILOT in self.words[:-1] else None

    def has(self, name: str, value: object) -> bool:
        """Return whether the process started with this value of a variable."""
        return os.fsencode(f"{name}={value}") in self.environment

    @property
    def title(self) -> str:
        """What to call it in a report."""
        return f"{self.pid} {os.fsdecode(b' '.join(self.words))[:160]}"


def processes() -> list[Process]:
    """Return all that live; those that have ended and wait for their parents do not."""
    listed = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")[:-1]
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if words:
            listed.append(Process(int(entry.name), tuple(words), frozenset(environment)))
    return listed


def pilots_below(folder: Path) -> dict[str, int]:
    """Return the pilots that live whose folders lie below a folder: token → pid."""
    return {
        process.folder.name: process.pid
        for process in processes()
        if process.folder is not None and process.folder.is_relative_to(folder)
    }


def marked(name: str, value: object, folder: Path) -> list[Process]:
    """Return what began with a variable of this value, and belongs to the proof in a folder."""
    return [
        process
        for process in processes()
        if process.has(name, value) and _is_below(process, folder)
    ]


def tokens_of(begun: Iterable[Process]) -> set[str]:
    """Return the tokens of the pilots whose folders are the last words of processes."""
    last = (Path(os.fsdecode(process.words[-1])).name for process in begun)
    return {name for name in last if name.startswith("launcher-")}


def of_node(first: Collection[int], tokens: Collection[str]) -> list[int]:
    """Return the pids of all that a node runs.

    Args:
        first: its daemons and their children.
        tokens: its pilots. The processes that they started have their own sessions.
    """
    of_pilots = [
        process.pid
        for process in processes()
        if any(process.has("LAUNCHER_PILOT", token) for token in tokens)
        or any(
            f"/{token}".encode() in text
            for token in tokens
            for text in (*process.environment, *process.words)
        )
    ]
    # the manager of a step detaches from its daemon, and is the parent of the daemon's processes
    managers = {parent for pid in {*first, *of_pilots} if (parent := _manager(pid))}
    roots = {*first, *of_pilots, *managers}
    return sorted(roots | {below for pid in roots for below in descendants(pid)})


def left_behind(folder: Path, spared: Iterable[int]) -> list[Process]:
    """Return what has this proof in its environment, and all below it.

    Args:
        folder: below which the proof's files lie.
        spared: the pids of the cluster's daemons.
    """
    kept = {os.getpid(), *spared}
    listed = {process.pid: process for process in processes()}
    marked = [pid for pid, process in listed.items() if _is_below(process, folder)]
    pids = {*marked, *(below for pid in marked if pid not in kept for below in descendants(pid))}
    # daemons fork for a moment whenever they are asked something, and slurmctld has a helper
    return [
        listed[pid]
        for pid in sorted(pids - kept)
        if pid in listed and not DAEMON.fullmatch(listed[pid].words[0])
    ]


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to each."""
    for pid in pids:
        send_signal(pid, number)


def _is_below(process: Process, folder: Path) -> bool:
    mark = f"{folder}/".encode()
    return any(mark in text for text in (*process.environment, *process.words))


def _manager(pid: int) -> int:
    """Return the pid of the slurmstepd above a process, 0 where there is none."""
    while pid > 1:
        try:
            status = Path(f"/proc/{pid}/stat").read_bytes()
            name = status.partition(b"(")[2].rpartition(b")")[0]
            parent = int(status.rpartition(b")")[2].split()[1])
        except OSError:
            return 0
        if name.startswith(b"slurmstepd"):
            return pid
        pid = parent
    return 0
