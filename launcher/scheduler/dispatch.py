"""Assignment of jobs to pilots, and the number of pilots that each backend should have."""

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from launcher.backends.eligibility import never_fits
from launcher.backends.fleet import Fleet
from launcher.backends.pilot_rules import Demand
from launcher.backends.settings import HERE as LOCAL
from launcher.backends.settings import Backends, BackendSettings
from launcher.backends.waiting_reasons import line as one_line
from launcher.context import has_folder, placed_context, read_context
from launcher.errors import UsageError
from launcher.scheduler.attempt_watch import RunningAttempts
from launcher.scheduler.gpus.running_place import place_of
from launcher.scheduler.pilot_demand import WaitingLane, demands
from launcher.scheduler.pilot_news import Hearing
from launcher.scheduler.placement import (
    Candidate,
    KeptPlaces,
    PilotPlace,
    PilotPlaces,
    elsewhere,
)
from launcher.scheduler.policy.inventory import WAITING
from launcher.scheduler.policy.model import Decision, Running, Start
from launcher.scheduler.start_jobs import Launches
from launcher.scheduler.turn import Reasons, Requests, TurnResult
from launcher.scheduler.waiting_line import Line
from launcher.states import Reason, ReasonCode
from launcher.store.claims import Seat
from launcher.store.lanes import HERE, Lane
from launcher.store.queue import Store
from launcher.store.rows import Claim, ReadyJob
from launcher.store.usage import NO_USAGE
from launcher.system.paths import Home
from launcher.system.sleeper import Sleeper
from launcher.system.stored_fields import Unreadable, parsed

COUNT_S = 0.5  # between two counts of what waits
MOST_PATHS = 8  # lanes whose paths a new pilot is to check
UNKNOWN = "config.toml does not contain [backends.{}]. Add this table or cancel the job"
NOT_UNDERSTOOD = "config.toml has an error: {}"

BEHIND = Reason(code=ReasonCode.NO_ROOM, text=f"{WAITING}earlier jobs, which take the free room")

Here = Callable[[Sequence[ReadyJob]], tuple[Reasons, Collection[int]]]


