"""The scheduler's side of all pilots: which jobs they get, and how many pilots there should be.

The pilots that have spoken, as machines on which attempts run: their GPUs, and what is promised there.

How much of what waits would start if a backend had more pilots; no clock, no files.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from math import ceil
from typing import NamedTuple

from launcher.backends.fleet import Fleet
from launcher.backends.fleet import line as one_line
from launcher.backends.pilot import PilotLink
from launcher.backends.pilot_rules import Demand
from launcher.backends.settings import HERE as LOCAL
from launcher.backends.settings import Backends, BackendSettings, NodePaths, never_fits, slots
from launcher.context import placed_context, read_context
from launcher.errors import UsageError
from launcher.scheduler.attempt_watch import RunningAttempts
from launcher.scheduler.attempts_elsewhere import Hearing, OnPilot, heard, serving
from launcher.scheduler.gpus.gpu_ledger import SentLimits, place_of
from launcher.scheduler.placement import (
    Candidate,
    KeptPlaces,
    Learned,
    PilotGpus,
    PilotPlace,
    decide_on_pilot,
    elsewhere,
    is_full,
    joined,
    place_on_backend,
)
from launcher.scheduler.policy.decide import evacuate
from launcher.scheduler.policy.model import Decision, Machine, Running, Start
from launcher.scheduler.sending import Sending
from launcher.scheduler.start_jobs import Launches
from launcher.scheduler.turn import Reasons, Requests, TurnResult
from launcher.scheduler.waiting_line import Line
from launcher.states import Reason, ReasonCode
from launcher.store.claims import Seat
from launcher.store.queue import Store
from launcher.store.rows import HERE, Claim, Lane, ReadyJob
from launcher.store.usage import NO_USAGE
from launcher.system.daemon_control import Sleeper
from launcher.system.paths import Home
from launcher.system.stored_fields import Unreadable, parsed
from launcher.workers.job import VramLimit


class PilotPlaces:
    """What is known of pilots beside what they say about ends."""

    def __init__(
        self, home: Home, fleet: Fleet, claims: Callable[[], list[Claim]], learned: Learned
    ) -> None:
        """Begin without having looked.

        Args:
            home: where attempts lie.
            fleet: the pilots there are.
            claims: returns every attempt that has a place on one.
            learned: returns what jobs took before, on a card.
        """
        self._fleet, self._claims, self._learned = fleet, claims, learned
        self._gpus: dict[str, PilotGpus] = {}
        self._limits = SentLimits(home)

    def all(self) -> list[PilotPlace]:
        """Return the pilots that have spoken, with their attempts."""
        links = [link for link in heard(self._fleet) if link.hello is not None]
        for gone in self._gpus.keys() - {link.token for link in links}:
            del self._gpus[gone]
        if not links:
            return []
        by_token: dict[str, list[Claim]] = {}
        for claim in self._claims():
            by_token.setdefault(claim.pilot, []).append(claim)
        return [
            PilotPlace(link, self._gpus_of(link), by_token.get(link.token, [])) for link in links
        ]

    def running(self) -> list[Running]:
        """Return the attempts on pilots."""
        return [run for place in self.all() for run in place.running(self._learned)]

    def of(self, claim: Claim) -> PilotPlace | None:
        """Return the pilot of an attempt, None where nothing is known of it any more."""
        return next((place for place in self.all() if place.link.token == claim.pilot), None)

    def gpus_of(self, claim: Claim) -> PilotGpus | None:
        """Return what is known of the GPUs of an attempt's pilot; None: nothing any more."""
        place = self.of(claim)
        return None if place is None else place.gpus

    def machine_of(self, claim: Claim) -> Machine:
        """Return an attempt's pilot as it is without those that have ended."""
        place = self.of(claim)
        return Machine(cpus=claim.cpus) if place is None else place.machine({})

    def look_at_gpus(self) -> dict[int, str]:
        """Take in what pilots tell of their GPUs; return the jobs that have to leave theirs, and why."""
        moved: dict[int, str] = {}
        for place in self.all():
            if place.gpus.enter(place.claims):
                stops = evacuate(place.running(self._learned), place.machine({}))
                moved |= {stop.job: stop.reason for stop in stops}
        return moved

    def send_limits(self) -> None:
        """Tell workers on pilots how much of their GPUs they may take."""
        claims = [claim for claim in self._claims() if claim.gpus]
        limits: dict[tuple[int, int], VramLimit] = {}
        for place in self.all() if claims else ():
            limits |= place.gpus.taken.vram_limits(place.claims)
        self._limits.send(claims, limits)

    def _gpus_of(self, link: PilotLink) -> PilotGpus:
        if link.token not in self._gpus:
            self._gpus[link.token] = PilotGpus(link)
        return self._gpus[link.token]


class WaitingLane(NamedTuple):
    """Jobs that ask for the same and wait for nothing but room."""

    lane: Lane
    jobs: int
    paths: tuple[str, ...] = ()  # that they need to see on a node, as this machine has them
    interpreter: str = ""  # likewise


