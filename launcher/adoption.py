"""What became of an attempt: who is alive, how it ended, who may never start it any more."""

import contextlib
import fcntl
import json
import os
import select
import signal
import time
from dataclasses import dataclass
from typing import Protocol

from launcher.nursery import Supervisor
from launcher.paths import Attempt
from launcher.processes import (
    Identity,
    boot_id,
    descendants,
    end_session,
    marked,
    open_pidfd,
    recorded,
    send,
    session,
    terminate,
)
from launcher.records import read_bytes, read_json
from launcher.specs import Breed
from launcher.states import Done, Lost, Outcome, Void, read_outcome
from launcher.store.rows import Claim

VOID = b'{"void": true}'


class Watch(Protocol):
    """An attempt that lives, as the scheduler sees it."""

    @property
    def claim(self) -> Claim:
        """What was promised to it."""

    @property
    def descriptor(self) -> int:
        """Readable when there is news."""

    def stop(self) -> None:
        """Have it end, politely."""

    def insist(self) -> None:
        """Kill what did not listen, where nobody else does."""

    def ending(self) -> "Outcome | Watch | None":
        """Return how it ended, or who is left to be watched; None: there is no news."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervised:
    """An attempt in the hands of a supervisor of ours."""

    claim: Claim
    attempt: Attempt
    supervisor: Supervisor
    breed: Breed

    @property
    def descriptor(self) -> int:
        """Readable when the attempt or the supervisor has ended."""
        return self.supervisor.channel.fileno()

    def stop(self) -> None:
        """Ask the supervisor; it insists by itself."""
        self.supervisor.stop(self.attempt)

    def insist(self) -> None:
        """Leave that to the supervisor."""

    def ending(self) -> Outcome | Watch | None:
        """Return how it ended, as its supervisor put down, or what is known without that."""
        if self.supervisor.silent():
            return None
        return watch(self.claim, self.attempt)  # whatever it says, the records tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """An attempt that another scheduler started: its supervisor, or its program without one."""

    claim: Claim
    attempt: Attempt
    descriptor: int  # a pidfd
    program: int = 0  # its pid, where no supervisor is left

    def stop(self) -> None:
        """Send SIGTERM: a supervisor passes it on and insists, a lone program gets it itself."""
        if not self.program:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.descriptor, signal.SIGTERM)
        elif not _readable(self.descriptor):
            terminate(self.program)

    def insist(self) -> None:
        """Kill a lone program and all below it; a supervisor does that by itself."""
        if self.program and not _readable(self.descriptor):
            for pid in {*session(self.program), *descendants(self.program)}:
                send(pid, signal.SIGKILL)

    def ending(self) -> Outcome | Watch | None:
        """Return how it ended; without its supervisor, the program is left to be watched."""
        if not _readable(self.descriptor):
            return None
        os.close(self.descriptor)
        return watch(self.claim, self.attempt)


def watch(claim: Claim, attempt: Attempt) -> Outcome | Watch:
    """Return a watch on what still lives of a claimed attempt, or how it ended.

    An attempt that nobody has started yet is voided: after this call nobody can start it.
    """
    outcome = _recorded_outcome(attempt)
    if outcome is not None:
        return outcome
    if claim.boot != boot_id():
        return Lost(at=time.time(), why="the machine was restarted")
    if _void(attempt):
        return Void(at=time.time())
    descriptor = open_pidfd(_supervisor(claim, attempt))
    if descriptor is not None:
        return Adopted(claim=claim, attempt=attempt, descriptor=descriptor)
    return _orphan(claim, attempt)


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _recorded_outcome(attempt: Attempt) -> Outcome | None:
    record = read_json(attempt.outcome)
    return None if record is None else read_outcome(record)


def _void(attempt: Attempt) -> bool:
    """Take the right to start away; False when somebody has it, or the folder was deleted."""
    try:
        descriptor = os.open(attempt.started, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileNotFoundError:
        return False  # it was there before the claim: who deleted it may be the job itself
    except FileExistsError:
        return _first_line(attempt) == VOID
    with os.fdopen(descriptor, "wb") as file:
        file.write(VOID + b"\n")
    return True


def _first_line(attempt: Attempt) -> bytes:
    try:
        return read_bytes(attempt.started).partition(b"\n")[0]
    except FileNotFoundError:
        return b""


def _supervisor(claim: Claim, attempt: Attempt) -> Identity:
    """Return who has the right to start: who took it, or whom the claim names."""
    who = _read_line(_first_line(attempt))
    return who or Identity(pid=claim.pid, start_ticks=claim.start_ticks, boot=claim.boot)


def _program(attempt: Attempt) -> Identity | None:
    """Return the program of an attempt whose supervisor is dead, None when none was started."""
    try:
        with attempt.started.open("rb") as file:
            # what the supervisor had begun to start is either the program now, or dead
            fcntl.flock(file, fcntl.LOCK_SH)
            lines = file.read().splitlines()
    except OSError:
        return None
    return _read_line(lines[1]) if len(lines) > 1 else None


def _read_line(line: bytes) -> Identity | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return recorded(record) if isinstance(record, dict) else None


def _orphan(claim: Claim, attempt: Attempt) -> Outcome | Watch:
    """Judge an attempt whose supervisor is dead."""
    outcome = _recorded_outcome(attempt)  # again: it may have been written before it died
    if outcome is not None:
        return outcome
    program = _program(attempt)
    left = marked(attempt.folder)
    program = program or (left[0] if left else None)
    descriptor = open_pidfd(program) if program is not None else None
    if program is not None and descriptor is not None:
        return Adopted(claim=claim, attempt=attempt, descriptor=descriptor, program=program.pid)
    # the next attempt must not meet what this one left
    if program is not None:
        end_session(program)
    for who in left:
        end_session(who)
        send(who.pid, signal.SIGKILL)
    now = time.time()
    match read_json(attempt.result):
        case {"ok": True, "result": dict(result)}:  # a worker's own word that it was done
            return Done(at=now, result=result)
    return Lost(at=now, why="exit status unknown: its supervisor was killed")