class Dispatch:
    """What the scheduler of a home does with pilots; without backends and pilots it does nothing."""

    def __init__(
        self,
        home: Home,
        store: Store,
        fleet: Fleet,
        backends: Callable[[], Backends],
        clock: Callable[[], float],
        attempts: RunningAttempts,
        launches: Launches,
    ) -> None:
        """Begin without having heard anything.

        Args:
            home: the queue's.
            store: likewise.
            fleet: the pilots there are.
            backends: returns the configured ones; may raise UsageError: nothing is known of any.
            clock: seconds since 1970.
            attempts: all that run.
            launches: what starts, here and on pilots.
        """
        self._store, self._queue, self._fleet, self._clock = store, store.scheduling, fleet, clock
        self._backends, self._attempts = backends, attempts
        self._launches = launches
        self.hearing = Hearing(home, fleet, clock, attempts, launches.promised)
        self.places = PilotPlaces(home, fleet, self.claims, self._queue.usage)
        self._kept = KeptPlaces()
        self._heads: dict[int, ReadyJob] = {}  # lane → the first job that waits elsewhere, too
        self._counted_at, self._counted = 0.0, set[int]()  # when, monotonic; of which lanes
        self._demands: Mapping[str, Demand] = {}
        self._limits: Mapping[str, int] = {}

    def claims(self) -> list[Claim]:
        """Return every attempt that has a place on a pilot."""
        claims = (*self._attempts.claims(), *self._launches.promised())
        return [claim for claim in claims if claim.pilot]

    def concerns(self, lanes: Iterable[Lane]) -> bool:
        """Tell whether jobs of one of these lanes may run elsewhere than here."""
        concerned = any(lane.on != HERE for lane in lanes)
        if not concerned:
            self._heads = {}
        return concerned

    def sleep(self, sleeper: Sleeper, descriptors: Collection[int], timeout_s: float) -> bool:
        """Sleep, and hear pilots meanwhile; see `Sleeper.sleep`."""
        until = time.monotonic() + min(timeout_s, self._fleet.due_s())
        while True:
            left_s = max(0.0, until - time.monotonic())
            poll_s = self.hearing.poll_s
            woken = sleeper.sleep(descriptors, min(left_s, poll_s))
            if sleeper.news or left_s <= poll_s or self.hearing.hear():
                return woken and (bool(sleeper.news) or left_s <= poll_s)

    @property
    def slots(self) -> int:
        """How many jobs run on pilots at once, at most."""
        return sum(link.hello.cpus for link in self._fleet.links if link.hello and link.serves)

    def decide(
        self, ready: Sequence[ReadyJob], line: Line, requests: Requests, here: Here
    ) -> Reasons:
        """Claim what fits on pilots, and on this machine at its place among them.

        Args:
            ready: all that could start.
            line: the same in order.
            requests: what people ask for.
            here: decides about this machine; returns why lanes wait, and which jobs start.

        Returns:
            Why the first job of each lane does not start, None where it does.
        """
        self._limits = requests.limits
        self._kept.begin()
        left = {job.id: job for job in ready}
        waits: dict[int, list[tuple[str, Reason]]] = {job.id: [] for job in ready}
        for name in self._order(ready, left[line.jobs[0].job]):
            some = [
                Candidate(left[seen.job], seen)
                for seen in line.jobs
                if seen.job in left and name in left[seen.job].lane.on
            ]
            if name == LOCAL:
                whys = _why_here(some, here)
            else:
                whys = self._place(name, some, line, requests) if some else {}
            for number, why in whys.items():
                if why is None:
                    del left[number]
                else:
                    waits[number].append((name, why))
        still = [job for job in reversed(ready) if job.id in left and job.lane.on != HERE]
        self._heads = {job.lane_id: job for job in still}
        reasons: Reasons = {}
        for job in ready:
            why = _joined(job.lane, waits[job.id]) if job.id in left else None
            reasons[job.lane_id] = reasons.get(job.lane_id) or why
        return reasons

    def _named(self) -> tuple[Mapping[str, BackendSettings], str]:
        """Return the configured backends, and why none is known, where that is so."""
        try:
            return self._backends().by_name, ""
        except UsageError as error:
            return {}, NOT_UNDERSTOOD.format(one_line(str(error)))

    def _order(self, ready: Iterable[ReadyJob], first: ReadyJob) -> list[str]:
        """Return the backends, and this machine, in the order in which they are asked."""
        others = dict.fromkeys(name for job in ready for name in job.lane.on)
        return [*dict.fromkeys((*first.lane.on, *self._named()[0], LOCAL, *others))]

    def _place(
        self, name: str, candidates: Sequence[Candidate], line: Line, requests: Requests
    ) -> dict[int, Reason | None]:
        """Start on the pilots of a backend what fits; return by job why it does not, None: it does."""
        named, trouble = self._named()
        settings = named.get(name)
        if settings is None:
            reason = Reason(code=ReasonCode.NO_PILOT, text=trouble or UNKNOWN.format(name))
            return {candidate.ready.id: reason for candidate in candidates}
        every, left = self.places.all(), list[Candidate]()
        serving = {link.token for link in self._fleet.links if link.serves}
        places = [
            place
            for place in every
            if place.link.token in serving and place.link.spec.backend == name
        ]
        reasons: dict[int, Reason | None] = {}
        for candidate in candidates:
            lane = candidate.ready.lane
            if never := never_fits(lane.resources, lane.limit, settings):
                reasons[candidate.ready.id] = Reason(code=ReasonCode.NEVER_FITS, text=never)
            else:
                left.append(candidate)
        with self._store.writing():  # all claims become durable together
            for place in [place for place in places if not place.is_full]:
                asked = _heads(left) if place.link.spec.single else left
                decisions = self._decided(place, asked, every, line, requests) if asked else []
                for (ready, _), decision in zip(asked, decisions, strict=True):
                    reasons[ready.id] = self._settled(ready, decision, place, settings)
                left = [each for each in left if reasons.get(each.ready.id, _ONE_JOB) is not None]
        unserved = self._fleet.reasons().get(name, "")
        for candidate in left:
            reasons[candidate.ready.id] = _why(reasons.get(candidate.ready.id), places, unserved)
        if not settings.pilot and None in reasons.values():  # what is placed asks for no other one
            self._counted_at = 0.0
        return reasons

    def _decided(
        self,
        place: PilotPlace,
        candidates: Sequence[Candidate],
        every: Sequence[PilotPlace],
        line: Line,
        requests: Requests,
    ) -> list[Decision | Reason]:
        """Decide what starts on one pilot."""
        others: list[Running] = []
        if requests.limits:
            there = [run for each in every if each is not place for run in each.running()]
            started = [  # by this decision, here
                place_of(claim, NO_USAGE) for claim in self._launches.claimed() if not claim.pilot
            ]
            others = [elsewhere(run) for run in (*line.here, *started, *there)]
        decisions = place.decide(
            self._kept.for_pilot(place.link.token, candidates),
            others,
            limits=requests.limits,
            now=self._clock(),
            discipline=requests.discipline,
        )
        self._kept.note(place.link.token, decisions)
        return decisions

    def _settled(
        self,
        ready: ReadyJob,
        decision: Decision | Reason,
        place: PilotPlace,
        settings: BackendSettings,
    ) -> Reason | None:
        """Do what was decided of a job and a pilot; return why it does not start there, None: it does."""
        if isinstance(decision, Reason):
            return decision
        if not isinstance(decision, Start):
            return decision.why
        if place.link.spec.single and place.claims:
            return _ONE_JOB
        why = self._launches.send(ready, decision, place.link, settings)
        place.claims = [each for each in self.claims() if each.pilot == place.link.token]
        return why

    # --- how many pilots there should be

    def order_pilots(self, requests: Requests, result: TurnResult) -> None:
        """Have as many pilots as the work needs that waits for some; none where the queue is stopped.

        Args:
            requests: what people ask for.
            result: learns when to look again.
        """
        if requests.stop:
            self._fleet.leave(now=requests.stop_now)
            self._heads = {}
        wait_s = self._counted_at + COUNT_S - time.monotonic()
        if wait_s <= 0 or self._heads.keys() != self._counted:
            self._counted_at, self._counted = time.monotonic(), {*self._heads}
            self._demands = self._count() if self._heads else {}
        elif self._heads:
            result.soon(wait_s)
        self._fleet.turn(self._demands, Counter(claim.pilot for claim in self.claims()))

    def _count(self) -> Mapping[str, Demand]:
        counts, (backends, _) = self._queue.waiting_by_lane(), self._named()
        heads = [(head, counts.get(lane, 0)) for lane, head in self._heads.items()]
        waiting = [
            self._waiting(head, jobs, look=number < MOST_PATHS)
            for number, (head, jobs) in enumerate(heads)
            if jobs
        ]
        return demands(waiting, backends, self._left_in_groups())

    def _left_in_groups(self) -> dict[str, int]:
        if not self._limits:
            return {}
        running = Counter(claim.spec.terms.group for claim in self._attempts.claims())
        return {group: most - running[group] for group, most in self._limits.items()}

    def _waiting(self, head: ReadyJob, jobs: int, *, look: bool) -> WaitingLane:
        """Return a lane's jobs, with what they need to see on a node where that is looked for."""
        plain = WaitingLane(lane=head.lane, jobs=jobs)
        nowhere = Seat(device="cpu", cpus=0, boot="", pid=0, start_ticks=0)
        claim = self._queue.next_claim(head, nowhere, self._clock()) if look else None
        if claim is None:
            return plain
        try:
            context = read_context(parsed(claim.context_text, "its surroundings"))
            context = placed_context(claim.spec, context)
        except Unreadable:
            return plain
        if not claim.spec.entry:
            paths = (context.folder, *([claim.spec.root] if has_folder(claim.spec) else ()))
            return plain._replace(paths=tuple(filter(os.path.isabs, paths)))
        return plain._replace(paths=(claim.spec.root,), interpreter=context.interpreter)