def demands(
    lanes: Iterable[WaitingLane],
    backends: Mapping[str, BackendSettings],
    left_in_group: Mapping[str, int],
) -> dict[str, Demand]:
    """Return what each backend's pilots could do.

    A job counts for the first of its backends that can hold it; what is more than all pilots of that one run at
    once counts for the next one.

    Args:
        lanes: what waits.
        backends: the configured ones.
        left_in_group: how many further jobs of a group may start, where it has a limit.
    """
    pilots: Counter[str] = Counter()
    needed = dict.fromkeys(backends, 0.0)
    jobs: Counter[str] = Counter()
    paths: dict[str, list[str]] = {name: [] for name in backends}
    left = dict(left_in_group)
    for waiting in lanes:
        lane = waiting.lane
        number = waiting.jobs
        if lane.group in left:
            number = max(0, min(number, left[lane.group]))
            left[lane.group] -= number
        for name in _able(lane, backends):
            each = slots(lane.resources, backends[name]) if backends[name].pilot else 1
            room = max(0.0, backends[name].pilots - needed[name]) * each
            taken = min(number, ceil(room))
            if taken:
                needed[name] += taken / each
                jobs[name] += taken
                paths[name] += _on_node(waiting, backends[name])
            number -= taken
    for name in jobs:
        pilots[name] = max(1, ceil(needed[name]))
    return {
        name: Demand(
            jobs=jobs[name],
            slots=ceil(jobs[name] / pilots[name]),
            paths=tuple(dict.fromkeys(paths[name])),
        )
        for name in jobs
    }


def _on_node(waiting: WaitingLane, settings: BackendSettings) -> list[str]:
    """Return the paths that jobs need, as the nodes of a backend have them."""
    node = NodePaths(settings)
    python = node.interpreter(waiting.interpreter) if waiting.interpreter else ""
    named = [python] if python.startswith("/") else []  # else it is looked for there
    return [*map(node.path, waiting.paths), *named]


def _able(lane: Lane, backends: Mapping[str, BackendSettings]) -> Sequence[str]:
    """Return the backends of which a pilot could hold a lane's jobs, the preferred one first."""
    return [
        name
        for name in lane.on
        if name in backends and not never_fits(lane.resources, lane.limit, backends[name])
    ]


COUNT_S = 0.5  # between two counts of what waits
MOST_PATHS = 8  # lanes whose paths a new pilot is to check
UNKNOWN = "config.toml has no table [backends.{}] any more; add it, or cancel the job"
NOT_UNDERSTOOD = "config.toml is to be corrected first: {}"

BEHIND = Reason(code=ReasonCode.NO_ROOM, text="jobs before it take what is free")

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
            launches: what starts on this machine.
        """
        self._store, self._queue, self._fleet, self._clock = store, store.scheduling, fleet, clock
        self._backends, self._attempts = backends, attempts
        self._launches = launches
        self.sending = Sending(home, store.scheduling, clock, launches.in_the_way)
        self.hearing = Hearing(home, fleet, clock, attempts, self.sending.claimed)
        self.places = PilotPlaces(home, fleet, self.claims, self._queue.usage)
        self._kept = KeptPlaces()
        self._heads: dict[int, ReadyJob] = {}  # lane → the first job that waits elsewhere, too
        self._counted_at, self._counted = 0.0, set[int]()  # when, monotonic; of which lanes
        self._demands: Mapping[str, Demand] = {}
        self._limits: Mapping[str, int] = {}

    def claims(self) -> list[Claim]:
        """Return every attempt that has a place on a pilot."""
        running = [claim for claim in self._attempts.claims() if claim.pilot]
        return [*running, *self.sending.claimed()]

    def concerns(self, lanes: Iterable[Lane]) -> bool:
        """Tell whether jobs of one of these lanes may run elsewhere than here."""
        concerned = any(lane.on != HERE for lane in lanes)
        if not concerned:
            self._heads = {}
        return concerned

    def send(self) -> Iterator[OnPilot]:
        """Send what is claimed and committed; see `Sending.go`."""
        for watch in self.sending.go():
            self.hearing.expect()
            yield watch

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
        return sum(link.hello.cpus for link in serving(self._fleet) if link.hello)

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
        self.sending.again, self._limits = False, requests.limits
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
            why = joined(job.lane, waits[job.id]) if job.id in left else None
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
        every = self.places.all()
        working = {link.token for link in serving(self._fleet)}
        places = [
            each for each in every if each.link.token in working and each.link.spec.backend == name
        ]
        limits, learned = requests.limits, self._queue.usage

        def decided(place: PilotPlace, left: Sequence[Candidate]) -> list[Decision | Reason]:
            others: list[Running] = []
            if limits:
                runs = (each.running(learned) for each in every if each is not place)
                there = (run for each in runs for run in each)
                others = [elsewhere(run) for run in (*line.here, *self._started_here(), *there)]
            token = place.link.token
            decisions = decide_on_pilot(
                place,
                self._kept.for_pilot(token, left),
                others,
                learned=learned,
                limits=limits,
                now=self._clock(),
                discipline=requests.discipline,
            )
            self._kept.note(token, decisions)
            return decisions

        def claim(candidate: Candidate, start: Start, place: PilotPlace) -> Reason | None:
            why = self.sending.claim(candidate.ready, start, place.link, settings)
            place.claims = [each for each in self.claims() if each.pilot == place.link.token]
            return why

        with self._store.writing():  # all claims become durable together
            reasons = place_on_backend(
                [place for place in places if not is_full(place)],
                places,
                candidates,
                settings,
                decided=decided,
                claim=claim,
                unserved=self._fleet.reasons().get(name, ""),
            )
        if not settings.pilot and None in reasons.values():  # what is placed asks for no other one
            self._counted_at = 0.0
        return reasons

    def _started_here(self) -> Iterator[Running]:
        """Give the places of jobs that this decision starts on this machine."""
        for claim in self._launches.claimed():
            yield place_of(claim, NO_USAGE, {})

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
            return plain._replace(paths=(context.folder,))
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
