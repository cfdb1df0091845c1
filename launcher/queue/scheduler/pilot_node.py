"""A pilot as a machine of its own for the policy, on which some jobs cannot or must not start.

Its heartbeats report the GPU usage of its attempts. For a job that fits on no pilot, a reservation
is held on one of them only, because reserved resources are idle.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf, isfinite

from launcher.queue.backends.pilot_link import PilotLink
from launcher.queue.backends.pilot_messages import Registered
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.states import Outcome, Reason, ReasonCode
from launcher.queue.scheduler.backfill_holds import BackfillHolds
from launcher.queue.scheduler.cycle import CycleResult
from launcher.queue.scheduler.gpus.eviction import Eviction, jobs_on_failed_gpus
from launcher.queue.scheduler.gpus.reported_ends import ReportedEnds
from launcher.queue.scheduler.gpus.sent_limits import VramLimitWriter
from launcher.queue.scheduler.gpus.taken_memory import GpuUsageTracker
from launcher.queue.scheduler.node import AttemptHost, Candidate, Node
from launcher.queue.scheduler.pilot_events import PilotEvents
from launcher.queue.scheduler.pilot_seat import PilotSeat
from launcher.queue.scheduler.policy.decide import decide
from launcher.queue.scheduler.policy.disciplines import SchedulingPolicy
from launcher.queue.scheduler.policy.model import (
    Decision,
    Machine,
    Running,
    Waiting,
    make_waiting,
)
from launcher.queue.scheduler.started_attempts import name_of_claim
from launcher.queue.store.lanes import Lane
from launcher.queue.store.rows import Claim
from launcher.queue.store.usage import NOT_MEASURED, MeasuredUsage, Usage, UsageLookup
from launcher.queue.workers.attempt_handles import AttemptHandle
from launcher.queue.workers.memory_share import read_report
from launcher.system.errors import pluralize
from launcher.system.units import format_seconds

ONE_JOB = Reason(code=ReasonCode.NO_ROOM, text="each pilot runs only one job")
MOST_CPUS = 100_000
DURATION_MARGIN = 1.5  # factor on the expected duration that a job may take
NEARLY_WHOLE = 0.9  # part of a pilot's time: with so much left, a pilot is as good as a new one


def pilot_obstacle(
    lane: Lane, job: Waiting, registration: Registered, end_time: float | None, now: float
) -> str:
    """Return why a job must not start on a pilot, '' if it may.

    Args:
        lane: Its request.
        job: The job with the durations of similar ones.
        registration: Resources of the pilot.
        end_time: When its backend ends it, in seconds since 1970, None if never or unknown.
        now: Seconds since 1970.
    """
    if (
        lane.resources.cpus > registration.cpus
    ):  # the job requested these cores: with fewer it would not end in time
        return f"needs {pluralize(lane.resources.cpus, 'CPU core')}, but this pilot has {registration.cpus}"
    if (
        lane.resources.works_on_gpu(machine_has_gpu=bool(registration.gpus))
        and not registration.gpus
    ):
        return "needs a GPU, but this pilot has none"
    needed = lane.limit if lane.limit is not None else job.seconds and DURATION_MARGIN * job.seconds
    if needed is None or end_time is None or not isfinite(end_time) or needed <= end_time - now:
        return ""
    known = registration.began is not None and end_time > registration.began
    whole = end_time - registration.began if known and registration.began is not None else inf
    if lane.limit is None and end_time - now >= NEARLY_WHOLE * whole:
        return ""  # only an estimate: no later pilot has more time, and saved work can be resumed elsewhere
    ends = f"this pilot ends in {format_seconds(round(max(0.0, end_time - now)))}"
    if lane.limit is not None:
        return f"may run for {format_seconds(round(needed))}, but {ends}"
    return f"is expected to run for up to {format_seconds(round(needed))}, but {ends}"


class PilotNode(Node):
    """A registered pilot with its attempts and their GPU usage, as far as its heartbeats report it."""

    shows_files_late = True

    def __init__(
        self,
        link: PilotLink,
        usage_lookup: UsageLookup,
        home: Home,
        events: PilotEvents,
        holds: BackfillHolds,
    ) -> None:
        """Start without attempts and without a heartbeat.

        Args:
            link: Link to the pilot.
            usage_lookup: Returns the recorded usage of jobs of a signature on a GPU type.
            home: Queue folder with the attempts.
            events: Adopts attempts.
            holds: On which pilots places are kept.
        """
        self.link, self._usage_lookup = link, usage_lookup
        self._events, self._holds = events, holds
        self._claims: list[Claim] = []
        self._seat: PilotSeat | None = None
        self._usage_tracker = GpuUsageTracker(
            lambda claim: read_report(link.folder.attempt(name_of_claim(claim))),
            ReportedEnds(home),
        )
        self._limit_writer = VramLimitWriter(home)
        self._reported_gpus: tuple[GpuSnapshot, ...] = ()
        self._heartbeat_number = 0  # number of the beat that was taken in last

    @property
    def registration(self) -> Registered:
        """The registered resources of the pilot."""
        assert self.link.registration is not None, "only a pilot that has reported gets work"
        return self.link.registration

    @property
    def usage_tracker(self) -> GpuUsageTracker:
        """GPU usage of the attempts there."""
        return self._usage_tracker

    @property
    def claims(self) -> list[Claim]:
        """Every attempt that has a place there."""
        return self._claims

    def set_claims(self, claims: list[Claim]) -> None:
        """Set the attempts that have a place there."""
        self._claims = claims

    def select(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Return the jobs about which to decide: none if the pilot is full, one of each lane if it runs only one."""
        if self.why_no_start() is not None:
            return []
        if sum(claim.cpus for claim in self.claims) >= self.registration.cpus:
            return []
        return _first_per_lane(candidates) if self.link.spec.single else candidates

    def poll(self, result: CycleResult) -> Mapping[int, Eviction]:  # noqa: ARG002  # it wakes the scheduler
        """Read the newest heartbeat. Return the jobs to evict, with reasons."""
        beat = self.link.heartbeat
        if beat is None or beat.number == self._heartbeat_number:
            return {}
        self._heartbeat_number = beat.number
        if not beat.gpus:  # nothing has worked there since
            return {}
        self._reported_gpus = beat.gpus

        def driver_usage(claim: Claim) -> tuple[dict[str, int], set[str]]:
            told = beat.used.get(name_of_claim(claim), {})
            used = {uuid: size for uuid, size in told.items() if uuid in claim.gpus and size}
            return used, {*claim.gpus} - used.keys()

        self.usage_tracker.record_sample(self.claims, beat.gpus, driver_usage, time.monotonic())
        return jobs_on_failed_gpus(self.claims, self.gpus)

    def has_sample_since(self, timestamp: float) -> bool:  # noqa: ARG002  # see below
        """Return True: no newer reading can be requested from a pilot."""
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

    def send_limits(self) -> None:
        """Send workers their VRAM limits."""
        limits = self.usage_tracker.vram_limits(self.claims)
        self._limit_writer.send_limits(self.claims, limits)

    def why_no_start(self) -> Reason | None:
        """Return why no other job may start there: its pilot runs only one."""
        return ONE_JOB if self.link.spec.single and self.claims else None

    def set_seat(self, seat: PilotSeat) -> None:
        """Set what starts attempts there, with the settings of its backend."""
        self._seat = seat

    def take_seat(self, environment: WorkerEnvironment) -> PilotSeat:  # noqa: ARG002  # the node's own
        """Return the pilot as the starter of an attempt."""
        assert self._seat is not None, "jobs are placed on the pilots of configured backends"
        return self._seat

    def machine(self, limits: Mapping[str, int]) -> Machine:
        """Return the pilot's node as the policy sees it; no part of the node is another user's.

        Args:
            limits: limits of groups.
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

    def usage(self, signature: str, program: str = "", machine: str = "") -> Usage:
        """Return the recorded usage of jobs on GPUs of this type, including running ones."""
        usage = self._usage_lookup(signature, program, machine or self.fingerprint)
        return self.usage_tracker.add_running_usage(usage, signature, program)

    def decide(
        self,
        candidates: Sequence[Candidate],
        own_jobs: Sequence[Running],
        other_jobs: Sequence[Running],
        *,
        limits: Mapping[str, int],
        now: float,
        policy: SchedulingPolicy,
    ) -> list[Decision | Reason]:
        """Decide which jobs start there. Return the reasons of jobs that must not.

        Args:
            candidates: In the order in which they are examined.
            own_jobs: Attempts there.
            other_jobs: Attempts on other nodes, from `as_remote`.
            limits: Limits of groups.
            now: Seconds since 1970.
            policy: The policy.
        """
        if not candidates:
            return []
        asked: list[Waiting] = []
        decided: dict[int, Decision | Reason] = {}
        for ready, seen in self._holds.mark_held_elsewhere(self.link.token, candidates):
            job = make_waiting(ready, self.usage(ready.lane.signature, ready.program))._replace(
                since=seen.since,
                backfill_until=seen.backfill_until,
                reserved_elsewhere=seen.reserved_elsewhere,
                visible=None,  # CUDA_VISIBLE_DEVICES of the user names GPUs of this machine
            )
            if why := pilot_obstacle(ready.lane, job, self.registration, self.link.end_time, now):
                decided[ready.id] = Reason(code=ReasonCode.NO_ROOM, text=why)
            else:
                asked.append(job)
        for decision in decide(asked, [*other_jobs, *own_jobs], self.machine(limits), now, policy):
            decided[decision.job] = decision
        decisions = [decided[candidate.ready.id] for candidate in candidates]
        self._holds.record_decisions(self.link.token, decisions)
        return decisions

    def adopt(self, claim: Claim) -> Outcome | AttemptHandle:
        """Return the outcome of an attempt that an earlier scheduler claimed, or a watch on it."""
        return self._events.adopt(claim)

    def void_unstarted(self, claim: Claim) -> None:
        """Do nothing: an attempt that was not sent to a pilot was voided when it was claimed."""


class GonePilot(AttemptHost):
    """The pilot of an attempt, of which nothing is known any more, or nothing yet."""

    shows_files_late = True

    def __init__(self, claim: Claim, adopt: Callable[[Claim], Outcome | AttemptHandle]) -> None:
        """Start for one attempt.

        Args:
            claim: The attempt.
            adopt: Returns its outcome, or a watch on it.
        """
        self._claim, self._adopt = claim, adopt

    def machine(self, limits: Mapping[str, int]) -> Machine:
        """Return a machine with the cores of the attempt."""
        return Machine(cpus=self._claim.cpus, limits=limits)

    def has_sample_since(self, timestamp: float) -> bool:  # noqa: ARG002  # see below
        """Return True: no newer reading will come."""
        return True

    def measured_usage(self, claim: Claim) -> MeasuredUsage:  # noqa: ARG002  # nothing was seen
        """Return that nothing was measured."""
        return NOT_MEASURED

    def others_usage(self, claim: Claim) -> dict[str, int]:  # noqa: ARG002  # nothing was seen
        """Return that nothing was seen of others."""
        return {}

    def adopt(self, claim: Claim) -> Outcome | AttemptHandle:
        """Return the outcome of the attempt, or a watch on it."""
        return self._adopt(claim)

    def void_unstarted(self, claim: Claim) -> None:
        """Do nothing: an attempt that was not sent to a pilot was voided when it was claimed."""


def _first_per_lane(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the first job of each lane: of one that takes a single job, nothing else can come of it."""
    heads: dict[int, Candidate] = {}
    for candidate in candidates:
        heads.setdefault(candidate.ready.lane_id, candidate)
    return [*heads.values()]
