"""Supervisors of this machine that stand still: the reason of their jobs, and the end of those that are to end.

A stopped supervisor enforces no time limit and passes no request on. If its attempt is to end, it is continued with
SIGCONT and does that itself. A debugger or a frozen control group does not let it continue. Then it is killed with
its program, and the end is recorded here.
"""

import contextlib
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from launcher.queue.jobs.states import Outcome, Reason, ReasonCode, Stopped
from launcher.queue.scheduler.cycle import ControlState, CycleResult
from launcher.queue.scheduler.running_attempts import RunningAttempts
from launcher.queue.store.rows import Claim
from launcher.queue.store.running_jobs import RunningJobs
from launcher.queue.workers.attempt_handles import (
    TRANSIENT_ERRORS,
    AdoptedAttempt,
    SupervisedAttempt,
    end_leftovers,
    kill_process,
    record_kill,
)
from launcher.queue.workers.attempt_journal import outcome_line, read_program, record_outcome
from launcher.queue.workers.exit_outcome import time_limit_outcome
from launcher.system.answering import run_with_timeout
from launcher.system.frozen_processes import why_frozen
from launcher.system.process_trees import send_signal, terminate
from launcher.system.processes import Identity, is_alive, seconds_since_start

CHECK_S = 5.0  # seconds between two checks; the queue reports a job after two checks
ENDING_CHECK_S = 1.0  # seconds between two checks while a frozen attempt is to end
CONTINUE_S = 3.0  # seconds for a supervisor that got SIGCONT

_Watch = SupervisedAttempt | AdoptedAttempt


class _Frozen(NamedTuple):
    """A supervisor that stands still; times are monotonic."""

    since: float  # time of the first check
    why: str
    continued_at: float | None = (
        None  # when it got SIGCONT first, None if its attempt is not to end
    )


class FrozenSupervisors:
    """Checks whether the supervisors of running attempts stand still."""

    def __init__(
        self, running_jobs: RunningJobs, attempts: RunningAttempts, clock: Callable[[], float]
    ) -> None:
        """Begin without one.

        Args:
            running_jobs: running jobs of the queue.
            attempts: all that run.
            clock: seconds since 1970.
        """
        self._running_jobs, self._attempts, self._clock = running_jobs, attempts, clock
        self._frozen: dict[tuple[int, int], _Frozen] = {}  # by attempt
        self._next_at = 0.0  # monotonic

    def check(self, control: ControlState, result: CycleResult) -> None:
        """Check all supervisors if that is due.

        Args:
            control: the requests of users.
            result: receives the time of the next check.
        """
        now = time.monotonic()
        if now >= self._next_at:
            found = dict[tuple[int, int], _Frozen]()
            for claim, watch in self._attempts.local():
                with contextlib.suppress(*TRANSIENT_ERRORS):
                    if frozen := self._check_supervisor(claim, watch, control, now):
                        found[claim.key] = frozen
            for job in self._running_jobs.frozen_jobs() - {job for job, _ in found}:
                self._running_jobs.record_continued(job, self._clock())
            self._frozen = found
            ending = any(each.continued_at is not None for each in found.values())
            self._next_at = now + (ENDING_CHECK_S if ending else CHECK_S)
        if any(True for _ in self._attempts.local()):
            result.wake_within(self._next_at - now)

    def _check_supervisor(
        self, claim: Claim, watch: _Watch, control: ControlState, now: float
    ) -> _Frozen | None:
        """Return how a supervisor stands still, None if it does not; name it and end its attempt if that is due."""
        supervisor = watch.supervisor_now()
        why = "" if supervisor is None else why_frozen(supervisor.pid)
        if supervisor is None or not why or not is_alive(supervisor):
            return None
        frozen = self._frozen.get(claim.key, _Frozen(now, why))
        if claim.key not in self._frozen:  # the supervisor may continue a moment later
            return frozen
        attempt = watch.attempt
        if not run_with_timeout(attempt.folder, attempt.started.exists):
            watch.disconnect()  # another supervisor starts the attempt
            return frozen
        asked_until = self._attempts.kill_at(claim.job)
        is_over = asked_until is None and self._is_over_limit(claim, watch, 0.0)
        if asked_until is None and not is_over:
            if claim.job not in control.paused_jobs:
                text = f"its supervisor (pid {supervisor.pid}) is {why}"
                reason = Reason(code=ReasonCode.FROZEN, text=text)
                self._running_jobs.record_running_reason(claim.job, reason, self._clock())
            return frozen
        send_signal(supervisor.pid, signal.SIGCONT)
        if frozen.continued_at is None:
            return frozen._replace(continued_at=now)
        if now < frozen.continued_at + CONTINUE_S:
            return frozen
        if asked_until is not None:
            if now >= asked_until:
                self._end(watch, supervisor, Stopped(at=self._clock()))
                return frozen
        elif self._is_over_limit(claim, watch, claim.spec.terms.grace_s):
            limit_s = claim.spec.terms.time_limit_s or 0.0
            outcome = time_limit_outcome(
                limit_s, self._clock(), was_killed=True, code=-signal.SIGKILL
            )
            self._end(watch, supervisor, outcome)
            return frozen
        if program := read_program(attempt):
            terminate(program.pid)
        return frozen

    def _is_over_limit(self, claim: Claim, watch: _Watch, extra_s: float) -> bool:
        """Return whether a program has run for longer than its time limit and `extra_s`, without its pauses."""
        limit_s = claim.spec.terms.time_limit_s
        program = None if limit_s is None else read_program(watch.attempt)
        ran_s = None if program is None else seconds_since_start(program)
        if limit_s is None or ran_s is None:
            return False
        return ran_s > limit_s + extra_s + self._running_jobs.paused_s(claim)

    def _end(self, watch: _Watch, supervisor: Identity, outcome: Outcome) -> None:
        """Kill a supervisor that does not continue, and then its program; record the end that it cannot record.

        Raises:
            OSError: the disk is full, or the record cannot be read. The next check tries it again.
        """
        attempt = watch.attempt
        with contextlib.suppress(OSError):
            attempt.end_request.touch(0o600)
        kill_process(supervisor)
        if is_alive(supervisor):  # a group frozen by version 1 keeps what was killed
            record_kill(attempt, [supervisor.pid])
            return
        end_leftovers(supervisor, attempt)
        record_outcome(attempt, outcome_line(outcome))
