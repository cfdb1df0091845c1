"""Ends running jobs and records in the queue why: cancelled, the queue stopped, a failed GPU, the time limit."""

import contextlib
from collections.abc import Callable, Mapping
from functools import partial

from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import EndCause, termination_reason
from launcher.queue.scheduler.cycle import ControlState, CycleResult
from launcher.queue.scheduler.gpus.eviction import Eviction
from launcher.queue.scheduler.running_attempts import RunningAttempts, StopRequests
from launcher.queue.store.rows import Claim
from launcher.queue.store.running_jobs import RunningJobs
from launcher.queue.workers.termination import TIME_LIMIT, read_termination
from launcher.system.answering import FilesystemTimeout, run_with_timeout

# seconds until a job past its time limit is checked again: the job was paused, or its supervisor has yet to record the end
RECHECK_S = 5.0


class JobTerminator:
    """Has running jobs end, and records since when and why."""

    def __init__(
        self,
        home: Home,
        running_jobs: RunningJobs,
        attempts: RunningAttempts,
        clock: Callable[[], float],
    ) -> None:
        """Begin without jobs.

        Args:
            home: queue folder in which the attempts' folders are.
            running_jobs: running jobs of the queue.
            attempts: all that run.
            clock: seconds since 1970.
        """
        self._home, self._running_jobs = home, running_jobs
        self._attempts, self._clock = attempts, clock
        self._recorded: set[tuple[int, int]] = set()  # attempts whose end at the limit is recorded

    def stop_and_record_jobs(
        self, control: ControlState, evictions: Mapping[int, Eviction], result: CycleResult
    ) -> None:
        """End what is to be ended.

        Args:
            control: requests of users.
            evictions: job -> why it has to leave its GPU.
            result: learns when to look again.
        """
        stops = StopRequests(
            control.pending_actions.keys() | evictions.keys(),
            control.jobs_to_kill,
            all_jobs=control.stop_now,
        )
        for claim in self._attempts.stop(stops, result):
            if claim.job in control.pending_actions:
                continue  # the user's command has recorded the request
            cause, why = EndCause.QUEUE_STOPPED, ""
            if claim.job in evictions:
                cause, why = evictions[claim.job].cause, evictions[claim.job].why
            self._record(claim, cause, self._clock(), why)
        self._record_time_limits(control, result)

    def _record_time_limits(self, control: ControlState, result: CycleResult) -> None:
        """Record which jobs their supervisors end at their time limits."""
        now = self._clock()
        limited = {
            claim.key: claim
            for claim in self._attempts.claims()
            if claim.spec.terms.time_limit_s is not None and claim.job not in control.paused_jobs
        }
        self._recorded &= limited.keys()
        for key, claim in limited.items():
            left_s = claim.claimed + (claim.spec.terms.time_limit_s or 0.0) - now
            if key in self._recorded:
                continue
            if left_s > 0:
                result.wake_within(left_s + 1.0)
                continue
            attempt = self._home.attempt(*key)
            termination = None
            with contextlib.suppress(FilesystemTimeout):
                termination = run_with_timeout(attempt.folder, partial(read_termination, attempt))
            if termination is None or termination.cause != TIME_LIMIT:
                result.wake_within(RECHECK_S)
                continue
            self._recorded.add(key)
            self._record(claim, EndCause.TIME_LIMIT, termination.since)

    def _record(self, claim: Claim, cause: EndCause, start_time: float, why: str = "") -> None:
        reason = termination_reason(cause, start_time, claim.spec.terms.grace_s, why)
        self._running_jobs.record_running_reason(claim.job, reason, start_time)
