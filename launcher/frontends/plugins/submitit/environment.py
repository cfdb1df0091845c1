"""The environment of a process of a submitit job: its variables, and what its signals do."""

import signal
import sys
from typing import Any

from submitit.core import logger
from submitit.core.job_environment import JobEnvironment, SignalHandler
from submitit.core.utils import JobPaths

from launcher.frontends.plugins.submitit.tasks import JOB, REQUEUED, TASK, TASKS


class LauncherJobEnvironment(JobEnvironment):  # type: ignore[misc]  # submitit is optional
    """The environment inside a job of the queue, which `submitit.JobEnvironment()` returns there."""

    _env = {  # noqa: RUF012  # the class attribute that submitit reads
        "job_id": JOB,
        "num_tasks": TASKS,
        "num_nodes": "SUBMITIT_LAUNCHER_NNODES",  # never set, which means 1
        "node": "SUBMITIT_LAUNCHER_NODEID",  # likewise 0
        "global_rank": TASK,
        "local_rank": TASK,
    }

    def _handle_signals(self, paths: JobPaths, submission: Any) -> None:
        """Checkpoint before the time limit and run again; checkpoint and end when the job is asked to end.

        A job that the queue stops runs again later, from its checkpoint.
        """
        handler = SignalHandler(self, paths, submission)
        signal.signal(signal.SIGTERM, handler.checkpoint_and_exit)
        signal.signal(signal.SIGCONT, handler.bypass)
        signal.signal(self._usr_sig(), handler.checkpoint_and_try_requeue)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {self._usr_sig()})  # see `start_task`

    def _requeue(self, countdown: int) -> None:
        """End this process so that the queue retries its job."""
        text = f"Requeued job {self.job_id} ({countdown} remaining timeouts)"
        logger.get_logger().info(text)
        sys.exit(REQUEUED)
