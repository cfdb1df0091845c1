"""One pilot, as the scheduler knows it: its record, what it last reported, and what its engine says of it."""

import math
from dataclasses import dataclass

from launcher import __version__
from launcher.backends.pilot_link import PilotLink
from launcher.backends.pilot_messages import Drain
from launcher.backends.pilot_records import PilotRecord
from launcher.backends.pilot_rules import (
    LOST_STATES,
    UNREGISTERED_STATES,
    PilotSignals,
    PilotState,
    is_lease_over,
    pilot_state,
)
from launcher.backends.protocol import AllocationEndCause, AllocationState, Observation

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
CANCEL_RETRY_S = 10.0  # an engine may have lost a request to end a pilot
END_POLLS = 3  # an engine may miss so many questions before a pilot whose end it knows gets work all the same


@dataclass(slots=True, kw_only=True, eq=False)
class Pilot:
    """What is known of a pilot."""

    record: PilotRecord  # what lies in the home
    link: PilotLink  # its two files
    adopted: bool = False  # an earlier scheduler submitted it: whether it lives is not known then
    observation: Observation | None = None
    unknown_s: float = 0.0
    attempts: int = 0
    state: PilotState = PilotState.SUBMITTED
    durable: bool = True  # its record survives a power cut
    is_submitted: bool = True  # False: its submission is under way
    process_gone: bool = False  # its process is over, as far as is known without its engine
    is_deleting: bool = False  # it has ended, and its folder is being deleted
    is_accepted: bool = False  # its engine took it, or has known it
    success_recorded: bool = False  # it has spoken, and can do its work
    failure_recorded: bool = False  # it counts as a pilot that never spoke
    log: str | None = None  # the last lines of what it printed; None: not read
    cancelled: bool = False  # the engine was asked to end it, and did not refuse
    cancel_at: float = -math.inf  # not before then
    silent_s: float = math.inf  # since it spoke last, as far as its news could be read
    drain_at: float = math.inf  # when it was sent that it is to end all that runs there
    _abandoned_at: float = math.inf  # since when it is that, as it was judged
    _lost_at: float = math.inf  # likewise
    _sent_drain: Drain | None = None  # the order that it was sent
    _observed_at: float = math.nan  # when the engine was last asked about it
    running_since: float = math.inf  # since when its engine has said that it is on a node
    _registered_at: float = math.inf
    _updated_at: float = -math.inf  # when it was judged last
    _is_known_alive: bool = False  # it lives for certain
    _first_heartbeat: int | None = None

    @property
    def token(self) -> str:
        """Its name."""
        return self.record.token

    @property
    def allocation_state(self) -> AllocationState | None:
        """How far the engine was when it answered last; None: it has not been asked."""
        return None if self.observation is None else self.observation.stage

    @property
    def node(self) -> str:
        """The node it is on, '' where that is not known; what it says itself counts before what its engine says."""
        of_engine = "" if self.observation is None else self.observation.node
        hello = self.link.registration
        return self.reported_node or of_engine or ("" if hello is None else hello.host)

    @property
    def reported_node(self) -> str:
        """The node that it says it is on, by the engine's name; '' where it has not said so."""
        return "" if self.link.registration is None else self.link.registration.node

    @property
    def job(self) -> str:
        """The engine's number of it, '' where that is not known; it may be given out again."""
        return "" if self.link.registration is None else self.link.registration.job

    @property
    def label(self) -> str:
        """What it is called in messages: its node and number, as long names tell people nothing."""
        if not self.node:
            return f"pilot {self.token}"
        return f"pilot on {self.node} (job {self.job})" if self.job else f"pilot on {self.node}"

    @property
    def end_reason(self) -> str:
        """How its engine says that it ended: "allocation 12 of slurm was cancelled"; '' while it does not."""
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
        """Whether it has spoken."""
        return self.link.registration is not None

    @property
    def troubles(self) -> tuple[str, ...]:
        """Why it can do nothing; nothing where it can."""
        hello = self.link.registration
        if hello is None:
            return ()
        if hello.version != __version__ and not hello.troubles:
            return (f"it has launcher {hello.version}, but the scheduler has {__version__}",)
        return hello.troubles

    @property
    def is_terminating(self) -> bool:
        """Whether it is to end whatever it does."""
        return bool(self.record.cancelled or self.record.given_up)

    @property
    def is_empty(self) -> bool:
        """Whether nothing of what ran there lives: it said so, its engine does, or its lease is over."""
        if self.link.exit_reason is not None or is_lease_over(self._make_signals()):
            return True
        emptied = self.observation is not None and self.observation.emptied
        return emptied and self.state is PilotState.ENDED

    @property
    def terminating_s(self) -> float:
        """How long all that lives there has been ending, since it was given up; infinite: nothing lives.

        A node that does not answer may be frozen, and no time tells when it ends what runs there; its owner may know
        that it is gone for good, and asks all of it to end.
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
        """Whether it counts against the number of pilots: it is there, or may be."""
        if self.state in {PilotState.ENDED, PilotState.STRANDED}:
            return False
        return not (self.cancelled and self.allocation_state is AllocationState.UNKNOWN)

    @property
    def is_pending(self) -> bool:
        """Whether it will take work, and has not spoken yet; one for a single job also until it gets that."""
        coming = self.state in UNREGISTERED_STATES or (
            self.record.spec.single and self.accepts_jobs
        )
        return (coming or self._awaits_end_time) and not self.is_terminating

    @property
    def is_polled(self) -> bool:
        """Whether its news are to be read."""
        return self.is_submitted and not (self.is_deleting or self.record.buried)

    @property
    def is_queued_unpolled(self) -> bool:
        """Whether it is one of perhaps hundreds in an engine's queue, and has no news then.

        One of an earlier scheduler may be on a node, with an attempt, before the engine was asked about it.
        """
        waits = self.allocation_state is AllocationState.WAITING or (
            self.allocation_state is None and not self.adopted
        )
        return self.record.spec.single and waits and not (self.is_registered or self.attempts)

    @property
    def accepts_jobs(self) -> bool:
        """Whether it may be sent work now."""
        proven = self._is_known_alive or not self.adopted
        ready = self.state is PilotState.RUNNING and proven and not self._awaits_end_time
        return ready and not (self.is_terminating or self.link.is_draining or self.troubles)

    @property
    def is_lost(self) -> bool:
        """Whether what ran there is lost, unless it is on record how it ended."""
        return self.state in LOST_STATES

    def needs_scheduler(self, now: float, *, engine_silent: bool) -> bool:
        """Tell whether a scheduler should stay for it: not for what only waits to be forgotten.

        Args:
            now: the time.
            engine_silent: whether its engine does not answer.
        """
        if self.attempts or not self.is_submitted:
            return True
        if self.state in {PilotState.MISSING, PilotState.STRANDED}:
            return False
        if self.state is PilotState.ENDED:
            return not engine_silent  # its folder is about to be deleted
        if self.state is PilotState.LEAVING:
            return self.silent_s < CANCEL_RETRY_S  # it is about to end
        return not self.cancelled or now < self.cancel_at

    def update_state(self, attempts: int, now: float) -> None:
        """Take in what its link has read.

        Args:
            attempts: that are there, as the queue has it.
            now: the time of that.
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
        """Take in what the engine says.

        Args:
            observation: its answer.
            now: when it answered.
            poll_s: between two questions; a gap that is much longer counts as two.
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
        """Tell whether the engine is to be asked now to end it."""
        if not self.is_terminating or now < self.cancel_at or self.process_gone:
            return False
        return not self.cancelled or self.allocation_state in {
            AllocationState.WAITING,
            AllocationState.RUNNING,
        }

    def record_cancel_request(self, now: float) -> None:
        """Note that the engine took the request to end it."""
        self.cancelled, self.cancel_at = True, now + CANCEL_RETRY_S

    def send_drain(self, *, now: bool, at: float) -> None:
        """Have it take nothing more, once, and end what runs where that is to end now."""
        if self._sent_drain is not None and (self._sent_drain.now or not now):
            return
        self._sent_drain = Drain(now=now)
        self.link.send(self._sent_drain)
        if now:
            self.drain_at = at

    @property
    def _awaits_end_time(self) -> bool:
        """Whether its engine is about to say when it ends: a job that takes longer must not start there."""
        hello = self.link.registration
        if hello is None or not hello.limited or self.allocation_state is AllocationState.RUNNING:
            return False
        late = self._updated_at - self._registered_at > END_POLLS * self.record.settings.poll_s
        return self.state is PilotState.RUNNING and not late

    def _update_known_alive(self) -> None:
        """An old file is no sign of life: a new beat is, or the engine that knows it."""
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
