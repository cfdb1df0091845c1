"""This machine as a node: its attempts, its GPUs, and the supervisors that start attempts."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from launcher.queue.gpu.gpus_file import gpu_numbers
from launcher.queue.gpu.monitor import AFTER_CHANGE_S, MEASURING_S
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.states import NeverStarted, Outcome, Reason, ReasonCode
from launcher.queue.scheduler.cycle import POLL_S, CycleResult
from launcher.queue.scheduler.gpus.eviction import Eviction
from launcher.queue.scheduler.gpus.gpu_state import SchedulerGpus
from launcher.queue.scheduler.gpus.taken_memory import GpuUsageTracker
from launcher.queue.scheduler.node import Candidate, Node, Seat
from launcher.queue.scheduler.policy.backfill import ReservationAging
from launcher.queue.scheduler.policy.decide import decide
from launcher.queue.scheduler.policy.disciplines import SchedulingPolicy
from launcher.queue.scheduler.policy.fair_share import YieldPolicy, demand_of, starving_resource
from launcher.queue.scheduler.policy.model import Decision, Machine, Running
from launcher.queue.scheduler.policy.watchdog import Watchdog
from launcher.queue.scheduler.running_attempts import RunningAttempts
from launcher.queue.scheduler.start_jobs import LaunchBatch
from launcher.queue.scheduler.started_attempts import Assignment, LaunchedAttempt
from launcher.queue.scheduler.submitters import find_submitters, lacks_cores, name_submitters
from launcher.queue.scheduler.unrecorded_attempts import no_supervisor
from launcher.queue.store.gpu_numbers import assign_gpus
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import Claim
from launcher.queue.store.usage import MeasuredUsage, Usage
from launcher.queue.workers.attempt_handles import AttemptHandle, inspect_attempt
from launcher.queue.workers.fork_server_handles import Supervisor
from launcher.queue.workers.fork_server_pool import CannotStartWorker, ForkServerPool
from launcher.queue.workers.start_pauses import StartBackoff
from launcher.system import memory
from launcher.system.answering import FilesystemTimeout
from launcher.system.error_log import ErrorThrottle
from launcher.system.files import DISK_FULL_ERRORS, describe_full_disk
from launcher.system.processes import Identity, boot_id

logger = logging.getLogger(__name__)

WORKER_STARTING = Reason(code=ReasonCode.WORKER_STARTING, text="waiting for its worker to start")


class LocalNode(Node):
    """This machine.

    Attributes:
        home: The queue folder.
        launches: Starts here and on pilots.
        fork_servers: Start the workers of the jobs.
        start_backoff: Whether this machine can start programs.
        errors: Logs why attempts could not be prepared.
        watchdog: Reviews the decisions.
        gpus_wanted: A job waits for a GPU.
        ram_wanted: A job waits for main memory.
    """

    shows_files_late = False

    def __init__(
        self,
        home: Home,
        store: Store,
        *,
        cpus: int,
        cores: int = -1,
        state: SchedulerGpus,
        attempts: RunningAttempts,
        launches: LaunchBatch,
        fork_servers: ForkServerPool,
        start_backoff: StartBackoff,
        ended_claims: Callable[[], Iterable[Claim]] = tuple[Claim, ...],
    ) -> None:
        """Start without a reading of the GPUs.

        Args:
            home: As the attribute.
            store: The store of the queue.
            cpus: Cores for jobs.
            cores: Cores that this process may use, as a mask.
            state: State of the GPUs.
            attempts: All running attempts.
            launches: As the attribute.
            fork_servers: As the attribute.
            start_backoff: As the attribute.
            ended_claims: Returns the claims of all ended attempts that are not recorded yet.
        """
        self.home, self.launches = home, launches
        self.fork_servers, self.start_backoff = fork_servers, start_backoff
        self.errors = ErrorThrottle()
        self._store, self._cpus, self._cores, self._state = store, cpus, cores, state
        self._attempts, self._ended = attempts, ended_claims
        self._ram = memory.usable_bytes()
        self._are_gpus_assigned = False
        self._aging, self._yield_policy, self.watchdog = (
            ReservationAging(),
            YieldPolicy(),
            Watchdog(),
        )
        self.gpus_wanted = self.ram_wanted = False

    @property
    def usage_tracker(self) -> GpuUsageTracker:
        """GPU usage of the attempts on this machine."""
        return self._state.accounting.usage_tracker

    @property
    def claims(self) -> list[Claim]:
        """Every attempt that has a place on this machine; those on pilots have none."""
        claims = (*self._attempts.claims(), *self.launches.pending_claims())
        return [claim for claim in claims if not claim.pilot]

    @property
    def gpus(self) -> tuple[GpuSnapshot, ...]:
        """The GPUs of this machine at the newest reading."""
        return self._state.gpus

    def machine(self, limits: Mapping[str, int], *, with_gpus: bool = True) -> Machine:
        """Return this machine for the policy, without attempts that have ended.

        Args:
            limits: Limits of groups.
            with_gpus: Whether the GPUs matter. Otherwise only other users are described.
        """
        describe = self._state.machine_fields if with_gpus else self._state.peer_fields
        return Machine(cpus=self._cpus, ram=self._ram, limits=limits, **describe(self.claims))

    def usage(self, signature: str, program: str = "", machine: str = "") -> Usage:
        """Return the recorded usage of jobs, including that of similar running ones."""
        usage = self._store.usage_records.usage(signature, program, machine)
        return self.usage_tracker.add_running_usage(usage, signature, program)

    def select(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Return all candidates: each gets a reason, and reservations are held for the first ones."""
        return candidates

    def decide(
        self,
        candidates: Sequence[Candidate],
        own_jobs: Sequence[Running],
        other_jobs: Sequence[Running],
        *,
        limits: Mapping[str, int],
        now: float,
        policy: SchedulingPolicy,
    ) -> list[Decision]:
        """Decide which jobs start here, and coordinate this with other users' schedulers.

        Args:
            candidates: In the order in which they are examined.
            own_jobs: Attempts on this machine.
            other_jobs: Attempts on other nodes, from `as_remote`.
            limits: Limits of groups.
            now: Seconds since 1970.
            policy: The policy.
        """
        claims, state = self.claims, self._state
        # a GPU may use the main memory
        with_gpus = self.gpus_wanted or self.ram_wanted
        machine = self.machine(limits, with_gpus=with_gpus)._replace(
            cores=self._cores,
            installed_ram=memory.installed_bytes(),
            ram_free=memory.available_bytes() if self.ram_wanted else 0,
        )
        machine = self._yield_policy.with_eligible_peers(machine, time.monotonic())
        starves = starving_resource(state.demand, own_jobs, machine, time.monotonic())
        machine = machine._replace(starving_resource=starves)
        running = [*other_jobs, *own_jobs]
        waiting = self._aging.with_held_reservations(
            [candidate.waiting for candidate in candidates], time.monotonic()
        )
        decisions = decide(waiting, running, machine, now, policy)
        self._aging.record_decisions(decisions, time.monotonic())
        verdict = self.watchdog.review(waiting, decisions, own_jobs, machine, time.monotonic())
        for sentence in verdict.messages:
            logger.warning("unexplained wait: %s", sentence)
        decisions = verdict.decisions
        self._yield_policy.record_decisions(decisions, time.monotonic())
        for complaint in self._yield_policy.complaints:
            logger.warning("colleague reason=%r", complaint)
        self._yield_policy.complaints.clear()
        jobs = {candidate.ready.id for candidate in candidates}
        state.announce_demand(*demand_of(waiting, decisions, machine), jobs)
        announced = state.publish_starts(
            decisions, claims, (waiting, running, machine, now), policy
        )
        if lacks_cores(announced):
            announced = name_submitters(announced, find_submitters(self.home, claims))
        return announced

    def poll(self, result: CycleResult) -> Mapping[int, Eviction]:
        """Request a reading of the GPUs while a job runs there, waits for one, or has ended there.

        Returns the jobs to evict, with reasons.
        """
        claims = self.claims
        ended_there = (claim.gpus for claim in self._ended() if not claim.pilot)
        in_use = any(claim.gpus for claim in claims) or any(ended_there)
        measuring = self.gpus_wanted and self.usage_tracker.is_measuring(claims)
        leaving = self._state.poll(
            claims,
            self._attempts.list_unsupervised(),
            is_wanted=in_use or self.gpus_wanted,
            is_measuring=measuring,
        )
        if self.gpus and not self._are_gpus_assigned:
            self._are_gpus_assigned = True  # jobs that are queued later get theirs at once
            assign_gpus(self._store.database, gpu_numbers(self.gpus))
        if in_use:  # estimates follow what is used, also if nothing waits
            self.running()
            result.wake_within(MEASURING_S if measuring else POLL_S)
        if self._state.has_peer_change:
            result.wake_within(AFTER_CHANGE_S)  # the newest reading is too fresh for a new reading
        return leaving

    def has_sample_since(self, timestamp: float) -> bool:
        """Whether there was a reading of the GPUs after a time (monotonic)."""
        return self._state.has_sample_since(timestamp)

    def measured_usage(self, claim: Claim) -> MeasuredUsage:
        """Return what was seen of an attempt that has ended."""
        return self._state.measured_usage(claim)

    def adopt(self, claim: Claim) -> Outcome | AttemptHandle:
        """Return the outcome of an attempt that an earlier scheduler claimed, or a watch on it."""
        return inspect_attempt(claim.supervisor, self.home.attempt(*claim.key))

    def void_unstarted(self, claim: Claim) -> Outcome | AttemptHandle | None:
        """Void an attempt that no supervisor can start. Return its outcome or a watch if it began all the same."""
        news = self.adopt(claim)
        return None if isinstance(news, NeverStarted) else news

    def send_limits(self) -> None:
        """Send workers their VRAM limits."""
        self._state.send_limits(self.claims)

    def why_no_start(self) -> Reason | None:
        """Return why this machine starts no programs now, None if it does."""
        if self.start_backoff.allows_start(time.monotonic()):
            return None
        return self.start_backoff.reason

    def take_seat(self, environment: WorkerEnvironment) -> Seat | Reason:
        """Take an idle supervisor. Return the reason if there is none yet."""
        trouble = supervisor = None
        try:
            supervisor = self.fork_servers.take_supervisor(environment)
        except CannotStartWorker as error:  # claimed without a supervisor, an attempt can end
            trouble = error
        if supervisor is None and trouble is None:
            why = self.fork_servers.why_delayed(environment)
            text = f"{WORKER_STARTING.text}: {why}" if why else WORKER_STARTING.text
            return WORKER_STARTING._replace(text=text)
        return LocalSeat(node=self, environment=environment, supervisor=supervisor, trouble=trouble)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSeat(Seat):
    """A supervisor of this machine for one attempt, or none if the attempt cannot be started."""

    node: LocalNode
    environment: WorkerEnvironment
    supervisor: Supervisor | None
    trouble: CannotStartWorker | None = None
    address: str = ""

    @property
    def who(self) -> Identity:
        """The supervisor."""
        return no_supervisor(boot_id()) if self.supervisor is None else self.supervisor.who

    def prepare_folder(self, claim: Claim) -> None:
        """Create the attempt's folder.

        Raises:
            OSError: The disk is full.
        """
        launches = self.node.launches
        text = launches.specs.local_text(claim, self.node.gpus)
        launches.spec_writer.write(claim.job, claim.number, text)

    def why_unprepared(self, error: OSError) -> Reason:
        """Return why the folder cannot be created now."""
        self.node.errors.log_error(error)
        if isinstance(error, FilesystemTimeout):
            text = f"waiting for its files: {error.strerror}"
        elif error.errno in DISK_FULL_ERRORS:
            text = f"waiting for room: {describe_full_disk(self.node.home.folder) or error}"
        else:
            text = f"waiting for the folder of its attempt: {error}"
        return Reason(code=ReasonCode.CANNOT_START, text=text)

    def begin(self, claim: Claim, assignment: Assignment) -> LaunchedAttempt:
        """Return the claimed attempt with its supervisor."""
        assert self.supervisor is not None, "it cannot be started"
        self.node.start_backoff.record_start(time.monotonic())
        return LaunchedAttempt(
            claim=claim,
            attempt=self.node.home.attempt(*claim.key),
            supervisor=self.supervisor,
            environment=self.environment,
            assignment=assignment,
            fork_servers=self.node.fork_servers,
        )

    def void(self, claim: Claim) -> None:  # noqa: ARG002  # without its supervisor it never starts
        """Give the supervisor back."""
        self.give_back()

    def give_back(self) -> None:
        """Let another attempt have the supervisor."""
        if self.supervisor is not None:
            self.node.fork_servers.give_back(self.environment, self.supervisor)
