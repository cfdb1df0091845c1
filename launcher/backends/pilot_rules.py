"""What is decided about pilots: how many are submitted, when, and when nothing of one lives any more.

Pure: what is known goes in, a decision comes out. Times are spans in seconds, so no clock can jump under them.

How fast pilots of a backend may follow each other, from what became of the last ones.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from launcher.backends.protocol import AllocationState

UNKNOWN_TIMEOUT_S = (
    30.0  # an engine that forgets a pilot may have been restarted: it is asked again
)
DELETE_UNKNOWN_AFTER_S = (
    600.0  # a submission that hung may come through so late; then the pilot is cancelled
)
SUBMISSION_SPACING_S = 10.0  # between two submissions, after the first ones
MINUTE_S = 60.0
SILENT_BEATS = 3  # a pilot that misses so many is silent
LEAST_SILENCE_S = 2.0  # a node that is busy may be late by so much
LEASE_MARGIN = 1.1  # clocks of two machines run at slightly different speeds
START_TIMEOUT_S = (
    600.0  # a pilot that runs and says nothing for so long will not: its image is fetched by then
)
FAILURES_BEFORE_BACKOFF = 3  # pilots in a row that never spoke
FIRST_FAILURE_BACKOFF_S, LONGEST_FAILURE_BACKOFF_S = 60.0, 3600.0
FIRST_REFUSAL_BACKOFF_S, LONGEST_REFUSAL_BACKOFF_S = (
    10.0,
    600.0,
)  # after an engine refused a submission
MOST_ARRAY_ELEMENTS = 1000  # of an array: Slurm's MaxArraySize is 1,001 where nobody has changed it
LONGEST_POLL_S = 60.0  # while an engine does not answer


class Demand(NamedTuple):
    """Work that waits for pilots of a backend."""

    jobs: int  # that would start if there were more pilots
    slots: int = 1  # so many of them run on one pilot at once
    paths: tuple[str, ...] = ()  # that these jobs need to see on the node

    @property
    def pilots(self) -> int:
        """How many pilots would take all of it."""
        return math.ceil(max(0, self.jobs) / max(1, self.slots))


NO_DEMAND = Demand(jobs=0)


class PilotState(StrEnum):
    """What the scheduler makes of a pilot, from what the engine says and from what the pilot says."""

    SUBMITTED = "submitted"  # the engine has not spoken of it yet
    WAITING = "waiting"  # in the engine's queue
    STARTING = "starting"  # on a node, and has not spoken yet
    RUNNING = "running"  # it speaks, whatever the engine says
    LEAVING = "leaving"  # it has taken its leave, and its processes end
    SILENT = "silent"  # it has spoken, and does not any more; it may live
    STRANDED = "stranded"  # the engine has ended it, but its node is silent, too: it may run on
    EXPIRED = "expired"  # its lease is over: it has ended all that ran there
    MISSING = "missing"  # the engine answers, and has not known it for long
    ENDED = "ended"


LOST_STATES = frozenset(
    {PilotState.EXPIRED, PilotState.MISSING, PilotState.ENDED}
)  # what ran there is taken for lost
UNREGISTERED_STATES = frozenset({PilotState.SUBMITTED, PilotState.WAITING, PilotState.STARTING})


class PilotSignals(NamedTuple):
    """What is known of one pilot."""

    allocation_state: AllocationState | None  # as the engine said last; None: it has not been asked
    node_answers: bool = True
    unknown_s: float = 0.0  # for so long the engine has answered that it knows no such pilot
    is_registered: bool = False
    is_deregistered: bool = False
    silent_s: float = 0.0
    process_gone: bool = False  # its engine does not answer, and its process is known to be over
    heartbeat_s: float = 5.0
    lease_s: float | None = None


def is_silent(signals: PilotSignals) -> bool:
    """Tell whether a pilot that has spoken should have spoken again by now."""
    return signals.silent_s > max(SILENT_BEATS * signals.heartbeat_s, LEAST_SILENCE_S)


def is_lease_over(signals: PilotSignals) -> bool:
    """Tell whether a pilot has certainly ended all that ran there, as nobody answered its beats.

    Its lease runs from when it sent the last beat that was answered, which was before that beat was read.
    """
    if signals.lease_s is None or not signals.is_registered:
        return False
    return signals.silent_s > LEASE_MARGIN * signals.lease_s + max(
        signals.heartbeat_s, LEAST_SILENCE_S
    )


def pilot_state(signals: PilotSignals) -> PilotState:
    """Return what to make of a pilot; whoever speaks is alive, and who is unknown for a moment is not gone."""
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


def count_excess_pilots(demand: Demand, *, waiting: int, starting: int) -> int:
    """Return how many of the pilots that wait in an engine's queue nobody needs any more."""
    return max(0, min(waiting, waiting + starting - demand.pilots))


def failure_backoff_s(failures: int) -> float:
    """Return how long nothing is submitted after so many pilots in a row that never spoke."""
    return (
        _exponential_backoff_s(
            FIRST_FAILURE_BACKOFF_S, failures - FAILURES_BEFORE_BACKOFF, LONGEST_FAILURE_BACKOFF_S
        )
        if failures >= FAILURES_BEFORE_BACKOFF
        else 0.0
    )


