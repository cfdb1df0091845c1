"""Jobs that may be tried now; others wait for their turn or for the next sample of the GPUs."""

import time
from collections.abc import Sequence

from launcher.queue.jobs.states import Reason, ReasonCode
from launcher.queue.scheduler.cycle import CycleResult
from launcher.queue.scheduler.gpus.gpu_state import SchedulerGpus
from launcher.queue.store.rows import ReadyJob
from launcher.queue.workers.attempt_handles import POLL_S
from launcher.queue.workers.fork_server_pool import ForkServerPool
from launcher.queue.workers.start_pauses import BackoffSet

NO_ROOM = Reason(
    code=ReasonCode.CANNOT_START,
    text="waiting for room for its process: this machine had none, other jobs are tried first",
)


class StartableJobs:
    """Knows which jobs the machine could not start lately."""

    def __init__(self, gpus: SchedulerGpus, fork_servers: ForkServerPool) -> None:
        """Start without jobs.

        Args:
            gpus: State of the GPUs with the time of its reading.
            fork_servers: State of the environments that did not fit on the machine.
        """
        self._gpus, self._fork_servers = gpus, fork_servers
        self._backoffs = BackoffSet[int]()  # others are tried first

    def postpone(self, job: int) -> None:
        """Try other jobs before one that the machine could not start."""
        self._backoffs.add(job, time.monotonic())

    def without_backoff(
        self, ready: Sequence[ReadyJob], result: CycleResult
    ) -> tuple[list[ReadyJob], dict[int, Reason]]:
        """Return what may be tried now, and the other jobs with their reasons."""
        now, free, reasons = time.monotonic(), list[ReadyJob](), dict[int, Reason]()
        for job in ready:
            if short := self._fork_servers.why_short_of_supervisors(job.lane.environment):
                text = f"waiting for a worker: {short}"
                reasons[job.id] = Reason(code=ReasonCode.CANNOT_START, text=text)
                result.has_waiting = True
                result.wake_within(POLL_S)
                continue
            wait_s = max(
                self._fork_servers.excluded_s(job.lane.environment),
                self._backoffs.wait_s(job.id, now),
            )
            if wait_s > 0:
                reasons[job.id] = NO_ROOM
                result.has_waiting = True
                result.wake_within(wait_s)
            else:
                free.append(job)
        return free, reasons

    def hold_unsampled_gpu_jobs(
        self, ready: list[ReadyJob]
    ) -> tuple[list[ReadyJob], dict[int, Reason]]:
        """Return what can be decided now, and why jobs wait that need a GPU while none was seen."""
        if self._gpus.has_recent_sample:
            return ready, {}
        reason = Reason(code=ReasonCode.NO_GPU, text=self._gpus.no_sample_reason)
        unseen = {job.id: reason for job in ready if job.lane.resources.may_need_gpu}
        return [job for job in ready if not job.lane.resources.may_need_gpu], unseen
