"""What became of an attempt: who is alive, how it ended, who may never start it any more."""

import contextlib
import os
import select
import signal
import time
from dataclasses import dataclass

from launcher.paths import Attempt
from launcher.processes import (
    boot_id,
    descendants,
    end_session,
    identity,
    lock_holder,
    open_pidfd,
    recorded,
    send,
    session,
    terminate,
)
from launcher.records import read_json
from launcher.states import Done, Lost, Outcome, Void, read_outcome
from launcher.store.rows import Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A living attempt: its supervisor, or its program where the supervisor was killed."""

    claim: Claim
    attempt: Attempt
    descriptor: int  # readable when the watched process has ended
    pid: int = 0  # the program's, where no supervisor is left; 0: ask the attempt's lock

    def ended(self) -> bool:
        """Tell whether the watched process has ended."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return bool(poll.poll(0))

    def ask_to_stop(self) -> None:
        """Send SIGTERM: a supervisor passes it on and insists, a lone program gets it itself."""
        if self.pid:
            if not self.ended():
                terminate(self.pid)
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.descriptor, signal.SIGTERM)

    def insist(self) -> None:
        """Kill a lone program and all below it; a supervisor does that by itself."""
        if self.pid and not self.ended():
            for pid in {*session(self.pid), *descendants(self.pid)}:
                send(pid, signal.SIGKILL)


def watch(claim: Claim, attempt: Attempt) -> Watch | Outcome:
    """Return a watch on what still lives of a claimed attempt, or how it ended.

    An attempt that nobody has started yet is voided: after this call nobody can start it. One
    without its order was never given to anyone, or its files were deleted: nobody can know.
    """
    while True:
        outcome = _recorded_outcome(attempt)
        if outcome is not None:
            return outcome
        if claim.boot != boot_id():
            return Lost(at=time.time(), why="the machine was restarted")
        if not attempt.spec.exists():
            return Lost(at=time.time(), why="its attempt folder was deleted")
        if _void(attempt):
            return Void(at=time.time())
        supervisor = lock_holder(attempt.lock)
        if supervisor is not None:
            who = identity(supervisor)
            descriptor = open_pidfd(who) if who else None
            # still the holder after the descriptor was opened: it is this very process
            if descriptor is not None and lock_holder(attempt.lock) == supervisor:
                return Watch(claim=claim, attempt=attempt, descriptor=descriptor)
            continue
        return _orphan(claim, attempt)


def ending_of(one: Watch) -> Outcome | None:
    """Return how a watched attempt ended, or None when only its supervisor did."""
    os.close(one.descriptor)
    found = watch(one.claim, one.attempt)
    if isinstance(found, Watch):
        os.close(found.descriptor)
        return None
    return found


def _recorded_outcome(attempt: Attempt) -> Outcome | None:
    record = read_json(attempt.outcome)
    return None if record is None else read_outcome(record)


def _void(attempt: Attempt) -> bool:
    """Take the right to start away; False when somebody has it already."""
    try:
        descriptor = os.open(attempt.started, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return read_json(attempt.started) == {"void": True}
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write('{"void": true}\n')
    return True


def _orphan(claim: Claim, attempt: Attempt) -> Watch | Outcome:
    """Judge an attempt whose supervisor is dead."""
    outcome = _recorded_outcome(attempt)  # again: it may have been written before it died
    if outcome is not None:
        return outcome
    program = recorded(read_json(attempt.process))
    descriptor = open_pidfd(program) if program is not None else None
    if program is not None and descriptor is not None:
        return Watch(claim=claim, attempt=attempt, descriptor=descriptor, pid=program.pid)
    if program is not None:
        end_session(program)  # the next attempt must not meet what this one left
    now = time.time()
    match read_json(attempt.result):
        case {"ok": True, "result": dict(result)}:  # a worker's own word that it was done
            return Done(at=now, result=result)
    return Lost(at=now, why="exit status unknown: its supervisor was killed")
