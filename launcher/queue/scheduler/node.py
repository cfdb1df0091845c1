"""A machine on which attempts run, as the scheduler uses it: this one, or that of a pilot.

This machine is `local_node.LocalNode`, that of a pilot is `pilot_node.PilotNode`. Only the modules of these two, and those
that make nodes, distinguish them.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.states import Outcome, Reason
from launcher.queue.scheduler.cycle import CycleResult
from launcher.queue.scheduler.gpus.eviction import Eviction
from launcher.queue.scheduler.gpus.taken_memory import GpuUsageTracker
from launcher.queue.scheduler.policy.disciplines import SchedulingPolicy
from launcher.queue.scheduler.policy.model import Decision, Machine, Running, Waiting
from launcher.queue.scheduler.started_attempts import Assignment, StartedAttempt
from launcher.queue.store.rows import Claim, ReadyJob
from launcher.queue.store.usage import MeasuredUsage, Usage
from launcher.queue.workers.attempt_handles import AttemptHandle
from launcher.queue.workers.fork_server_pool import CannotStartWorker
from launcher.system.processes import Identity


class Seat(Protocol):
    """The starter of one attempt, from before its claim until the claim is recorded."""

    @property
    def who(self) -> Identity:
        """The supervisor or pilot, as the claim names it."""

    @property
    def address(self) -> str:
        """Addition to the reason of a start: where the attempt runs. '' for this machine."""

    @property
    def trouble(self) -> CannotStartWorker | None:
        """Why the claimed attempt cannot be started, None if it can."""

    def prepare_folder(self, claim: Claim) -> None:
        """Create the attempt's folder.

        Raises:
            OSError: The disk is full.
        """

    def why_unprepared(self, error: OSError) -> Reason:
        """Return why the folder cannot be created now."""

    def begin(self, claim: Claim, assignment: Assignment) -> StartedAttempt:
        """Return the claimed attempt, which is launched after the commit."""

    def void(self, claim: Claim) -> None:
        """Give the seat back, because its claimed attempt must never start."""

    def give_back(self) -> None:
        """Give the seat back, because nothing was claimed."""


class Candidate(NamedTuple):
    """A waiting job at its place in the order of all."""

    ready: ReadyJob
    waiting: Waiting  # the job as the policy sees it, with its waiting time


class AttemptHost(Protocol):
    """Where an attempt is until its end is recorded: a node, or a pilot of which nothing is known any more."""

    @property
    def shows_files_late(self) -> bool:
        """Whether files of an attempt there may become visible here only after its end."""

    def machine(self, limits: Mapping[str, int]) -> Machine:
        """Return the machine for the policy, without attempts that have ended.

        Args:
            limits: Limits of groups.
        """

    def has_sample_since(self, timestamp: float) -> bool:
        """Whether a failure at a time (monotonic) needs no newer reading of the GPUs."""

    def measured_usage(self, claim: Claim) -> MeasuredUsage:
        """Return what was seen of an attempt that has ended."""

    def others_usage(self, claim: Claim) -> dict[str, int]:
        """Return by UUID the most that all others had on an attempt's GPUs lately, if it was seen."""

    def adopt(self, claim: Claim) -> Outcome | AttemptHandle:
        """Return the outcome of an attempt that an earlier scheduler claimed, or a watch on it.

        Raises:
            OSError: The state of the attempt cannot be found out now.
        """

    def void_unstarted(self, claim: Claim) -> Outcome | AttemptHandle | None:
        """Void an attempt that cannot be started. Return its outcome or a watch if it began all the same."""


class Node(AttemptHost, Protocol):
    """A machine on which attempts run."""

    @property
    def usage_tracker(self) -> GpuUsageTracker:
        """GPU usage of the attempts there."""

    @property
    def claims(self) -> list[Claim]:
        """Every attempt that has a place there."""

    @property
    def gpus(self) -> tuple[GpuSnapshot, ...]:
        """The GPUs at the newest reading."""

    def usage(self, signature: str, program: str = "", machine: str = "") -> Usage:
        """Return the recorded usage of jobs there, including that of similar running ones."""

    def select(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Return the jobs about which the node decides now. The others need not be examined."""

    def decide(
        self,
        candidates: Sequence[Candidate],
        own_jobs: Sequence[Running],
        other_jobs: Sequence[Running],
        *,
        limits: Mapping[str, int],
        now: float,
        policy: SchedulingPolicy,
    ) -> Sequence[Decision | Reason]:
        """Decide which jobs start there, in the order of the candidates. Jobs that must not get a reason.

        Args:
            candidates: In the order in which they are examined.
            own_jobs: Attempts there.
            other_jobs: Attempts on other nodes, from `as_remote`.
            limits: Limits of groups.
            now: Seconds since 1970.
            policy: The policy.
        """

    def poll(self, result: CycleResult) -> Mapping[int, Eviction]:
        """Read the state of the GPUs. Return the jobs to evict, with reasons.

        Args:
            result: Receives the time of the next cycle.
        """

    def send_limits(self) -> None:
        """Send workers their VRAM limits."""

    def why_no_start(self) -> Reason | None:
        """Return why no other job may start there in this turn, None if one may."""

    def take_seat(self, environment: WorkerEnvironment) -> Seat | Reason:
        """Take what starts an attempt there. Return the reason if there is nothing yet."""

    def running(self) -> list[Running]:
        """Return the attempts there, the oldest first."""
        return self.usage_tracker.running_jobs(self.claims, self.usage)

    def read_reported_ends(self) -> None:
        """Read when attempts there will have ended by their own word; outside a transaction."""
        self.usage_tracker.read_reported_ends(self.claims)

    def others_usage(self, claim: Claim) -> dict[str, int]:
        """Return by UUID the most that all others had on an attempt's GPUs lately, if it was seen."""
        return self.usage_tracker.others_usage(claim)


def as_remote(run: Running) -> Running:
    """Return an attempt as another machine sees it: it counts in the limit of its group, and takes nothing."""
    return run._replace(cpus=0, ram=0, devices=(), vram=None, exclusive=False, used={})
