"""Assignment of jobs to pilots, and the number of pilots that each backend should have."""

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from launcher.backends.eligibility import why_never_fits
from launcher.backends.pilot_pool import PilotPool
from launcher.backends.pilot_rules import Demand
from launcher.backends.settings import LOCAL, Backends, BackendSettings
from launcher.backends.waiting_reasons import one_line
from launcher.context import entry_context, read_context, uses_job_folder
from launcher.errors import UsageError
from launcher.scheduler.cycle import ControlState, CycleResult, Reasons
from launcher.scheduler.gpus.running_place import running_of_claim
from launcher.scheduler.node import Candidate
from launcher.scheduler.pilot_demand import WaitingLane, pilot_demands
from launcher.scheduler.pilot_events import PilotEvents
from launcher.scheduler.pilot_seat import PilotSeat
from launcher.scheduler.placement import (
    ONE_JOB,
    BackfillHolds,
    Nodes,
    PilotNode,
    as_remote,
)
from launcher.scheduler.policy.inventory import WAITING_FOR
from launcher.scheduler.policy.model import Decision, Running
from launcher.scheduler.running_attempts import RunningAttempts
from launcher.scheduler.start_jobs import LaunchBatch
from launcher.scheduler.waiting_line import OrderedQueue
from launcher.states import Reason, ReasonCode
from launcher.store.claims import ClaimPlacement
from launcher.store.lanes import LOCAL_ONLY, Lane
from launcher.store.queue import Store
from launcher.store.rows import ReadyJob
from launcher.store.usage import NO_USAGE
from launcher.system.paths import Home
from launcher.system.stored_fields import Unreadable, parse_record
from launcher.system.wakeup_pipe import WakeupPipe

COUNT_S = 0.5  # between two counts of what waits
MOST_PATHS = 8  # lanes whose paths a new pilot is to check
UNKNOWN = "config.toml does not contain [backends.{}]. Add this table or cancel the job"
NOT_UNDERSTOOD = "config.toml has an error: {}"

BEHIND_EARLIER_JOBS = Reason(
    code=ReasonCode.NO_ROOM, text=f"{WAITING_FOR}earlier jobs, which take the free room"
)

DecideLocal = Callable[[Sequence[ReadyJob]], tuple[Reasons, Collection[int]]]


