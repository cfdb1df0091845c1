"""A pilot as a machine of its own for the policy, on which some jobs cannot or must not start.

Its heartbeats report the GPU usage of its attempts. For a job that fits on no pilot, a reservation
is held on one of them only, because reserved resources are idle.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf, isfinite
from typing import NamedTuple

from launcher.backends.pilot_link import PilotLink
from launcher.backends.pilot_messages import Registered
from launcher.backends.pilot_pool import PilotPool
from launcher.errors import pluralize
from launcher.gpu.snapshot import GpuSnapshot
from launcher.scheduler.gpus.eviction import Eviction, jobs_on_failed_gpus
from launcher.scheduler.gpus.reported_ends import ReportedEnds
from launcher.scheduler.gpus.sent_limits import VramLimitWriter
from launcher.scheduler.gpus.taken_memory import GpuUsageTracker
from launcher.scheduler.policy.decide import decide
from launcher.scheduler.policy.disciplines import SchedulingPolicy
from launcher.scheduler.policy.model import (
    Decision,
    Machine,
    Running,
    Wait,
    Waiting,
    make_waiting,
)
from launcher.scheduler.started_attempts import name_of_claim
from launcher.states import Reason, ReasonCode
from launcher.store.lanes import Lane
from launcher.store.rows import Claim, ReadyJob
from launcher.store.usage import MeasuredUsage, Usage, UsageLookup
from launcher.system.paths import Home
from launcher.units import format_seconds
from launcher.workers.memory_share import VramLimit, read_report

MOST_CPUS = 100_000
DURATION_MARGIN = 1.5  # than it took before a job may take
NEARLY_WHOLE = 0.9  # part of a pilot's time: while so much is left, it is as good as a new one


def pilot_obstacle(
    lane: Lane, job: Waiting, registration: Registered, until: float | None, now: float
) -> str:
    """Return why a job must not start on a pilot, '' if it may.

    Args:
        lane: Its request.
        job: The job with the durations of similar ones.
        registration: Resources of the pilot.
        until: When its backend ends it, in seconds since 1970, None if never or unknown.
        now: Seconds since 1970.
    """
    if (
        lane.resources.cpus > registration.cpus
    ):  # it asked for them: with fewer it would not end in time
        return f"needs {pluralize(lane.resources.cpus, 'CPU core')}, but this pilot has {registration.cpus}"
    if (
        lane.resources.works_on_gpu(machine_has_gpu=bool(registration.gpus))
        and not registration.gpus
    ):
        return "needs a GPU, but this pilot has none"
    needed = lane.limit if lane.limit is not None else job.seconds and DURATION_MARGIN * job.seconds
    if needed is None or until is None or not isfinite(until) or needed <= until - now:
        return ""
    known = registration.began is not None and until > registration.began
    whole = until - registration.began if known and registration.began is not None else inf
    if lane.limit is None and until - now >= NEARLY_WHOLE * whole:
        return ""  # only an estimate: no later pilot has more time, and saved work can be resumed elsewhere
    ends = f"this pilot ends in {format_seconds(round(max(0.0, until - now)))}"
    if lane.limit is not None:
        return f"may run for {format_seconds(round(needed))}, but {ends}"
    return f"is expected to run for up to {format_seconds(round(needed))}, but {ends}"


class Candidate(NamedTuple):
    """A waiting job at its place in the order of all."""

    ready: ReadyJob
    waiting: Waiting  # with how long it has waited


class PilotNode:
    """A registered pilot with its attempts and their GPU usage, as far as its heartbeats report it."""

    def __init__(self, link: PilotLink, usage_lookup: UsageLookup, ends: ReportedEnds) -> None:
        """Start without attempts and without a heartbeat.

        Args:
            link: Link to the pilot.
            usage_lookup: Returns the recorded usage of jobs of a signature on a GPU type.
            ends: Returns the reported end of an attempt.
        """
        self.link, self._usage_lookup = link, usage_lookup
        self.claims: list[Claim] = []  # claims of the attempts there
        self.usage_tracker = GpuUsageTracker(
            lambda claim: read_report(link.folder.attempt(name_of_claim(claim))), ends
        )
        self._reported_gpus: tuple[GpuSnapshot, ...] = ()
        self._heartbeat_number = 0  # number of the beat that was taken in last

    @property
    def registration(self) -> Registered:
        """The registered resources of the pilot."""
        assert self.link.registration is not None, "only a pilot that has reported gets work"
        return self.link.registration

    @property
    def is_full(self) -> bool:
        """Whether every core is reserved, so that no job can start there."""
        if self.link.spec.single and self.claims:
            return True
        return sum(claim.cpus for claim in self.claims) >= self.registration.cpus

    def read_heartbeat(self) -> bool:
        """Read the newest heartbeat. Return whether it reports GPUs."""
        beat = self.link.heartbeat
        if beat is None or beat.number == self._heartbeat_number:
            return False
        self._heartbeat_number = beat.number
        if not beat.gpus:  # nothing has worked there since
            return False
        self._reported_gpus = beat.gpus

        def driver_usage(claim: Claim) -> tuple[dict[str, int], set[str]]:
            told = beat.used.get(name_of_claim(claim), {})
            used = {uuid: size for uuid, size in told.items() if uuid in claim.gpus and size}
            return used, {*claim.gpus} - used.keys()

        self.usage_tracker.record_sample(self.claims, beat.gpus, driver_usage, time.monotonic())
        return True

    @property
    def gpus(self) -> tuple[GpuSnapshot, ...]:
        """The GPUs as they were seen last: in its hello, where nothing has worked there since."""
        return self._reported_gpus or self.registration.gpus

    @property
    def fingerprint(self) -> str:
        """GPU type of the pilot, under which usage there is recorded. '' if it has no GPU."""
        return next((gpu.fingerprint for gpu in self.gpus if gpu.total), "")

    def measured_usage(self, claim: Claim) -> MeasuredUsage:
        """Return what was seen of an attempt that has ended."""
        return self.usage_tracker.measured_usage(claim, self.gpus)

    def others_usage(self, claim: Claim) -> dict[str, int]:
        """Return by UUID the usage of all others on an attempt's GPUs at the last reading, if known."""
        return self.usage_tracker.others_usage(claim)

    def machine(self, limits: Mapping[str, int]) -> Machine:
        """Return it as the policy sees it; nothing of it is another user's.

        Args:
            limits: of groups.
        """
        hello, beat = self.registration, self.link.heartbeat
        # heartbeats do not report loads
        gpus = tuple(
            replace(gpu, reports_load=False)
            for gpu in self.usage_tracker.gpus_without_ended(self.claims, self.gpus)
        )
        ram = max(0, hello.ram)
        return Machine(
            cpus=max(0, min(hello.cpus, MOST_CPUS)),
            ram=ram,
            ram_free=beat.ram_free if beat is not None and beat.ram_free > 0 else ram,
            gpus=gpus,
            absent="" if gpus else "its pilot has no GPU",
            limits=limits,
        )

    def running(self) -> list[Running]:
        """Return the attempts there, the oldest first."""
        return self.usage_tracker.running_jobs(self.claims, self._usage)

    def _usage(self, signature: str, program: str = "", machine: str = "") -> Usage:
        """Return the recorded usage of jobs on GPUs of this type, including running ones."""
        usage = self._usage_lookup(signature, program, machine or self.fingerprint)
        return self.usage_tracker.add_running_usage(usage, signature, program)

    def decide(
        self,
        candidates: Sequence[Candidate],
        others: Sequence[Running],
        *,
        limits: Mapping[str, int],
        now: float,
        policy: SchedulingPolicy,
    ) -> list[Decision | Reason]:
        """Decide which jobs start there. Return the reasons of jobs that must not.

        Args:
            candidates: In the order in which they are examined.
            others: Attempts on other machines, from `as_remote`.
            limits: Limits of groups.
            now: Seconds since 1970.
            policy: The policy.
        """
        asked: list[Waiting] = []
        decided: dict[int, Decision | Reason] = {}
        for ready, seen in candidates:
            job = make_waiting(ready, self._usage(ready.lane.signature, ready.program))._replace(
                since=seen.since,
                backfill_until=seen.backfill_until,
                reserved_elsewhere=seen.reserved_elsewhere,
                visible=None,  # CUDA_VISIBLE_DEVICES of its user names GPUs of this machine
            )
            if why := pilot_obstacle(ready.lane, job, self.registration, self.link.until, now):
                decided[ready.id] = Reason(code=ReasonCode.NO_ROOM, text=why)
            else:
                asked.append(job)
        running = [*others, *self.running()]
        for decision in decide(asked, running, self.machine(limits), now, policy):
            decided[decision.job] = decision
        return [decided[candidate.ready.id] for candidate in candidates]


