"""A job of submitit that is a job of the queue: its state, its result, its cancellation."""

import contextlib
import os
import time
from collections.abc import Mapping
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from submitit.core.core import InfoWatcher, Job
from submitit.core.utils import UncompletedJobError

from launcher.queue.home.paths import Home, find_home
from launcher.queue.jobs.states import ENDED_STATES, ReasonCode, State, strip_state_prefix
from launcher.system.errors import Error, UsageError

if TYPE_CHECKING:  # processes of jobs import this module, and open no queue
    from launcher.experiments.functions.future import Future
    from launcher.queue.store.rows import JobRow

STATE, REASON = "State", "Reason"  # keys of `get_info`; the first is that of Slurm
UNKNOWN = "UNKNOWN"
REFRESH_S = 0.1  # seconds between two reads of the queue for the states of all jobs
_STATES: Mapping[State, str] = {
    State.QUEUED: "PENDING",
    State.HELD: "PENDING",
    State.RUNNING: "RUNNING",
    State.DONE: "COMPLETED",
    State.FAILED: "FAILED",
    State.CANCELLED: "CANCELLED",
    State.SKIPPED: "CANCELLED",  # as Slurm has it if a dependency is never satisfied
}
_FAILURES: Mapping[ReasonCode, str] = {
    ReasonCode.TIME_LIMIT: "TIMEOUT",
    ReasonCode.OUT_OF_MEMORY: "OUT_OF_MEMORY",
    ReasonCode.STOPPED: "NODE_FAIL",
    ReasonCode.LOST: "NODE_FAIL",
}


def slurm_state(row: "JobRow") -> str:
    """Return the state of a job as Slurm names it, which users of submitit compare with."""
    if row.state is State.FAILED:
        return _FAILURES.get(row.state_reason.code, _STATES[row.state])
    return _STATES[row.state]


class QueueWatcher(InfoWatcher):  # type: ignore[misc]  # submitit is optional
    """Reads the states of all jobs of this process from the queue at once."""

    _home: Home | None = None  # the queue whose states are stored

    def get_info(self, job_id: str, mode: str = "standard") -> dict[str, str]:
        """Return the state of a job and its reason."""
        home = find_home(os.environ)
        if home != self._home:  # the job numbers of another queue mean other jobs
            self.clear()
            self._home = home
        info: dict[str, str] = super().get_info(job_id, mode)
        return info

    def get_state(self, job_id: str, mode: str = "standard") -> str:
        """Return the state of a job, UNKNOWN if the queue does not have it."""
        return str(self.get_info(job_id, mode).get(STATE, UNKNOWN))

    def update(self) -> None:
        """Read the states of the jobs that had not ended."""
        numbers = [int(job) for job in self._registered - self._finished if job.isdecimal()]
        home = find_home(os.environ)
        if numbers and home.exists():
            from launcher.queue.store.client import open_queue_readonly

            self._num_calls += 1
            with open_queue_readonly(home) as (_, store):
                rows = store.read.jobs_by_id(numbers)
            for row in rows:
                info = {STATE: slurm_state(row), REASON: strip_state_prefix(row.reason)}
                self._info_dict[str(row.id)] = info
                if row.state in ENDED_STATES:
                    self._finished.add(str(row.id))
        self._last_status_check = time.time()


class LauncherJob(Job[Any]):  # type: ignore[misc]  # submitit is optional
    """A job of the queue, as submitit's users see it. Its ID is its number in the queue."""

    watcher = QueueWatcher(delay_s=REFRESH_S)
    # seconds for a network file system; the queue knows that the job has ended
    _results_timeout_s = 1

    def done(self, force_check: bool = False) -> bool:
        """Return whether the job has ended. A result file is not a proof, as the job may run again."""
        if self._sub_jobs:
            return all(job.done(force_check) for job in self._sub_jobs)
        if self.watcher.is_done(self.job_id, mode="force" if force_check else "standard"):
            return True
        return self.state == UNKNOWN and bool(self.paths.result_pickle.exists())

    def wait(self) -> None:
        """Wait until the job has ended.

        Raises:
            MachineError: the queue is stopped.
            UsageError: the queue does not have the job.
        """
        try:
            with contextlib.suppress(CancelledError):
                self._find_future().exception()
        except UsageError:
            if not self.done():
                raise
        self.watcher.update()

    def cancel(self, check: bool = True) -> None:
        """Cancel the job, also while it runs.

        Args:
            check: raise an exception if it cannot be cancelled.
        """
        try:
            self._find_future().terminate()
        except (Error, OSError):
            if check:
                raise

    def _get_outcome_and_result(self) -> tuple[str, Any]:
        try:
            outcome: tuple[str, Any] = super()._get_outcome_and_result()
        except UncompletedJobError as error:
            reason = self.get_info("cache").get(REASON)
            why = f"The queue says: {reason}. " if reason else ""
            command = f"launcher show {self.job_id}"
            raise UncompletedJobError(f"{error}\n{why}For all of its attempts: {command}") from None
        return outcome

    def _find_future(self) -> "Future[Any]":
        from launcher.experiments.functions.future import future

        return future(int(self.job_id))
