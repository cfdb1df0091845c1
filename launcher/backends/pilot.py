"""One pilot, as the scheduler knows it: its record, what it last reported, and what its engine says of it."""

import math
from dataclasses import dataclass

from launcher import __version__
from launcher.backends.pilot_link import PilotLink
from launcher.backends.pilot_messages import Leave
from launcher.backends.pilot_records import PilotRecord
from launcher.backends.pilot_rules import OVER, UNSPOKEN, Life, Signs, is_lease_over, life_of
from launcher.backends.protocol import Cause, Observation, Stage

_ENDED = {
    Cause.COMPLETED: "has ended",
    Cause.PREEMPTED: "was preempted",
    Cause.TIME_LIMIT: "reached its time limit",
    Cause.MEMORY: "ran out of memory",
    Cause.CANCELLED: "was cancelled",
    Cause.FAILED: "failed",
    Cause.UNKNOWN: "has ended",
}
_WITH_REASON = {Cause.FAILED, Cause.MEMORY, Cause.UNKNOWN}
CANCEL_AGAIN_S = 10.0  # an engine may have lost a request to end a pilot
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
    life: Life = Life.SUBMITTED
    durable: bool = True  # its record survives a power cut
    made: bool = True  # False: its submission is under way
    gone: bool = False  # its process is over, as far as is known without its engine
    closed: bool = False  # it has ended, and its folder is being deleted
    taken: bool = False  # its engine took it, or has known it
    greeted: bool = False  # it has spoken, and can do its work
    blamed: bool = False  # it counts as a pilot that never spoke
    log: str | None = None  # the last lines of what it printed; None: not read
    cancelled: bool = False  # the engine was asked to end it, and did not refuse
    cancel_at: float = -math.inf  # not before then
    silent_s: float = math.inf  # since it spoke last, as far as its news could be read
    left_at: float = math.inf  # when it was sent that it is to end all that runs there
    _given_up_at: float = math.inf  # since when it is that, as it was judged
    _over_at: float = math.inf  # likewise
    _leave: Leave | None = None  # the order that it was sent
    _asked_at: float = math.nan  # when the engine was last asked about it
    running_since: float = math.inf  # since when its engine has said that it is on a node
    _spoke_at: float = math.inf
    _now: float = -math.inf  # when it was judged last
    _proven: bool = False  # it lives for certain
    _first_beat: int | None = None

    @property
    def token(self) -> str:
        """Its name."""
        return self.record.token

    @property
    def stage(self) -> Stage | None:
        """How far the engine was when it answered last; None: it has not been asked."""
        return None if self.observation is None else self.observation.stage

    @property
    def node(self) -> str:
        """The node it is on, '' where that is not known; what it says itself counts before what its engine says."""
        of_engine = "" if self.observation is None else self.observation.node
        hello = self.link.hello
        return self.own_node or of_engine or ("" if hello is None else hello.host)

    @property
    def own_node(self) -> str:
        """The node that it says it is on, by the engine's name; '' where it has not said so."""
        return "" if self.link.hello is None else self.link.hello.node

    @property
    def job(self) -> str:
        """The engine's number of it, '' where that is not known; it may be given out again."""
        return "" if self.link.hello is None else self.link.hello.job

    @property
    def label(self) -> str:
        """What it is called in messages: its node and number, as long names tell people nothing."""
        if not self.node:
            return f"pilot {self.token}"
        return f"pilot on {self.node} (job {self.job})" if self.job else f"pilot on {self.node}"

    @property
    def end(self) -> str:
        """How its engine says that it ended: "allocation 12 of slurm was cancelled"; '' while it does not."""
        if self.observation is None or self.observation.stage is not Stage.ENDED:
            return ""
        cause, reason = self.observation.cause or Cause.UNKNOWN, self.observation.reason
        if cause is Cause.NODE_FAILED:
            return f"node {self.node or 'of the pilot'} is down"
        of_backend = f"of {self.record.spec.backend}"
        place = f"allocation {self.job} {of_backend}" if self.job else f"the pilot {of_backend}"
        on_node = f" on {self.node}" if self.node and not self.job else ""
        why = f" ({reason})" if reason and cause in _WITH_REASON else ""
        return f"{place}{on_node} {_ENDED[cause]}{why}"

    @property
    def spoke(self) -> bool:
        """Whether it has spoken."""
        return self.link.hello is not None

    @property
    def troubles(self) -> tuple[str, ...]:
        """Why it can do nothing; nothing where it can."""
        hello = self.link.hello
        if hello is None:
            return ()
        if hello.version != __version__ and not hello.troubles:
            return (f"it has launcher {hello.version}, but the scheduler has {__version__}",)
        return hello.troubles

    @property
    def is_doomed(self) -> bool:
        """Whether it is to end whatever it does."""
        return bool(self.record.cancelled or self.record.given_up)

    @property
    def is_empty(self) -> bool:
        """Whether nothing of what ran there lives: it said so, its engine does, or its lease is over."""
        if self.link.said_bye is not None or is_lease_over(self._signs()):
            return True
        emptied = self.observation is not None and self.observation.emptied
        return emptied and self.life is Life.ENDED

    @property
    def ending_s(self) -> float:
        """How long all that lives there has been ending, since it was given up; infinite: nothing lives.

        A node that does not answer may be frozen, and no time tells when it ends what runs there; its owner may know
        that it is gone for good, and asks all of it to end.
        """
        if self.record.buried or (self.record.given_up and self.is_empty):
            return math.inf
        since = math.inf
        if self.over:
            since = max(self._given_up_at, self._over_at)
        elif self.life is Life.STRANDED and self.link.is_emptied:
            since = self._given_up_at
        return max(0.0, self._now - since)

    @property
    def held(self) -> bool:
        """Whether it counts against the number of pilots: it is there, or may be."""
        if self.life in {Life.ENDED, Life.STRANDED}:
            return False
        return not (self.cancelled and self.stage is Stage.UNKNOWN)

    @property
    def expected(self) -> bool:
        """Whether it will take work, and has not spoken yet; one for a single job also until it gets that."""
        coming = self.life in UNSPOKEN or (self.record.spec.single and self.takes_work)
        return (coming or self._awaits_end) and not self.is_doomed

    @property
    def heard(self) -> bool:
        """Whether its news are to be read."""
        return self.made and not (self.closed or self.record.buried)

    @property
    def waits_unheard(self) -> bool:
        """Whether it is one of perhaps hundreds in an engine's queue, and has no news then.

        One of an earlier scheduler may be on a node, with an attempt, before the engine was asked about it.
        """
        waits = self.stage is Stage.WAITING or (self.stage is None and not self.adopted)
        return self.record.spec.single and waits and not (self.spoke or self.attempts)

    @property
    def takes_work(self) -> bool:
        """Whether it may be sent work now."""
        proven = self._proven or not self.adopted
        ready = self.life is Life.RUNNING and proven and not self._awaits_end
        return ready and not (self.is_doomed or self.link.leaving or self.troubles)

    @property
    def over(self) -> bool:
        """Whether what ran there is lost, unless it is on record how it ended."""
        return self.life in OVER

    def needs_scheduler(self, now: float, *, mute: bool) -> bool:
        """Tell whether a scheduler should stay for it: not for what only waits to be forgotten.

        Args:
            now: the time.
            mute: whether its engine does not answer.
        """
        if self.attempts or not self.made:
            return True
        if self.life in {Life.MISSING, Life.STRANDED}:
            return False
        if self.life is Life.ENDED:
            return not mute  # its folder is about to be deleted
        if self.life is Life.LEAVING:
            return self.silent_s < CANCEL_AGAIN_S  # it is about to end
        return not self.cancelled or now < self.cancel_at

    def judge(self, attempts: int, now: float) -> None:
        """Take in what its link has read.

        Args:
            attempts: that are there, as the queue has it.
            now: the time of that.
        """
        self.attempts, self._now = attempts, now
        if self.spoke:
            self._spoke_at = min(self._spoke_at, now)
        if not self.link.trouble:
            self.silent_s = self.link.silent_s(now)
        self.life = life_of(self._signs())
        if self.adopted and not self._proven:
            self._prove()
        if self.record.given_up:
            self._given_up_at = min(self._given_up_at, now)
        self._over_at = min(self._over_at, now) if self.over else math.inf

    def observe(self, observation: Observation, now: float, poll_s: float) -> None:
        """Take in what the engine says.

        Args:
            observation: its answer.
            now: when it answered.
            poll_s: between two questions; a gap that is much longer counts as two.
        """
        known = observation.stage is not Stage.UNKNOWN
        self.taken = self.taken or known
        if known or self.stage is not Stage.UNKNOWN:
            self.unknown_s = 0.0
        else:
            self.unknown_s += min(max(0.0, now - self._asked_at), 2 * poll_s)
        runs = observation.stage is Stage.RUNNING
        self.running_since = min(self.running_since, now) if runs else math.inf
        if observation.ends_at is not None:
            self.link.ends_at = observation.ends_at
        starts_at = observation.starts_at
        if starts_at is not None and not math.isfinite(starts_at):
            observation = observation._replace(starts_at=None)
        self.observation, self._asked_at = observation, now
        self.link.end = self.end

    def cancel_due(self, now: float) -> bool:
        """Tell whether the engine is to be asked now to end it."""
        if not self.is_doomed or now < self.cancel_at or self.gone:
            return False
        return not self.cancelled or self.stage in {Stage.WAITING, Stage.RUNNING}

    def cancel_was_taken(self, now: float) -> None:
        """Note that the engine took the request to end it."""
        self.cancelled, self.cancel_at = True, now + CANCEL_AGAIN_S

    def send_leave(self, *, now: bool, at: float) -> None:
        """Have it take nothing more, once, and end what runs where that is to end now."""
        if self._leave is not None and (self._leave.now or not now):
            return
        self._leave = Leave(now=now)
        self.link.send(self._leave)
        if now:
            self.left_at = at

    @property
    def _awaits_end(self) -> bool:
        """Whether its engine is about to say when it ends: a job that takes longer must not start there."""
        hello = self.link.hello
        if hello is None or not hello.limited or self.stage is Stage.RUNNING:
            return False
        late = self._now - self._spoke_at > END_POLLS * self.record.settings.poll_s
        return self.life is Life.RUNNING and not late

    def _prove(self) -> None:
        """An old file is no sign of life: a new beat is, or the engine that knows it."""
        beat = self.link.beat
        number = 0 if beat is None else beat.number
        if self.spoke and self._first_beat is None:
            self._first_beat = number
        newer = self._first_beat is not None and number > self._first_beat
        self._proven = newer or self.stage in {Stage.WAITING, Stage.RUNNING}

    def _signs(self) -> Signs:
        observation, spec = self.observation, self.record.spec
        return Signs(
            stage=self.stage,
            node_answers=observation is None or observation.node_answers,
            unknown_s=self.unknown_s,
            spoke=self.spoke,
            bye=self.link.said_bye is not None,
            gone=self.gone,
            silent_s=self.silent_s,
            beat_s=spec.beat_s,
            lease_s=spec.lease_s,
        )