class PilotNodes:
    """State of the pilots, except reported ends."""

    def __init__(
        self,
        home: Home,
        pilot_pool: PilotPool,
        claims: Callable[[], list[Claim]],
        usage_lookup: UsageLookup,
    ) -> None:
        """Start without pilots.

        Args:
            home: Queue folder with the attempts.
            pilot_pool: The existing pilots.
            claims: Returns every attempt with a place on a pilot.
            usage_lookup: Returns the recorded usage of jobs of a signature on a GPU type.
        """
        self._pilot_pool, self._claims, self._usage_lookup = pilot_pool, claims, usage_lookup
        self._nodes: dict[str, PilotNode] = {}  # by token
        self._limits, self._ends = VramLimitWriter(home), ReportedEnds(home)

    def list_nodes(self) -> list[PilotNode]:
        """Return the registered pilots with their attempts."""
        before, self._nodes = self._nodes, {}
        for link in self._pilot_pool.all_links:
            if link.registration is not None:
                place = before.get(link.token) or PilotNode(link, self._usage_lookup, self._ends)
                place.claims = []
                self._nodes[link.token] = place
        for claim in self._claims() if self._nodes else ():
            if claim.pilot in self._nodes:
                self._nodes[claim.pilot].claims.append(claim)
        return [*self._nodes.values()]

    def running(self) -> list[Running]:
        """Return the attempts on pilots."""
        return [run for place in self.list_nodes() for run in place.running()]

    def node_of(self, claim: Claim) -> PilotNode | None:
        """Return the pilot of an attempt, None where nothing is known of it any more."""
        self.list_nodes()
        return self._nodes.get(claim.pilot)

    def machine_of(self, claim: Claim) -> Machine:
        """Return an attempt's pilot as it is without those that have ended."""
        place = self.node_of(claim)
        return Machine(cpus=claim.cpus) if place is None else place.machine({})

    def poll_gpus(self) -> dict[int, Eviction]:
        """Read the GPU reports of pilots. Return the jobs to evict, with reasons."""
        moved: dict[int, Eviction] = {}
        for place in self.list_nodes():
            if place.read_heartbeat():
                moved |= jobs_on_failed_gpus(place.claims, place.gpus)
        return moved

    def read_reported_ends(self) -> None:
        """Read when attempts on pilots will have ended by their own word; outside a transaction."""
        self._ends.read_ends(claim for claim in self._claims() if claim.pilot)

    def send_vram_limits(self) -> None:
        """Send workers on pilots their VRAM limits."""
        claims = [claim for claim in self._claims() if claim.gpus]
        limits: dict[tuple[int, int], VramLimit] = {}
        for place in self.list_nodes() if claims else ():
            limits |= place.usage_tracker.vram_limits(place.claims)
        self._limits.send_limits(claims, limits)