class PilotDispatch:
    """Assigns jobs of one queue to pilots. Without backends and pilots it does nothing."""

    def __init__(
        self,
        home: Home,
        store: Store,
        pilot_pool: PilotPool,
        backends: Callable[[], Backends],
        clock: Callable[[], float],
        attempts: RunningAttempts,
        launches: LaunchBatch,
        nodes: Nodes,
    ) -> None:
        """Start without any pilot events.

        Args:
            home: The queue folder.
            store: The store of the queue.
            pilot_pool: The existing pilots.
            backends: Returns the configured backends. May raise UsageError: no backend is known
                then.
            clock: Seconds since 1970.
            attempts: All running attempts.
            launches: Starts here and on pilots.
            nodes: This machine and the pilots.
        """
        self._home, self._nodes = home, nodes
        self._store, self._pilot_pool, self._clock = store, pilot_pool, clock
        self._backends, self._attempts = backends, attempts
        self._launches = launches
        self.pilot_events = PilotEvents(home, pilot_pool, clock, attempts, launches.pending_claims)
        self._backfill_holds = BackfillHolds()
        # lane → the first job that waits elsewhere, too
        self._waiting_heads: dict[int, ReadyJob] = {}
        self._counted_at, self._counted = 0.0, set[int]()  # when, monotonic; of which lanes
        self._demands: Mapping[str, Demand] = {}
        self._limits: Mapping[str, int] = {}

    def has_pilot_jobs(self, lanes: Iterable[Lane]) -> bool:
        """Whether jobs of one of these lanes may run on another machine."""
        concerned = any(lane.on != LOCAL_ONLY for lane in lanes)
        if not concerned:
            self._waiting_heads = {}
        return concerned

    def sleep_and_poll(
        self, sleeper: WakeupPipe, descriptors: Collection[int], timeout_s: float
    ) -> bool:
        """Sleep, and poll pilots meanwhile; see `WakeupPipe.poll_until`."""
        until = time.monotonic() + min(timeout_s, self._pilot_pool.next_cycle_s())
        while True:
            left_s = max(0.0, until - time.monotonic())
            poll_s = self.pilot_events.poll_s
            woken = sleeper.poll_until(descriptors, min(left_s, poll_s))
            if sleeper.ready_descriptors or left_s <= poll_s or self.pilot_events.poll_messages():
                return woken and (bool(sleeper.ready_descriptors) or left_s <= poll_s)

    @property
    def slots(self) -> int:
        """How many jobs run on pilots at once, at most."""
        return sum(
            link.registration.cpus
            for link in self._pilot_pool.links
            if link.registration and link.is_serving
        )

    def decide(
        self,
        ready: Sequence[ReadyJob],
        ordered: OrderedQueue,
        control: ControlState,
        decide_local: DecideLocal,
    ) -> Reasons:
        """Claim what fits on pilots, and on this machine at its place among them.

        Args:
            ready: all that could start.
            ordered: the same in order.
            control: what people ask for.
            decide_local: decides about this machine; returns why lanes wait, and which jobs start.

        Returns:
            Why the first job of each lane does not start, None if it does.
        """
        self._limits = control.group_limits
        self._backfill_holds.begin_cycle()
        left = {job.id: job for job in ready}
        waits: dict[int, list[tuple[str, Reason]]] = {job.id: [] for job in ready}
        for name in self._backend_order(ready, left[ordered.jobs[0].job]):
            some = [
                Candidate(left[seen.job], seen)
                for seen in ordered.jobs
                if seen.job in left and name in left[seen.job].lane.on
            ]
            if name == LOCAL:
                whys = _decide_here(some, decide_local)
            else:
                whys = self._place_on_pilots(name, some, ordered, control) if some else {}
            for number, why in whys.items():
                if why is None:
                    del left[number]
                else:
                    waits[number].append((name, why))
        still = [job for job in reversed(ready) if job.id in left and job.lane.on != LOCAL_ONLY]
        self._waiting_heads = {job.lane_id: job for job in still}
        reasons: Reasons = {}
        for job in ready:
            why = _combine_reasons(job.lane, waits[job.id]) if job.id in left else None
            reasons[job.lane_id] = reasons.get(job.lane_id) or why
        return reasons

    def _configured_backends(self) -> tuple[Mapping[str, BackendSettings], str]:
        """Return the configured backends, and why none is known, if that is so."""
        try:
            return self._backends().by_name, ""
        except UsageError as error:
            return {}, NOT_UNDERSTOOD.format(one_line(str(error)))

    def _backend_order(self, ready: Iterable[ReadyJob], first: ReadyJob) -> list[str]:
        """Return the backends, and this machine, in the order in which they are asked."""
        others = dict.fromkeys(name for job in ready for name in job.lane.on)
        return [*dict.fromkeys((*first.lane.on, *self._configured_backends()[0], LOCAL, *others))]

    def _place_on_pilots(
        self,
        name: str,
        candidates: Sequence[Candidate],
        ordered: OrderedQueue,
        control: ControlState,
    ) -> dict[int, Reason | None]:
        """Start jobs that fit on the pilots of a backend. Return the reasons of the others by job, None for started ones."""
        named, trouble = self._configured_backends()
        settings = named.get(name)
        if settings is None:
            reason = Reason(code=ReasonCode.NO_PILOT, text=trouble or UNKNOWN.format(name))
            return {candidate.ready.id: reason for candidate in candidates}
        every, left = self._nodes.list_pilots(), list[Candidate]()
        places = self._serving_pilots(every, settings)
        reasons: dict[int, Reason | None] = {}
        for candidate in candidates:
            lane = candidate.ready.lane
            if never := why_never_fits(lane.resources, lane.limit, settings):
                reasons[candidate.ready.id] = Reason(code=ReasonCode.NEVER_FITS, text=never)
            else:
                left.append(candidate)
        with self._store.database.writing():  # all claims become durable together
            for place in [place for place in places if not place.is_full]:
                asked = _first_per_lane(left) if place.link.spec.single else left
                decisions = (
                    self._decide_pilot(place, asked, every, ordered, control) if asked else []
                )
                for (ready, _), decision in zip(asked, decisions, strict=True):
                    reasons[ready.id] = self._launches.apply(ready, decision, place)
                    self._nodes.list_pilots()  # with the new claim
                left = [each for each in left if reasons.get(each.ready.id, ONE_JOB) is not None]
        unserved = self._pilot_pool.reasons_by_backend().get(name, "")
        for candidate in left:
            reasons[candidate.ready.id] = _pilot_reason(
                reasons.get(candidate.ready.id), places, unserved
            )
        if not settings.pilot and None in reasons.values():  # placed jobs ask for no other pilot
            self._counted_at = 0.0
        return reasons

    def _serving_pilots(
        self, nodes: Sequence[PilotNode], settings: BackendSettings
    ) -> list[PilotNode]:
        """Return the pilots of a backend that take jobs, with what starts attempts there."""
        serving = {link.token for link in self._pilot_pool.links if link.is_serving}
        places = [
            node
            for node in nodes
            if node.link.token in serving and node.link.spec.backend == settings.name
        ]
        for place in places:
            seat = PilotSeat(
                home=self._home,
                link=place.link,
                settings=settings,
                specs=self._launches.specs,
                clock=self._clock,
            )
            place.set_seat(seat)
        return places

    def _decide_pilot(
        self,
        node: PilotNode,
        candidates: Sequence[Candidate],
        all_nodes: Sequence[PilotNode],
        ordered: OrderedQueue,
        control: ControlState,
    ) -> list[Decision | Reason]:
        """Decide what starts on one pilot."""
        others: list[Running] = []
        if control.group_limits:
            there = [run for each in all_nodes if each is not node for run in each.running()]
            started = [  # by this decision, here
                running_of_claim(claim, NO_USAGE)
                for claim in self._launches.open_claims()
                if not claim.pilot
            ]
            others = [as_remote(run) for run in (*ordered.running_local, *started, *there)]
        decisions = node.decide(
            self._backfill_holds.for_pilot(node.link.token, candidates),
            node.running(),
            others,
            limits=control.group_limits,
            now=self._clock(),
            policy=control.policy,
        )
        self._backfill_holds.record_decisions(node.link.token, decisions)
        return decisions

    # --- how many pilots there should be

    def request_pilots(self, control: ControlState, result: CycleResult) -> None:
        """Request as many pilots as the waiting jobs need, and none if the queue is stopped.

        Args:
            control: Requests of users.
            result: Receives the time of the next cycle.
        """
        if control.stop:
            self._pilot_pool.drain(now=control.stop_now)
            self._waiting_heads = {}
        wait_s = self._counted_at + COUNT_S - time.monotonic()
        if wait_s <= 0 or self._waiting_heads.keys() != self._counted:
            self._counted_at, self._counted = time.monotonic(), {*self._waiting_heads}
            self._demands = self._count_demand() if self._waiting_heads else {}
        elif self._waiting_heads:
            result.wake_within(wait_s)
        self._pilot_pool.run_cycle(self._demands, self._nodes.attempts_by_pilot())

    def _count_demand(self) -> Mapping[str, Demand]:
        counts, (backends, _) = (
            self._store.ready_jobs.waiting_by_lane(),
            self._configured_backends(),
        )
        heads = [(head, counts.get(lane, 0)) for lane, head in self._waiting_heads.items()]
        waiting = [
            self._waiting_lane(head, jobs, with_paths=number < MOST_PATHS)
            for number, (head, jobs) in enumerate(heads)
            if jobs
        ]
        return pilot_demands(waiting, backends, self._remaining_in_groups())

    def _remaining_in_groups(self) -> dict[str, int]:
        if not self._limits:
            return {}
        running = Counter(claim.spec.terms.group for claim in self._attempts.claims())
        return {group: most - running[group] for group, most in self._limits.items()}

    def _waiting_lane(self, head: ReadyJob, jobs: int, *, with_paths: bool) -> WaitingLane:
        """Return the jobs of a lane, with the paths that a node must have, if paths are checked."""
        plain = WaitingLane(lane=head.lane, jobs=jobs)
        nowhere = ClaimPlacement(device="cpu", cpus=0, boot="", pid=0, start_ticks=0)
        claim = self._store.claims.next_claim(head, nowhere, self._clock()) if with_paths else None
        if claim is None:
            return plain
        try:
            context = read_context(parse_record(claim.context_text, "its surroundings"))
            context = entry_context(claim.spec, context)
        except Unreadable:
            return plain
        if not claim.spec.entry:
            paths = (context.folder, *([claim.spec.root] if uses_job_folder(claim.spec) else ()))
            return plain._replace(paths=tuple(filter(os.path.isabs, paths)))
        return plain._replace(paths=(claim.spec.root,), interpreter=context.interpreter)