def refusal_backoff_s(refusals: int) -> float:
    """Return how long nothing is submitted after an engine refused so many times in a row."""
    return (
        _exponential_backoff_s(FIRST_REFUSAL_BACKOFF_S, refusals - 1, LONGEST_REFUSAL_BACKOFF_S)
        if refusals > 0
        else 0.0
    )


def poll_interval_s(usual_s: float, errors: int) -> float:
    """Return after how long an engine is asked again that did not answer so many times in a row."""
    return max(usual_s, _exponential_backoff_s(usual_s, errors, LONGEST_POLL_S))


def _exponential_backoff_s(first_s: float, times: int, longest_s: float) -> float:
    return min(longest_s, first_s * 2.0 ** min(times, 32))


@dataclass(slots=True, kw_only=True)
class SubmitThrottle:
    """The submissions of a backend, and why the next one waits."""

    failures: int = 0  # pilots in a row that never spoke
    failure: str = ""  # how the last of them ended
    log: str | None = None  # the last lines of what it printed; None: not read yet
    has_recent_success: bool = False  # the last one spoke: pilots can start there
    refusal: str = ""  # what the engine said to the last submission; '': it took it
    submission_times: deque[float] = field(
        default_factory=deque
    )  # of the last minute's submissions
    last_submission_at: float = -math.inf  # likewise, of the last one
    _not_before: float = -math.inf
    _refusals: int = 0

    def number_to_submit(
        self,
        demand: Demand,
        now: float,
        *,
        active: int,
        pending: int,
        most: int,
        per_minute: int,
        single: bool = False,
    ) -> int:
        """Return how many pilots to submit now.

        The first ones come at once, further ones one at a time: by then the first may have done the work. Until a
        pilot has spoken, no more are tried than may fail before the pause.

        Args:
            demand: the work that waits.
            now: by a clock that nobody sets.
            active: pilots that are there, or may be.
            pending: of these: will take work, and have not spoken yet.
            most: pilots of the backend at once.
            per_minute: submissions in a minute.
            single: each pilot is for one job, and all that are submitted now are one submission.
        """
        room = min(most - active, per_minute - self._count_last_minute(now))
        if single and room > 0:
            room = min(most - active, MOST_ARRAY_ELEMENTS)
        if not self.has_recent_success:
            tried = MOST_ARRAY_ELEMENTS if single and not self.failures else FAILURES_BEFORE_BACKOFF
            room = min(room, max(1, tried - self.failures) - pending)
        number = max(0, min(demand.pilots - pending, room))
        if not active and not self.failures:
            return number
        if now - self.last_submission_at < SUBMISSION_SPACING_S:
            return 0
        return number if single and not self.failures else min(1, number)

    def wait_s(self, now: float, *, active: int, per_minute: int) -> float:
        """Return how long limits of time, failures and refusals forbid a submission."""
        wait_s = (
            SUBMISSION_SPACING_S - (now - self.last_submission_at)
            if active or self.failures
            else 0.0
        )
        if self._count_last_minute(now) >= per_minute:
            wait_s = max(wait_s, MINUTE_S - (now - self.submission_times[0]))
        return max(wait_s, self.backoff_s(now))

    def _count_last_minute(self, now: float) -> int:
        """Return how many submissions the last minute had."""
        while self.submission_times and now - self.submission_times[0] >= MINUTE_S:
            self.submission_times.popleft()
        return len(self.submission_times)

    def record_submission(self, number: int, at: float) -> None:
        """Note that pilots were submitted, or may have been."""
        self.submission_times.extend([at] * number)
        self.last_submission_at = max(at, self.last_submission_at)

    def record_acceptance(self) -> None:
        """Note that the engine took a submission."""
        self._refusals, self.refusal = 0, ""

    def record_refusal(self, why: str, now: float) -> None:
        """Note that it did not."""
        self._refusals += 1
        self.refusal = why
        self._not_before = max(self._not_before, now + refusal_backoff_s(self._refusals))

    def record_success(self) -> None:
        """Note that a pilot spoke, and can do its work."""
        self.failures, self.failure, self.log, self.has_recent_success = 0, "", None, True
        if not self._refusals:
            self._not_before = -math.inf

    def record_failure(self, why: str, now: float) -> None:
        """Note that a pilot ended, or was given up, before it could do any work."""
        self.failures, self.has_recent_success = self.failures + 1, False
        self.failure = why
        self._not_before = max(self._not_before, now + failure_backoff_s(self.failures))

    def reset(self) -> None:
        """Begin anew, as what the pilots are started with is another now; how many there were still counts."""
        self.failures, self._refusals, self.has_recent_success = 0, 0, False
        self.failure, self.log, self.refusal = "", None, ""
        self._not_before = -math.inf

    def backoff_s(self, now: float) -> float:
        """Return how long failures and refusals forbid a submission."""
        return max(0.0, self._not_before - now)