def as_remote(run: Running) -> Running:
    """Return an attempt as another machine sees it: it counts in the limit of its group, and takes nothing."""
    return run._replace(cpus=0, ram=0, devices=(), vram=None, exclusive=False, used={})


RECONSIDER_S = (
    300.0  # seconds until all pilots are compared again: another one may be free earlier by now
)


class BackfillHolds:
    """Knows over the turns of one scheduler where places are kept.

    Each pilot is decided about alone, and would keep a place for the first job that fits nowhere. So in the first
    turn each keeps one, and from the next one on only that where it is expected to be free first.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without places; the clock counts seconds."""
        self._clock = clock
        self._chosen: dict[int, tuple[str, float]] = {}  # job → token, since when
        # in this turn: job → token → free from then on
        self._held_until: dict[int, dict[str, float]] = {}

    def begin_cycle(self) -> None:
        """Begin a turn: keep to what was chosen while that pilot keeps it still."""
        now = self._clock()
        chosen: dict[int, tuple[str, float]] = {}
        for job, kept in self._held_until.items():
            token, since = self._chosen.get(job, ("", now))
            if now >= since + RECONSIDER_S:
                continue
            if token not in kept:
                token, since = min(kept, key=lambda each: (kept[each], each)), now
            chosen[job] = token, since
        self._chosen, self._held_until = chosen, {}

    def for_pilot(self, token: str, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Return jobs with the word for which of them a place is kept on another pilot."""
        return [
            each
            if self.may_hold(each.ready.id, token)
            else each._replace(waiting=each.waiting._replace(reserved_elsewhere=True))
            for each in candidates
        ]

    def may_hold(self, job: int, token: str) -> bool:
        """Whether a pilot may hold the reservation of a job."""
        return self._chosen.get(job, (token, 0.0))[0] == token

    def record_decisions(self, token: str, decisions: Sequence[Decision | Reason]) -> None:
        """Take in where a pilot keeps a place."""
        for decision in decisions:
            if isinstance(decision, Wait) and decision.reserved_from is not None:
                self._held_until.setdefault(decision.job, {})[token] = decision.reserved_from
