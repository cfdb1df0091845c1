"""Which processes of a home live now, found in /proc without asking any of them."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from launcher.system.processes import Identity, identity, open_pidfd


class Role(StrEnum):
    """Type of a process of the queue."""

    SCHEDULER = "scheduler"
    FORK_SERVER = "fork-server"
    SUPERVISOR = "supervisor"
    PROGRAM = "program"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """A living process of the home."""

    who: Identity
    role: Role

    def kill(self) -> float | None:
        """Kill it with SIGKILL; return just before when, or None when it had ended already."""
        at = time.time()
        return at if send_exactly(self.who, signal.SIGKILL) else None


def send_exactly(who: Identity, number: signal.Signals) -> bool:
    """Send a signal to this very process, never to a later one with its pid."""
    descriptor = open_pidfd(who)
    if descriptor is None:
        return False
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def census(home: Path, program: Path) -> list[Ours]:
    """Return every living process of the home but the commands that people typed.

    A child that a supervisor has forked and that is not its program yet counts as a supervisor.
    """
    found: list[Ours] = []
    for pid, words in _command_lines(os.fsencode(home.parent)):
        role = _role(pid, words, os.fsencode(home), os.fsencode(program))
        who = identity(pid) if role is not None else None
        if role is not None and who is not None:
            found.append(Ours(who=who, role=role))
    return found


def _command_lines(place: bytes) -> Iterator[tuple[int, list[bytes]]]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line = (entry / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended while we looked, or is another user's
        if place in line:
            yield int(entry.name), line.split(b"\0")


def _role(pid: int, words: list[bytes], home: bytes, program: bytes) -> Role | None:
    if program in words[:2]:  # the second where it is a script
        return Role.PROGRAM
    if home not in words:
        return None
    if b"launcher.scheduler" in words:
        return Role.SCHEDULER
    if b"launcher.queue.workers.fork_server" in words:
        return Role.SUPERVISOR if _forked(pid, words) else Role.FORK_SERVER
    return None


def _forked(pid: int, words: list[bytes]) -> bool:
    """Return whether the parent runs the same command line; an orphan counts as a fork server."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
        parent = status.partition("\nPPid:")[2].split(maxsplit=1)[0]
        return Path(f"/proc/{parent}/cmdline").read_bytes().split(b"\0") == words
    except (FileNotFoundError, ProcessLookupError, PermissionError, IndexError):
        return False
