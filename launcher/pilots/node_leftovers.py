"""What is left of an attempt whose supervisor is dead, or has to die: all of it is ended, and judged."""

import contextlib
import os
import signal
import time

from launcher.states import Lost, Outcome
from launcher.system import cgroups
from launcher.system.paths import Attempt
from launcher.system.processes import Identity, alive, end_session, is_scheduler, marked, open_pidfd
from launcher.workers.exit_outcome import done_of, word_of
from launcher.workers.started_file import program_of, recorded_outcome

PATIENCE_S = 1.0  # for a supervisor that was killed to be gone


def end_of(attempt: Attempt, supervisor: Identity) -> Outcome:
    """Return how an attempt ended whose supervisor is dead; nothing of it lives then."""
    outcome = _recorded(attempt)
    end_leftovers(attempt, supervisor)
    if outcome is not None:
        return outcome
    now = time.time()
    lost = Lost(at=now, why="exit status unknown: its supervisor was killed")
    return done_of(word_of(attempt), now) or lost


def end_leftovers(attempt: Attempt, supervisor: Identity) -> None:
    """Kill a supervisor, so that it records nothing, and then all of its attempt."""
    _kill(supervisor)
    try:
        program = program_of(attempt)
    except (OSError, ValueError, ArithmeticError, RecursionError):  # its mark is left to find it by
        program = None
    if program is not None:
        _kill(program)
        end_session(program)
    for who in marked(attempt.folder):
        end_session(who)
        _kill(who)
    group = cgroups.recorded_group(supervisor, None)
    if group is not None:
        cgroups.end(group, spare=is_scheduler)


def _kill(who: Identity) -> None:
    descriptor = open_pidfd(who)
    if descriptor is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    os.close(descriptor)
    deadline = time.monotonic() + PATIENCE_S
    while alive(who) and time.monotonic() < deadline:
        time.sleep(0.002)


def _recorded(attempt: Attempt) -> Outcome | None:
    try:
        return recorded_outcome(attempt)
    except (OSError, ValueError, RecursionError):
        return None
