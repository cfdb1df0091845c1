"""One pilot in the scheduler: its record, its latest messages, and the latest report of its backend."""

import math
from dataclasses import dataclass

from launcher import __version__
from launcher.queue.backends.pilot_link import PilotLink
from launcher.queue.backends.pilot_messages import Drain
from launcher.queue.backends.pilot_records import PilotRecord
from launcher.queue.backends.pilot_rules import (
    LOST_STATES,
    UNREGISTERED_STATES,
    PilotSignals,
    PilotState,
    is_lease_over,
    pilot_state,
)
from launcher.queue.backends.protocol import AllocationEndCause, AllocationState, Observation

_END_TEXTS = {
    AllocationEndCause.COMPLETED: "has ended",
    AllocationEndCause.PREEMPTED: "was preempted",
    AllocationEndCause.TIME_LIMIT: "reached its time limit",
    AllocationEndCause.MEMORY: "ran out of memory",
    AllocationEndCause.CANCELLED: "was cancelled",
    AllocationEndCause.FAILED: "failed",
    AllocationEndCause.UNKNOWN: "has ended",
}
_CAUSES_WITH_REASON = {
    AllocationEndCause.FAILED,
    AllocationEndCause.MEMORY,
    AllocationEndCause.UNKNOWN,
}
CANCEL_RETRY_S = 10.0  # seconds; a backend may have lost a request to cancel a pilot
END_POLLS = 3  # polls without an end time before the pilot gets jobs anyway


