"""Rules for pilots: how many to submit, when, and when all processes of a pilot have ended.

All functions are pure. Times are durations in seconds, so a clock that is set has no effect.
`SubmitThrottle` limits the submissions of a backend. It depends on the outcomes of the latest pilots.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from launcher.queue.backends.protocol import AllocationState
from launcher.system.units import exponential_backoff_s

UNKNOWN_TIMEOUT_S = (
    30.0  # a backend that does not list a pilot may have been restarted, so it is polled again
)
DELETE_UNKNOWN_AFTER_S = (
    600.0  # a submission that hung may be accepted this late; the pilot is cancelled then
)
SUBMISSION_SPACING_S = 10.0  # seconds between two submissions, after the first ones
MINUTE_S = 60.0
SILENT_BEATS = 3  # a pilot is silent after this number of missed heartbeats
LEAST_SILENCE_S = 2.0  # seconds; a busy node may be late by this much
LEASE_MARGIN = 1.1  # clocks of two machines run at slightly different speeds
START_TIMEOUT_S = (
    600.0  # a running pilot has fetched its image and registered by then, or never will
)
FAILURES_BEFORE_BACKOFF = 3  # consecutive pilots that could not run a job
FIRST_FAILURE_BACKOFF_S, LONGEST_FAILURE_BACKOFF_S = 60.0, 3600.0
# seconds, after a backend refused a submission
FIRST_REFUSAL_BACKOFF_S, LONGEST_REFUSAL_BACKOFF_S = 10.0, 600.0
MOST_ARRAY_ELEMENTS = 1000  # per array; the default of Slurm's MaxArraySize is 1,001
LONGEST_POLL_S = 60.0  # while a backend does not answer


class Demand(NamedTuple):
    """Jobs that wait for pilots of a backend."""

    jobs: int  # jobs that would start if there were more pilots
    slots: int = 1  # jobs that run on one pilot at the same time
    paths: tuple[str, ...] = ()  # paths that these jobs need on the node

    @property
    def pilots(self) -> int:
        """Number of pilots that would run all these jobs."""
        return math.ceil(max(0, self.jobs) / max(1, self.slots))


NO_DEMAND = Demand(jobs=0)


class PilotState(StrEnum):
    """State of a pilot, derived from the reports of its backend and from its own messages."""

    SUBMITTED = "submitted"  # the backend has not listed the pilot yet
    WAITING = "waiting"  # in the queue of the backend
    STARTING = "starting"  # on a node, not registered yet
    RUNNING = "running"  # the pilot sends messages, whatever the backend reports
    LEAVING = "leaving"  # the pilot has deregistered, and its processes end
    SILENT = "silent"  # the pilot was registered and sends no messages; it may be alive
    STRANDED = (
        # the backend has ended the pilot, but its node does not answer: it may still run
        "stranded"
    )
    EXPIRED = "expired"  # the pilot's lease has expired: it has ended all its attempts
    MISSING = "missing"  # the backend answers and has not listed the pilot for UNKNOWN_TIMEOUT_S
    ENDED = "ended"


# attempts on such a pilot count as lost
LOST_STATES = frozenset({PilotState.EXPIRED, PilotState.MISSING, PilotState.ENDED})
UNREGISTERED_STATES = frozenset({PilotState.SUBMITTED, PilotState.WAITING, PilotState.STARTING})


class PilotSignals(NamedTuple):
    """Observations about one pilot. Durations are in seconds."""

    # latest report of the backend; None if it was not polled yet
    allocation_state: AllocationState | None
    node_answers: bool = True
    unknown_s: float = 0.0  # time for which the backend has answered without listing the pilot
    is_registered: bool = False
    is_deregistered: bool = False
    silent_s: float = 0.0
    process_gone: bool = (
        False  # the backend does not answer, and the process is known to have ended
    )
    heartbeat_s: float = 5.0
    lease_s: float | None = None


def is_silent(signals: PilotSignals) -> bool:
    """Return whether the next heartbeat of a registered pilot is overdue."""
    return signals.silent_s > max(SILENT_BEATS * signals.heartbeat_s, LEAST_SILENCE_S)


def is_lease_over(signals: PilotSignals) -> bool:
    """Return whether a pilot has certainly ended all its attempts because no heartbeat was answered.

    The lease starts when the pilot sends the last answered heartbeat. That is before the heartbeat is read.
    """
    if signals.lease_s is None or not signals.is_registered:
        return False
    return signals.silent_s > LEASE_MARGIN * signals.lease_s + max(
        signals.heartbeat_s, LEAST_SILENCE_S
    )


def pilot_state(signals: PilotSignals) -> PilotState:
    """Return the state of a pilot.

    A pilot that sends messages is alive. A pilot that is unlisted only for a moment is not gone.
    """
    if signals.is_registered and not signals.is_deregistered and not is_silent(signals):
        return PilotState.RUNNING
    missing = (
        signals.allocation_state is AllocationState.UNKNOWN
        and signals.unknown_s >= UNKNOWN_TIMEOUT_S
    )
    if missing or signals.allocation_state is AllocationState.ENDED or signals.process_gone:
        sure = (
            signals.process_gone
            or signals.node_answers
            or signals.is_deregistered
            or is_lease_over(signals)
            or not signals.is_registered
        )
        over = PilotState.MISSING if missing else PilotState.ENDED
        return over if sure else PilotState.STRANDED
    if is_lease_over(signals):
        return PilotState.EXPIRED
    if signals.is_deregistered:
        return PilotState.LEAVING
    if signals.is_registered:
        return PilotState.SILENT
    if signals.allocation_state is AllocationState.WAITING:
        return PilotState.WAITING
    return (
        PilotState.STARTING
        if signals.allocation_state is AllocationState.RUNNING
        else PilotState.SUBMITTED
    )


def count_excess_pilots(demand: Demand, *, waiting_count: int, starting_count: int) -> int:
    """Return how many pilots in the queue of a backend are no longer needed."""
    return max(0, min(waiting_count, waiting_count + starting_count - demand.pilots))


def failure_backoff_s(failures: int) -> float:
    """Return the pause of submissions, in seconds, after this number of consecutive pilots that could not run a job."""
    return (
        exponential_backoff_s(
            FIRST_FAILURE_BACKOFF_S, failures - FAILURES_BEFORE_BACKOFF, LONGEST_FAILURE_BACKOFF_S
        )
        if failures >= FAILURES_BEFORE_BACKOFF
        else 0.0
    )


def refusal_backoff_s(refusals: int) -> float:
    """Return the pause of submissions, in seconds, after this number of consecutive refusals."""
    return (
        exponential_backoff_s(FIRST_REFUSAL_BACKOFF_S, refusals - 1, LONGEST_REFUSAL_BACKOFF_S)
        if refusals > 0
        else 0.0
    )


def poll_interval_s(usual_s: float, errors: int) -> float:
    """Return the interval between two polls, in seconds, after this number of consecutive errors of a backend."""
    return max(usual_s, exponential_backoff_s(usual_s, errors, LONGEST_POLL_S))


@dataclass(slots=True, kw_only=True)
class SubmitThrottle:
    """The submissions of a backend, and the reason why the next one is delayed."""

    failures: int = 0  # consecutive pilots that could not run a job
    failure: str = ""  # text about the end of the last of them
    log: str | None = None  # the last lines of the pilot's output; None if not read yet
    has_recent_success: bool = (
        False  # the last pilot registered without problems, so pilots can start there
    )
    refusal: str = (
        ""  # message of the backend if it refused the last submission; '' if it accepted it
    )
    submission_times: deque[float] = field(default_factory=deque)  # submissions of the last minute
    last_submission_at: float = -math.inf  # time of the last submission
    _not_before: float = -math.inf
    _refusals: int = 0

    def number_to_submit(
        self,
        demand: Demand,
        now: float,
        *,
        active: int,
        pending_count: int,
        most: int,
        per_minute: int,
        single: bool = False,
    ) -> int:
        """Return how many pilots to submit now.

        The first pilots are submitted at once. Further ones are submitted one at a time, because the first may
        have done the work by then. Before a pilot has registered, the number is limited to the failures that are
        allowed before the backoff.

        Args:
            demand: The waiting jobs.
            now: Monotonic time in seconds.
            active: Pilots that exist or may exist.
            pending_count: Those of them that will accept jobs and have not registered yet.
            most: Maximum number of pilots of the backend.
            per_minute: Maximum number of submissions per minute.
            single: Each pilot is for one job, and all pilots submitted now are one submission.
        """
        room = min(most - active, per_minute - self._count_last_minute(now))
        if single and room > 0:
            room = min(most - active, MOST_ARRAY_ELEMENTS)
        if not self.has_recent_success:
            tried = MOST_ARRAY_ELEMENTS if single and not self.failures else FAILURES_BEFORE_BACKOFF
            room = min(room, max(1, tried - self.failures) - pending_count)
        number = max(0, min(demand.pilots - pending_count, room))
        if not active and not self.failures:
            return number
        if now - self.last_submission_at < SUBMISSION_SPACING_S:
            return 0
        return number if single and not self.failures else min(1, number)

    def wait_s(self, now: float, *, active: int, per_minute: int) -> float:
        """Return how long rate limits, failures and refusals prevent a submission, in seconds."""
        wait_s = (
            SUBMISSION_SPACING_S - (now - self.last_submission_at)
            if active or self.failures
            else 0.0
        )
        if self._count_last_minute(now) >= per_minute:
            wait_s = max(wait_s, MINUTE_S - (now - self.submission_times[0]))
        return max(wait_s, self.backoff_s(now))

    def _count_last_minute(self, now: float) -> int:
        """Return the number of submissions in the last minute."""
        while self.submission_times and now - self.submission_times[0] >= MINUTE_S:
            self.submission_times.popleft()
        return len(self.submission_times)

    def record_submission(self, number: int, timestamp: float) -> None:
        """Record that pilots were submitted or may have been submitted."""
        self.submission_times.extend([timestamp] * number)
        self.last_submission_at = max(timestamp, self.last_submission_at)

    def record_acceptance(self) -> None:
        """Record that the backend accepted a submission."""
        self._refusals, self.refusal = 0, ""

    def record_refusal(self, why: str, now: float) -> None:
        """Record that the backend refused a submission."""
        self._refusals += 1
        self.refusal = why
        self._not_before = max(self._not_before, now + refusal_backoff_s(self._refusals))

    def record_success(self) -> None:
        """Record that a pilot registered without problems."""
        self.failures, self.failure, self.log, self.has_recent_success = 0, "", None, True
        if not self._refusals:
            self._not_before = -math.inf

    def record_failure(self, why: str, now: float) -> None:
        """Record that a pilot ended or was abandoned before it could run a job."""
        self.failures, self.has_recent_success = self.failures + 1, False
        self.failure = why
        self._not_before = max(self._not_before, now + failure_backoff_s(self.failures))

    def reset(self) -> None:
        """Reset failures and refusals after a change of the configuration. Rate limits still apply."""
        self.failures, self._refusals, self.has_recent_success = 0, 0, False
        self.failure, self.log, self.refusal = "", None, ""
        self._not_before = -math.inf

    def backoff_s(self, now: float) -> float:
        """Return how long failures and refusals prevent a submission, in seconds."""
        return max(0.0, self._not_before - now)
