"""Ends running jobs and records in the queue why: cancelled, the queue stopped, a failed GPU, the time limit."""

import contextlib
from collections.abc import Callable, Mapping
from functools import partial

from launcher.scheduler.attempt_watch import RunningAttempts, Stops
from launcher.scheduler.gpus.eviction import Eviction
from launcher.scheduler.turn import Requests, TurnResult
from launcher.states import EndCause, ending_reason
from launcher.store.rows import Claim
from launcher.store.scheduler_actions import Scheduling
from launcher.system.answering import NoAnswer, within
from launcher.system.paths import Home
from launcher.workers.termination import TIME_LIMIT, read_termination

LOOK_AGAIN_S = 5.0  # at a job whose time limit is over: it was paused, or its supervisor has yet to record that


class EndingNotes:
    """Has running jobs ended, and records since when and why."""

    def __init__(
        self,
        home: Home,
        queue: Scheduling,
        attempts: RunningAttempts,
        clock: Callable[[], float],
    ) -> None:
        """Begin without jobs.

        Args:
            home: in which the attempts' folders are.
            queue: in which it is recorded.
            attempts: all that run.
            clock: seconds since 1970.
        """
        self._home, self._queue, self._attempts, self._clock = home, queue, attempts, clock
        self._noted: set[tuple[int, int]] = set()  # attempts whose end at the limit is recorded

    def stop(self, requests: Requests, moved: Mapping[int, Eviction], result: TurnResult) -> None:
        """End what is to be ended.

        Args:
            requests: what people ask for.
            moved: job -> why it has to leave its GPU.
            result: learns when to look again.
        """
        stops = Stops(
            requests.wishes.keys() | moved.keys(), requests.killed, all_jobs=requests.stop_now
        )
        for claim in self._attempts.stop(stops, result):
            if claim.job in requests.wishes:
                continue  # its owner's command has recorded that
            cause, why = EndCause.QUEUE_STOPPED, ""
            if claim.job in moved:
                cause, why = moved[claim.job].cause, moved[claim.job].why
            self._note(claim, cause, self._clock(), why)
        self._note_limits(requests, result)

    def _note_limits(self, requests: Requests, result: TurnResult) -> None:
        """Record which jobs their supervisors end at their time limits."""
        now = self._clock()
        limited = {
            claim.key: claim
            for claim in self._attempts.claims()
            if claim.spec.terms.time_limit_s is not None and claim.job not in requests.paused
        }
        self._noted &= limited.keys()
        for key, claim in limited.items():
            left_s = claim.claimed + (claim.spec.terms.time_limit_s or 0.0) - now
            if key in self._noted:
                continue
            if left_s > 0:
                result.soon(left_s + 1.0)
                continue
            attempt = self._home.attempt(*key)
            termination = None
            with contextlib.suppress(NoAnswer):
                termination = within(attempt.folder, partial(read_termination, attempt))
            if termination is None or termination.cause != TIME_LIMIT:
                result.soon(LOOK_AGAIN_S)
                continue
            self._noted.add(key)
            self._note(claim, EndCause.TIME_LIMIT, termination.since)

    def _note(self, claim: Claim, cause: EndCause, since: float, why: str = "") -> None:
        reason = ending_reason(cause, since, claim.spec.terms.grace_s, why)
        self._queue.note_running(claim.job, reason, since)