def _why_here(candidates: Sequence[Candidate], here: Here) -> dict[int, Reason | None]:
    """Start on this machine what fits; return by job why it does not, None: it does."""
    reasons, started = here([candidate.ready for candidate in candidates])
    return {
        candidate.ready.id: None
        if candidate.ready.id in started
        else reasons.get(candidate.ready.lane_id) or BEHIND
        for candidate in candidates
    }


_ONE_JOB = Reason(code=ReasonCode.NO_ROOM, text="each pilot runs only one job")


def _heads(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the first job of each lane: of one that takes a single job, nothing else can come of it."""
    heads: dict[int, Candidate] = {}
    for candidate in candidates:
        heads.setdefault(candidate.ready.lane_id, candidate)
    return [*heads.values()]


def _joined(lane: Lane, waits: Sequence[tuple[str, Reason]]) -> Reason | None:
    """Return why a job waits that may run in several places; each is named.

    Args:
        lane: what it asks for.
        waits: backends and why it does not start there, in the order in which they were asked.
    """
    if not waits:
        return None
    _, first = waits[0]
    if len(lane.on) == 1 and lane.on == HERE:
        return first
    places = (f"{name}: {_shortened(reason.text)}" for name, reason in waits)
    return first._replace(text=f"{WAITING}{'; '.join(places)}")


def _shortened(text: str) -> str:
    """Return why a job waits at a place, to stand behind the place's name."""
    if not text.startswith(WAITING):
        return text
    request, _, cause = text.removeprefix(WAITING).partition(": ")
    return f"{request} ({cause})" if cause else request


def _why(reason: Reason | None, places: Sequence[PilotPlace], unserved: str) -> Reason:
    """Return why a job waits for the pilots of a backend."""
    if reason is None and places:
        cores = sum(place.hello.cpus for place in places)
        pilots = "its pilot" if len(places) == 1 else f"its {len(places)} pilots"
        busy = (
            f"all {cores} cores of {pilots} are busy"
            if cores != 1
            else f"the core of {pilots} is busy"
        )
        reason = Reason(code=ReasonCode.NO_ROOM, text=busy)
    if reason is None:
        text = unserved or "its first pilot will be submitted next"
        return Reason(code=ReasonCode.NO_PILOT, text=text)
    return reason._replace(text=f"{reason.text}; {unserved}") if unserved else reason
