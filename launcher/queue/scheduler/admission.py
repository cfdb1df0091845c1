"""Admission: which queued jobs start in this turn, and why each other lane waits.

Some jobs pause: before a retry, and until the time that they ask for.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from launcher.queue.jobs.states import Reason, ReasonCode
from launcher.queue.scheduler.cycle import ControlState, CycleResult, Reasons
from launcher.queue.scheduler.gpus.gpu_state import SchedulerGpus
from launcher.queue.scheduler.gpus.running_place import running_of_claim, without_expected_end
from launcher.queue.scheduler.node import Candidate, Node, as_remote
from launcher.queue.scheduler.nodes import Nodes
from launcher.queue.scheduler.partition import Partition, combine_reasons
from launcher.queue.scheduler.partitions import Partitions
from launcher.queue.scheduler.policy.model import Running, Start
from launcher.queue.scheduler.start_jobs import LaunchBatch
from launcher.queue.scheduler.waiting_line import OrderedQueue, PendingQueue
from launcher.queue.store.queue import Store
from launcher.queue.store.ready_jobs import ReadyJobs
from launcher.queue.store.rows import ReadyJob
from launcher.queue.store.usage import NO_USAGE


class Pauses:
    """Ends pauses when their time has come, over the turns of one scheduler."""

    def __init__(self, ready_jobs: ReadyJobs) -> None:
        """Begin with pauses that were not read yet."""
        self._ready_jobs = ready_jobs
        self._next_end: float | None = 0.0  # when the next pause ends
        self._ended_at = 0.0  # when pauses were ended most recently

    def mark_stale(self) -> None:
        """Read at the next decision which pauses have ended: one may have begun or been lifted."""
        self._next_end = 0.0

    def end_due(self, now: float, result: CycleResult) -> None:
        """End the pauses whose time is over.

        Args:
            now: Seconds since 1970.
            result: Receives the time of the next end.
        """
        if now < self._ended_at:
            self.mark_stale()  # the clock was set back: a pause of seconds would last for as long as that
        self._ended_at = now
        if self._next_end is not None and now >= self._next_end:
            self._next_end = self._ready_jobs.release_due_timers(now)
        if self._next_end is not None:
            result.has_waiting = True
            result.wake_within(self._next_end - now)


EXPLAIN_S = 0.5  # the reasons why jobs wait are stored at most so often
ROTATION_S = (
    0.25  # between two turns of the classes that are read in rotation, if nothing else happens
)

NOTHING_WAITS = OrderedQueue(jobs=(), running={})
# stands for the reason of a job that no node of a partition has examined
NOT_EXAMINED = Reason(code=ReasonCode.NO_ROOM, text="")

logger = logging.getLogger(__name__)


def transaction(store: Store, is_needed: bool) -> contextlib.AbstractContextManager[None]:
    """Return a transaction for all that ends and starts, none where nothing does.

    Were each claim one of its own, an error after the first would leave that without a launch.
    """
    return store.database.writing() if is_needed else contextlib.nullcontext()


class Admission:
    """Decides over the turns of one scheduler which jobs start.

    Attributes:
        pending_queue: The order of the waiting jobs.
        pauses: Pauses of jobs. They are read again if one may have begun or ended.
    """

    def __init__(
        self,
        store: Store,
        *,
        cpus: int,
        clock: Callable[[], float],
        gpus: SchedulerGpus,
        launches: LaunchBatch,
        nodes: Nodes,
        partitions: Partitions,
    ) -> None:
        """Start without decisions.

        Args:
            store: The store of the queue.
            cpus: Cores for jobs.
            clock: Seconds since 1970.
            gpus: State of the GPUs.
            launches: Starts on all nodes.
            nodes: All nodes.
            partitions: The nodes as jobs name them.
        """
        self._store, self._clock = store, clock
        self._ready_jobs = store.ready_jobs
        self._cpus = cpus
        self._gpus, self._launches = gpus, launches
        self._nodes, self._partitions = nodes, partitions
        self.pending_queue = PendingQueue(store.ready_jobs, nodes.local.usage)
        self._explained_at = time.monotonic()
        self.pauses = Pauses(store.ready_jobs)
        self._has_waiting = False  # whether jobs wait since the last decision

    def poll_nodes(self, result: CycleResult) -> None:
        """Read the state of all nodes, and note the jobs that have to leave their GPUs."""
        for node in self._nodes.list_nodes():
            self._gpus.evict(node.poll(result))
            if self._has_waiting:
                node.read_reported_ends()

    def decide(self, control: ControlState, result: CycleResult) -> Reasons:
        """Claim the jobs that fit. They are launched after the commit.

        Args:
            control: Requests of users.
            result: Receives the time of the next cycle.

        Returns:
            Why the first job of each lane does not start, None if it does.
        """
        now = self._clock()
        self.pauses.end_due(now, result)
        ready = self._read_ready_jobs(control, now)
        named = {job.lane.group for job in ready} - {""}
        # the limit of the group may be as new as the job
        if not named <= control.group_limits.keys():
            control = control._replace(group_limits=self._ready_jobs.slots_by_group())
        if ready and self._ready_jobs.queue_heads.is_partial:
            result.wake_within(ROTATION_S)
        reasons = self._place(ready, control, result, now)
        self._has_waiting = any(reasons.values())
        result.has_waiting = result.has_waiting or self._has_waiting
        if self._launches.retry_s is not None:
            result.wake_within(self._launches.retry_s)
        return reasons

    def _place(
        self, ready: Sequence[ReadyJob], control: ControlState, result: CycleResult, now: float
    ) -> Reasons:
        """Claim the jobs that fit, in one partition after the other. Return why lanes wait, None if they do not."""
        partitions = self._partitions.list_partitions(ready)
        excluded = {
            partition.name: partition.begin_turn(
                [job for job in ready if partition.name in job.lane.on], result
            )
            for partition in partitions
        }
        tried = {
            job.id: job
            for job in ready
            if any(job.id not in excluded[name] for name in job.lane.on)
        }
        is_asked = tried or any(partition.nodes() for partition in partitions)
        line = self._order_jobs([*tried.values()], control, now) if is_asked else NOTHING_WAITS
        preferred = tried[line.jobs[0].job].lane.on if line.jobs else ()
        # job that does not start → the partitions that were asked, with reasons
        waits: dict[int, list[tuple[Partition, Reason]]] = {job.id: [] for job in ready}
        self._nodes.backfill_holds.begin_cycle()
        with contextlib.ExitStack() as transaction:
            turn = _Turn(line=line, control=control, now=now, transaction=transaction)
            for partition in self._partitions.sort(partitions, preferred):
                reasons: dict[int, Reason | None] = {**excluded[partition.name]}
                reasons |= self._place_in(
                    partition,
                    [
                        Candidate(tried[seen.job], seen)
                        for seen in line.jobs
                        if seen.job in waits
                        and seen.job not in reasons
                        and partition.name in tried[seen.job].lane.on
                    ],
                    turn,
                )
                partition.end_turn(reasons.values(), result)
                for job_id, reason in reasons.items():
                    if reason is None:
                        del waits[job_id]
                    elif job_id in waits:
                        waits[job_id].append((partition, reason))
        self._partitions.set_waiting(
            [job for job in ready if job.id in waits], control.group_limits
        )
        return _reasons_by_lane(ready, {seen.job: tried[seen.job] for seen in line.jobs}, waits)

    def _place_in(
        self, partition: Partition, candidates: Sequence[Candidate], turn: "_Turn"
    ) -> dict[int, Reason | None]:
        """Claim the jobs that fit on the nodes of a partition. Return by job why it does not start there, None if it does."""
        control, line, left = turn.control, turn.line, candidates
        reasons: dict[int, Reason | None] = {}
        for node in partition.nodes():
            asked = node.select(left)
            decisions = node.decide(
                asked,
                line.running.get(node, ()),
                self._running_elsewhere(node, line) if control.group_limits else (),
                limits=control.group_limits,
                now=turn.now,
                policy=control.policy,
            )
            if any(isinstance(decision, Start) for decision in decisions):
                turn.transaction.enter_context(self._store.database.writing())
            for (ready, _), decision in zip(asked, decisions, strict=True):
                reasons[ready.id] = self._launches.apply(ready, decision, node)
                if isinstance(decision, Start):
                    self._nodes.list_nodes()  # the list of nodes reads the new claim
            left = [each for each in left if reasons.get(each.ready.id, NOT_EXAMINED) is not None]
        for candidate in left:
            reasons[candidate.ready.id] = partition.explain(reasons.get(candidate.ready.id))
        return reasons

    def _running_elsewhere(self, node: Node, line: OrderedQueue) -> list[Running]:
        """Return the attempts on other nodes, including those that start in this turn."""
        there = [run for other, runs in line.running.items() if other is not node for run in runs]
        own = {claim.key for claim in node.claims}
        started = [
            running_of_claim(claim, NO_USAGE)
            for claim in self._launches.open_claims()
            if claim.key not in own
        ]
        return [as_remote(run) for run in (*there, *started)]

    def explain(self, reasons: Reasons, result: CycleResult) -> None:
        """Store why lanes wait; not at every turn, as in a flood of short jobs it never holds."""
        wait_s = self._explained_at + EXPLAIN_S - time.monotonic()
        if wait_s > 0:
            if any(reasons.values()):
                result.wake_within(wait_s)
            return
        self._explained_at = time.monotonic()
        self._ready_jobs.record_lane_reasons(reasons)

    def _read_ready_jobs(self, control: ControlState, now: float) -> list[ReadyJob]:
        self._launches.retry_s = None
        most = self._cpus + self._partitions.slots + self._launches.unclear_jobs
        ready = [] if control.stop else self._ready_jobs.read_ready(most)
        if self._ready_jobs.repair_unready(now):
            logger.warning("trouble='some jobs had no lane, or could not be read'")
            ready = self._ready_jobs.read_ready(most)
        return ready

    def _order_jobs(
        self, ready: Sequence[ReadyJob], control: ControlState, now: float
    ) -> OrderedQueue:
        self._store.usage_records.set_local_machines(self._gpus.gpu_fingerprints())
        running = {
            node: [
                without_expected_end(run) if run.job in control.paused_jobs else run
                for run in node.running()
            ]
            for node in self._nodes.list_nodes()
        }
        return self.pending_queue.order_jobs(
            ready,
            running,
            lambda: self._nodes.local.machine(control.group_limits),
            now,
            control.policy,
        )


class _Turn(NamedTuple):
    """The facts of one decision that all partitions share."""

    line: OrderedQueue
    control: ControlState
    now: float  # seconds since 1970
    transaction: contextlib.ExitStack  # receives the transaction of the claims


def _reasons_by_lane(
    ready: Iterable[ReadyJob],
    tried_jobs: Mapping[int, ReadyJob],
    waits: Mapping[int, Sequence[tuple[Partition, Reason]]],
) -> Reasons:
    """Return why lanes wait: the reason of their first job that was tried, otherwise that of one that was not.

    Args:
        ready: All jobs.
        tried_jobs: Those that were tried by their numbers, in their order.
        waits: By job that does not start, the partitions that were asked, with reasons.
    """
    reasons: Reasons = {
        job.lane_id: _combine(waits[job.id]) for job in ready if job.id not in tried_jobs
    }
    by_lane: Reasons = {}
    for job in tried_jobs.values():
        if by_lane.get(job.lane_id) is None:
            by_lane[job.lane_id] = _combine(waits[job.id]) if job.id in waits else None
    return reasons | by_lane


def _combine(waits: Sequence[tuple[Partition, Reason]]) -> Reason:
    """Return why a job waits, from its reasons in the partitions where it may run."""
    match waits:
        case [(partition, reason)]:
            return partition.explain_alone(reason)
    return combine_reasons([(partition.name, reason) for partition, reason in waits])