@dataclass(slots=True, kw_only=True, eq=False)
class Pilot:
    """A pilot. Times are in seconds."""

    record: PilotRecord  # the pilot's record in the queue folder
    link: PilotLink  # the pilot's two message files
    # an earlier scheduler submitted the pilot, so it is not known to be alive
    adopted: bool = False
    observation: Observation | None = None
    unknown_s: float = 0.0
    attempts: int = 0
    state: PilotState = PilotState.SUBMITTED
    durable: bool = True  # the pilot's record survives a power cut
    is_submitted: bool = True  # False while the pilot's submission is running
    process_gone: bool = False  # the pilot's process is known to have ended, without its backend
    is_deleting: bool = False  # the pilot has ended, and its folder is being deleted
    is_accepted: bool = False  # the pilot's backend has accepted or listed it
    success_recorded: bool = False  # the pilot has registered without problems
    failure_recorded: bool = False  # the pilot counts as a pilot that could not run a job
    log: str | None = None  # the last lines of the pilot's output; None if not read
    cancelled: bool = False  # the backend has accepted a request to cancel the pilot
    cancel_at: float = -math.inf  # earliest time of the next request to cancel the pilot
    silent_s: float = math.inf  # since the pilot's last message that could be read
    drain_at: float = math.inf  # when the pilot was sent the command to end all its attempts
    _abandoned_at: float = math.inf  # since when the pilot is abandoned
    _lost_at: float = math.inf  # since when the pilot is lost
    _sent_drain: Drain | None = None  # the last command to drain that the pilot was sent
    _observed_at: float = math.nan  # when the backend was last polled about the pilot
    running_since: float = math.inf  # since when the pilot's backend has reported it on a node
    _registered_at: float = math.inf
    _updated_at: float = -math.inf  # time of the last update
    _is_known_alive: bool = False  # the pilot is certainly alive
    _first_heartbeat: int | None = None

    @property
    def token(self) -> str:
        """Name of the pilot."""
        return self.record.token

    @property
    def allocation_state(self) -> AllocationState | None:
        """State in the latest report of the backend; None if it was not polled yet."""
        return None if self.observation is None else self.observation.stage

    @property
    def node(self) -> str:
        """Node of the pilot; '' if unknown. Its own message takes precedence over its backend."""
        of_engine = "" if self.observation is None else self.observation.node
        hello = self.link.registration
        return self.reported_node or of_engine or ("" if hello is None else hello.host)

    @property
    def reported_node(self) -> str:
        """Node that the pilot has reported, by the name in the backend; '' if it has not registered."""
        return "" if self.link.registration is None else self.link.registration.node

    @property
    def job(self) -> str:
        """Number of the allocation in the backend; '' if unknown. Backends reuse numbers."""
        return "" if self.link.registration is None else self.link.registration.job

    @property
    def label(self) -> str:
        """Name in messages: node and number, which are shorter than the token."""
        if not self.node:
            return f"pilot {self.token}"
        return f"pilot on {self.node} (job {self.job})" if self.job else f"pilot on {self.node}"

    @property
    def end_reason(self) -> str:
        """End as its backend reports it, for example "allocation 12 of slurm was cancelled"; '' if it does not."""
        if self.observation is None or self.observation.stage is not AllocationState.ENDED:
            return ""
        cause, reason = (
            self.observation.cause or AllocationEndCause.UNKNOWN,
            self.observation.reason,
        )
        if cause is AllocationEndCause.NODE_FAILED:
            return f"node {self.node or 'of the pilot'} is down"
        of_backend = f"of {self.record.spec.backend}"
        place = f"allocation {self.job} {of_backend}" if self.job else f"the pilot {of_backend}"
        on_node = f" on {self.node}" if self.node and not self.job else ""
        why = f" ({reason})" if reason and cause in _CAUSES_WITH_REASON else ""
        return f"{place}{on_node} {_END_TEXTS[cause]}{why}"

    @property
    def is_registered(self) -> bool:
        """Whether the pilot has registered."""
        return self.link.registration is not None

    @property
    def troubles(self) -> tuple[str, ...]:
        """Problems that prevent the pilot from running jobs; empty if there are none."""
        hello = self.link.registration
        if hello is None:
            return ()
        if hello.version != __version__ and not hello.troubles:
            return (f"it has launcher {hello.version}, but the scheduler has {__version__}",)
        return hello.troubles

    @property
    def is_terminating(self) -> bool:
        """Whether the pilot is to end, even if it runs attempts."""
        return bool(self.record.cancelled or self.record.given_up)

    @property
    def is_empty(self) -> bool:
        """Whether all processes of the pilot have ended.

        The pilot or its backend reports that it is empty, or its lease has expired.
        """
        if self.link.exit_reason is not None or is_lease_over(self._make_signals()):
            return True
        emptied = self.observation is not None and self.observation.emptied
        return emptied and self.state is PilotState.ENDED

    @property
    def terminating_s(self) -> float:
        """Seconds since the pilot was abandoned and its attempts are lost; infinite if no process is left, otherwise 0.

        A node that does not answer may be frozen, so no timeout shows when its processes end. A user who knows that it
        is permanently gone can cancel its jobs.
        """
        if self.record.buried or (self.record.given_up and self.is_empty):
            return math.inf
        since = math.inf
        if self.is_lost:
            since = max(self._abandoned_at, self._lost_at)
        elif self.state is PilotState.STRANDED and self.link.has_stopped_all:
            since = self._abandoned_at
        return max(0.0, self._updated_at - since)

    @property
    def counts_toward_limit(self) -> bool:
        """Whether the pilot counts toward the limit of pilots: it exists or may exist."""
        if self.state in {PilotState.ENDED, PilotState.STRANDED}:
            return False
        return not (self.cancelled and self.allocation_state is AllocationState.UNKNOWN)

    @property
    def is_pending(self) -> bool:
        """Whether the pilot will accept jobs and has not registered yet.

        A pilot for a single job is also pending until it gets that job.
        """
        coming = self.state in UNREGISTERED_STATES or (
            self.record.spec.single and self.accepts_jobs
        )
        return (coming or self._awaits_end_time) and not self.is_terminating

    @property
    def is_polled(self) -> bool:
        """Whether the messages of the pilot are to be read."""
        return self.is_submitted and not (self.is_deleting or self.record.buried)

    @property
    def is_queued_unpolled(self) -> bool:
        """Whether the pilot is in the queue of its backend, perhaps with hundreds, and sends no messages.

        A pilot of an earlier scheduler may already run an attempt on a node before the backend is polled.
        """
        waits = self.allocation_state is AllocationState.WAITING or (
            self.allocation_state is None and not self.adopted
        )
        return self.record.spec.single and waits and not (self.is_registered or self.attempts)

    @property
    def accepts_jobs(self) -> bool:
        """Whether the pilot may be sent jobs now."""
        proven = self._is_known_alive or not self.adopted
        ready = self.state is PilotState.RUNNING and proven and not self._awaits_end_time
        return ready and not (self.is_terminating or self.link.is_draining or self.troubles)

    @property
    def is_lost(self) -> bool:
        """Whether attempts on the pilot are lost, except those with a recorded end."""
        return self.state in LOST_STATES

    def needs_scheduler(self, now: float, *, engine_silent: bool) -> bool:
        """Return whether a scheduler must keep running for the pilot.

        Args:
            now: Monotonic time in seconds.
            engine_silent: Whether the backend does not answer.
        """
        if self.attempts or not self.is_submitted:
            return True
        if self.state in {PilotState.MISSING, PilotState.STRANDED}:
            return False
        if self.state is PilotState.ENDED:
            return not engine_silent  # the pilot's folder is about to be deleted
        if self.state is PilotState.LEAVING:
            return self.silent_s < CANCEL_RETRY_S  # the pilot is about to end
        return not self.cancelled or now < self.cancel_at

    def update_state(self, attempts: int, now: float) -> None:
        """Update the state from the messages that the link has read.

        Args:
            attempts: Number of attempts on the pilot according to the queue.
            now: Monotonic time in seconds at which the queue counted the attempts.
        """
        self.attempts, self._updated_at = attempts, now
        if self.is_registered:
            self._registered_at = min(self._registered_at, now)
        if not self.link.error:
            self.silent_s = self.link.silent_s(now)
        self.state = pilot_state(self._make_signals())
        if self.adopted and not self._is_known_alive:
            self._update_known_alive()
        if self.record.given_up:
            self._abandoned_at = min(self._abandoned_at, now)
        self._lost_at = min(self._lost_at, now) if self.is_lost else math.inf

    def apply_observation(self, observation: Observation, now: float, poll_s: float) -> None:
        """Update the state from a report of the backend.

        Args:
            observation: The report.
            now: Monotonic time of the report in seconds.
            poll_s: Interval between two polls in seconds. A much longer gap counts as two intervals.
        """
        known = observation.stage is not AllocationState.UNKNOWN
        self.is_accepted = self.is_accepted or known
        if known or self.allocation_state is not AllocationState.UNKNOWN:
            self.unknown_s = 0.0
        else:
            self.unknown_s += min(max(0.0, now - self._observed_at), 2 * poll_s)
        runs = observation.stage is AllocationState.RUNNING
        self.running_since = min(self.running_since, now) if runs else math.inf
        if observation.ends_at is not None:
            self.link.ends_at = observation.ends_at
        starts_at = observation.starts_at
        if starts_at is not None and not math.isfinite(starts_at):
            observation = observation._replace(starts_at=None)
        self.observation, self._observed_at = observation, now
        self.link.end_reason = self.end_reason

    def is_cancel_due(self, now: float) -> bool:
        """Return whether the backend is to be asked now to cancel the pilot."""
        if not self.is_terminating or now < self.cancel_at or self.process_gone:
            return False
        return not self.cancelled or self.allocation_state in {
            AllocationState.WAITING,
            AllocationState.RUNNING,
        }

    def record_cancel_request(self, now: float) -> None:
        """Record that the backend accepted the request to cancel the pilot."""
        self.cancelled, self.cancel_at = True, now + CANCEL_RETRY_S

    def send_drain(self, *, now: bool, drain_time: float) -> None:
        """Send the pilot once the command to accept no more jobs, and to end its attempts if `now` is set."""
        if self._sent_drain is not None and (self._sent_drain.now or not now):
            return
        self._sent_drain = Drain(now=now)
        self.link.send(self._sent_drain)
        if now:
            self.drain_at = drain_time

    @property
    def _awaits_end_time(self) -> bool:
        """Whether the backend is about to report the end time. A job that takes longer must not start there."""
        hello = self.link.registration
        if hello is None or not hello.limited or self.allocation_state is AllocationState.RUNNING:
            return False
        late = self._updated_at - self._registered_at > END_POLLS * self.record.settings.poll_s
        return self.state is PilotState.RUNNING and not late

    def _update_known_alive(self) -> None:
        """Require a new heartbeat or a report of the backend, because an old file proves nothing."""
        beat = self.link.heartbeat
        number = 0 if beat is None else beat.number
        if self.is_registered and self._first_heartbeat is None:
            self._first_heartbeat = number
        newer = self._first_heartbeat is not None and number > self._first_heartbeat
        self._is_known_alive = newer or self.allocation_state in {
            AllocationState.WAITING,
            AllocationState.RUNNING,
        }

    def _make_signals(self) -> PilotSignals:
        observation, spec = self.observation, self.record.spec
        return PilotSignals(
            allocation_state=self.allocation_state,
            node_answers=observation is None or observation.node_answers,
            unknown_s=self.unknown_s,
            is_registered=self.is_registered,
            is_deregistered=self.link.exit_reason is not None,
            process_gone=self.process_gone,
            silent_s=self.silent_s,
            heartbeat_s=spec.beat_s,
            lease_s=spec.lease_s,
        )
