"""This machine as a partition: which jobs may be tried on it in a turn, and when it decides again."""

import time
from collections.abc import Collection, Mapping, Sequence

from launcher.queue.backends.settings import LOCAL
from launcher.queue.jobs.states import Reason, ReasonCode
from launcher.queue.scheduler.cycle import POLL_S, RETRY_S, CycleResult
from launcher.queue.scheduler.gpus.gpu_state import SchedulerGpus
from launcher.queue.scheduler.local_node import LocalNode
from launcher.queue.scheduler.node import Node
from launcher.queue.scheduler.partition import Partition
from launcher.queue.scheduler.startable_jobs import StartableJobs
from launcher.queue.scheduler.succession import JobClassKey, find_only_job_class
from launcher.queue.store.rows import ReadyJob


class LocalPartition(Partition):
    """This machine for jobs that may run on it.

    Attributes:
        startable: Selects the jobs that may be tried now.
        only_job_class: The only class with waiting jobs if all of them are alike, otherwise None.
    """

    name = LOCAL

    def __init__(self, node: LocalNode, gpus: SchedulerGpus) -> None:
        """Start without decisions.

        Args:
            node: This machine.
            gpus: State of its GPUs.
        """
        self._node, self._gpus = node, gpus
        self.startable = StartableJobs(gpus, node.fork_servers)
        self.only_job_class: JobClassKey | None = None
        self._takes_jobs = False  # whether this machine takes jobs in this turn

    def begin_turn(self, ready: Sequence[ReadyJob], result: CycleResult) -> Mapping[int, Reason]:
        """Begin a decision. Return the jobs that cannot start here now, with reasons.

        Args:
            ready: All jobs that may run here.
            result: Receives the time of the next cycle.
        """
        node, self.only_job_class = self._node, None
        node.gpus_wanted = any(job.lane.resources.may_need_gpu for job in ready)
        refusal = node.why_no_start() if ready else None
        self._takes_jobs = bool(ready) and refusal is None
        if not self._takes_jobs:
            self._gpus.announce_demand(None)
        if refusal is not None:
            result.has_waiting = True
            result.wake_within(node.start_backoff.wait_s(time.monotonic()))
            return {job.id: refusal for job in ready}
        ready, unclear = node.launches.without_unclear(ready)
        ready, postponed = self.startable.without_backoff(ready, result)
        node.ram_wanted = any(job.lane.resources.ram is not None for job in ready)
        if node.gpus_wanted and not self._gpus.has_recent_sample:
            self._gpus.evict(node.poll(result))
        ready, unsampled = self.startable.hold_unsampled_gpu_jobs(ready)
        excluded = unclear | postponed | unsampled
        if ready and not excluded:
            self.only_job_class = find_only_job_class(ready, self._gpus.foreign)
            if self._gpus.has_waiting_peers:
                self.only_job_class = None
        return excluded

    def nodes(self) -> Sequence[Node]:
        """Return this machine unless it takes no jobs in this turn."""
        return [self._node] if self._takes_jobs else []

    def end_turn(self, reasons: Collection[Reason | None], result: CycleResult) -> None:
        """End a decision.

        Args:
            reasons: Why its jobs do not start here, None for each that does.
            result: Receives the time of the next cycle.
        """
        if not self._takes_jobs:
            return
        result.has_waiting = result.has_waiting or any(reasons)
        if any(reason.code is ReasonCode.WORKER_STARTING for reason in reasons if reason):
            result.wake_within(RETRY_S)  # a new supervisor wakes us, a delayed one does not
        others = self._gpus.foreign or self._gpus.has_waiting_peers
        wanted = self._node.gpus_wanted or self._node.ram_wanted
        if self._node.watchdog.is_watching or (result.has_waiting and (wanted or others)):
            result.wake_within(POLL_S)  # room may come without a wake: memory that others give back

    def explain(self, reason: Reason | None) -> Reason:
        """Return why a job does not start here."""
        assert reason is not None, "this machine examines each job"
        return reason

    def explain_alone(self, reason: Reason) -> Reason:
        """Return the reason of a job that may run only here, where the place needs no name."""
        return reason
