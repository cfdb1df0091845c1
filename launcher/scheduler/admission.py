"""Admission: which queued jobs start in this turn, and why each other lane waits.

Some jobs pause: before a retry, and until the time that they ask for.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence

from launcher.scheduler.cycle import POLL_S, RETRY_S, ControlState, CycleResult, Reasons
from launcher.scheduler.dispatch import PilotDispatch
from launcher.scheduler.gpus.gpu_state import SchedulerGpus
from launcher.scheduler.gpus.running_place import without_expected_end
from launcher.scheduler.local_node import LocalNode
from launcher.scheduler.node import Candidate
from launcher.scheduler.placement import Nodes, as_remote
from launcher.scheduler.policy.model import Start
from launcher.scheduler.startable_jobs import StartableJobs
from launcher.scheduler.succession import JobClassKey, find_only_job_class
from launcher.scheduler.waiting_line import OrderedQueue, PendingQueue
from launcher.states import ReasonCode
from launcher.store.queue import Store
from launcher.store.ready_jobs import ReadyJobs
from launcher.store.rows import ReadyJob


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

logger = logging.getLogger(__name__)


def transaction(store: Store, needed: bool) -> contextlib.AbstractContextManager[None]:
    """Return a transaction for all that ends and starts, none where nothing does.

    Were each claim one of its own, an error after the first would leave that without a launch.
    """
    return store.database.writing() if needed else contextlib.nullcontext()


class Admission:
    """Decides over the turns of one scheduler which jobs start.

    Attributes:
        pending_queue: The order of the waiting jobs.
        startable: Selects the jobs that may be tried now.
        pauses: Pauses of jobs. They are read again if one may have begun or ended.
        only_job_class: The only class with waiting jobs if all of them are alike, otherwise None.
    """

    def __init__(
        self,
        store: Store,
        *,
        cpus: int,
        clock: Callable[[], float],
        gpus: SchedulerGpus,
        local: LocalNode,
        nodes: Nodes,
        dispatch: PilotDispatch,
    ) -> None:
        """Start without decisions.

        Args:
            store: The store of the queue.
            cpus: Cores for jobs.
            clock: Seconds since 1970.
            gpus: State of the GPUs.
            local: This machine.
            nodes: This machine and the pilots.
            dispatch: Starts jobs on pilots.
        """
        self._store, self._clock = store, clock
        self._ready_jobs = store.ready_jobs
        self._cpus = cpus
        self._gpus, self._launches = gpus, local.launches
        self._local, self._nodes, self._dispatch = local, nodes, dispatch
        self.pending_queue = PendingQueue(store.ready_jobs, local.usage)
        self.startable = StartableJobs(gpus, local.fork_servers)
        self._explained_at = time.monotonic()
        self.pauses = Pauses(store.ready_jobs)
        self._has_waiting = False  # since the last decision
        self.only_job_class: JobClassKey | None = (
            None  # the only one that waits, if its jobs are all alike
        )

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
        now, self.only_job_class = self._clock(), None
        self.pauses.end_due(now, result)
        ready = self._ready(control, now)
        named = {job.lane.group for job in ready} - {""}
        if not named <= control.group_limits.keys():  # its limit may be as new as the job
            control = control._replace(group_limits=self._ready_jobs.slots_by_group())
        if ready and self._ready_jobs.queue_heads.is_partial:
            result.wake_within(ROTATION_S)
        if not self._dispatch.has_pilot_jobs(job.lane for job in ready):
            return self._decide_local(ready, control, result, now)
        line = self._order_jobs(ready, control, now)

        def decide_local(own: Sequence[ReadyJob]) -> tuple[Reasons, set[int]]:
            reasons = self._decide_local(own, control, result, now, line)
            return reasons, {claim.job for claim in self._launches.open_claims()}

        reasons = self._dispatch.decide(ready, line, control, decide_local)
        self._has_waiting = any(reasons.values())
        result.has_waiting = result.has_waiting or self._has_waiting
        if self._launches.retry_s is not None:
            result.wake_within(self._launches.retry_s)
        return reasons

    def _decide_local(
        self,
        ready: Sequence[ReadyJob],
        control: ControlState,
        result: CycleResult,
        now: float,
        ordered: OrderedQueue | None = None,
    ) -> Reasons:
        """Claim the jobs that fit on this machine; `ordered` is given if it also contains jobs of other machines."""
        self._local.gpus_wanted = any(job.lane.resources.may_need_gpu for job in ready)
        if not ready:
            self._gpus.announce_demand(None)
            return {}
        if (refusal := self._local.why_no_start()) is not None:
            self._gpus.announce_demand(None)
            result.has_waiting = True
            result.wake_within(self._local.start_backoff.wait_s(time.monotonic()))
            return {job.lane_id: refusal for job in ready}
        ready, reasons_of_unclear = self._launches.without_unclear(ready)
        ready, reasons_of_excluded = self.startable.without_backoff(ready, result)
        reasons_of_excluded = reasons_of_unclear | reasons_of_excluded
        self._local.ram_wanted = any(job.lane.resources.ram is not None for job in ready)
        if self._local.gpus_wanted and not self._gpus.has_recent_sample:
            self._gpus.evict(self._local.poll(result))
        ready, reasons_of_unseen = self.startable.without_unsampled(ready)
        if not reasons_of_excluded and not reasons_of_unseen:
            self.only_job_class = find_only_job_class(ready, self._gpus.foreign)
            if self._gpus.has_waiting_peers:
                self.only_job_class = None
        ordered = ordered or self._order_jobs(ready, control, now)
        jobs = {job.id: job for job in ready}
        candidates = [Candidate(jobs[job.job], job) for job in ordered.jobs if job.job in jobs]
        decisions = self._local.decide(
            candidates,
            ordered.running_local,
            [*map(as_remote, ordered.running_on_pilots)],
            limits=control.group_limits,
            now=now,
            policy=control.policy,
        )
        reasons: Reasons = {job.lane_id: None for job in ready}
        with transaction(self._store, any(isinstance(choice, Start) for choice in decisions)):
            for (job, _), decision in zip(candidates, decisions, strict=True):
                why = self._launches.apply(job, decision, self._local)
                reasons[job.lane_id] = reasons[job.lane_id] or why
        reasons = reasons_of_excluded | reasons | reasons_of_unseen
        result.has_waiting = result.has_waiting or any(reasons.values())
        codes = {reason.code for reason in reasons.values() if reason is not None}
        if ReasonCode.WORKER_STARTING in codes:
            result.wake_within(RETRY_S)  # a new supervisor wakes us, one that is put off does not
        if self._launches.retry_s is not None:
            result.wake_within(self._launches.retry_s)
        others = self._gpus.foreign or self._gpus.has_waiting_peers
        wanted = self._local.gpus_wanted or self._local.ram_wanted
        if self._local.watchdog.is_watching or (result.has_waiting and (wanted or others)):
            result.wake_within(POLL_S)  # room may come without a wake: memory that others give back
        return reasons

    def explain(self, reasons: Reasons, result: CycleResult) -> None:
        """Store why lanes wait; not at every turn, as in a flood of short jobs it never holds."""
        wait_s = self._explained_at + EXPLAIN_S - time.monotonic()
        if wait_s > 0:
            if any(reasons.values()):
                result.wake_within(wait_s)
            return
        self._explained_at = time.monotonic()
        self._ready_jobs.record_lane_reasons(reasons)

    def _ready(self, control: ControlState, now: float) -> list[ReadyJob]:
        self._launches.retry_s = None
        most = self._cpus + self._dispatch.slots + self._launches.unclear_jobs
        ready = [] if control.stop else self._ready_jobs.read_ready(most)
        if self._ready_jobs.repair_unready(now):
            logger.warning("trouble='some jobs had no lane, or could not be read'")
            ready = self._ready_jobs.read_ready(most)
        return ready

    def _order_jobs(
        self, ready: Sequence[ReadyJob], control: ControlState, now: float
    ) -> OrderedQueue:
        self._store.usage_records.set_local_machines(self._gpus.gpu_fingerprints())
        here = [
            without_expected_end(run) if run.job in control.paused_jobs else run
            for run in self._local.running()
        ]
        return self.pending_queue.order_jobs(
            ready,
            here,
            self._nodes.running_on_pilots(),
            lambda: self._local.machine(control.group_limits),
            now,
            control.policy,
        )