def _decide_here(
    candidates: Sequence[Candidate], decide_local: DecideLocal
) -> dict[int, Reason | None]:
    """Start jobs that fit on this machine. Return the reasons of the others by job, None for started ones."""
    reasons, started = decide_local([candidate.ready for candidate in candidates])
    return {
        candidate.ready.id: None
        if candidate.ready.id in started
        else reasons.get(candidate.ready.lane_id) or BEHIND_EARLIER_JOBS
        for candidate in candidates
    }


def _first_per_lane(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the first job of each lane: of one that takes a single job, nothing else can come of it."""
    heads: dict[int, Candidate] = {}
    for candidate in candidates:
        heads.setdefault(candidate.ready.lane_id, candidate)
    return [*heads.values()]


def _combine_reasons(lane: Lane, waits: Sequence[tuple[str, Reason]]) -> Reason | None:
    """Return why a job waits that may run in several places; each is named.

    Args:
        lane: what it asks for.
        waits: backends and why it does not start there, in the order in which they were asked.
    """
    if not waits:
        return None
    _, first = waits[0]
    if len(lane.on) == 1 and lane.on == LOCAL_ONLY:
        return first
    places = (f"{name}: {_shorten_reason(reason.text)}" for name, reason in waits)
    return first._replace(text=f"{WAITING_FOR}{'; '.join(places)}")


def _shorten_reason(text: str) -> str:
    """Return why a job waits on a backend, in a form that can follow the name of the backend."""
    if not text.startswith(WAITING_FOR):
        return text
    request, _, cause = text.removeprefix(WAITING_FOR).partition(": ")
    return f"{request} ({cause})" if cause else request


def _pilot_reason(reason: Reason | None, places: Sequence[PilotNode], unserved: str) -> Reason:
    """Return why a job waits for the pilots of a backend."""
    if reason is None and places:
        cores = sum(place.registration.cpus for place in places)
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
