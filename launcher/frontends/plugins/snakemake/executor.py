"""The executor of Snakemake: each job of a workflow is a program in the queue.

Snakemake imports this module at every start, so the queue is imported when a workflow uses it.
"""

import asyncio
import concurrent.futures
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

if TYPE_CHECKING:
    from launcher.experiments.functions.future import Future, ProgramResult

# seconds between two looks for jobs that were submitted meanwhile; an end is noticed at once
LOOK_S = 0.5
SHELL = ("/bin/sh", "-c")  # Snakemake gives a command line
NOTE = 200  # characters of a note

common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    pass_envvar_declarations_to_cmd=False,  # the command would store the values of the variables
)


@dataclass
class ExecutorSettings(ExecutorSettingsBase):  # type: ignore[misc]  # base class of an extra
    """The options `--launcher-*`."""

    run: str = field(
        default="",
        metadata={"help": "Run of the jobs in the queue. Default: the run of all programs."},
    )


class Executor(RemoteExecutor):  # type: ignore[misc]  # base class of an extra
    """Queues the jobs of a workflow, and reports how they ended."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        # first: the thread that reports the jobs begins at once
        self._token = secrets.token_hex(3)  # several workflows of one folder may run at once
        self._warned: set[str] = set()
        self._submitted = False
        self._open: dict[int, Future[ProgramResult]] = {}
        super().__init__(workflow, logger)

    def run_job(self, job: JobExecutorInterface) -> None:
        """Queue a job.

        Raises:
            WorkflowError: a resource has a wrong value, or the queue cannot be used.
        """
        from launcher.experiments.functions.program_api import submit_program
        from launcher.frontends.plugins.snakemake.requests import job_request, mistyped_resources
        from launcher.system.errors import Error

        resources = dict(job.resources.items())
        for name, likely in mistyped_resources(resources):
            if name not in self._warned:
                self._warned.add(name)
                self.logger.warning(
                    f"Resource {name!r} has no effect in the queue. Did you mean {likely!r}?"  # noqa: G004  # its formatter knows no arguments
                )
        options: dict[str, Any] = {"note": _note(job), **job_request(job.threads, resources)}
        if run := getattr(self.executor_settings, "run", ""):
            options["run"] = run
        self._submitted = True
        try:
            future = submit_program(
                [*SHELL, self.format_job_exec(job)],
                name=self._name(job),
                pass_env=[*self.envvars()],
                **options,
            )
        except Error as error:
            raise WorkflowError(f"{job.name}: {error}") from error
        self._open[future.job] = future
        self.logger.info(f"Submitted job {job.jobid} as job {future.job} of the queue.")  # noqa: G004  # likewise
        submitted = SubmittedJobInfo(job, external_jobid=str(future.job), aux={"future": future})
        self.report_job_submission(submitted)

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncIterator[SubmittedJobInfo]:
        """Report the jobs that have ended, and yield the others."""
        for submitted in active_jobs:
            future = submitted.aux["future"]
            if not future.done():
                yield submitted
                continue
            self._open.pop(future.job, None)
            if (why := _failure(future)) is None:
                self.report_job_success(submitted)
            else:
                log = future.log_file()
                logs = [] if log is None else [str(log)]
                self.report_job_error(submitted, msg=f"{why}\n", aux_logs=logs)

    async def sleep(self) -> None:
        """Wait until a job has ended, but not long, as jobs may have been submitted."""
        if left := [*self._open.values()]:
            await asyncio.to_thread(
                concurrent.futures.wait, left, LOOK_S, concurrent.futures.FIRST_COMPLETED
            )
        else:
            await asyncio.sleep(LOOK_S)

    def cancel_jobs(self, active_jobs: Sequence[SubmittedJobInfo]) -> None:
        """Cancel all jobs of the workflow, also one whose submission was interrupted."""
        from launcher.queue.home.daemon_control import wake
        from launcher.queue.store.client import open_queue

        del active_jobs  # without those that are being looked at
        if not self._submitted:
            return
        with open_queue() as (home, store):
            rows = store.read.open_jobs()
            own = [row.id for row in rows if f"-{self._token}-" in row.name]
            store.job_control.cancel(own, time.time())
            wake(home)

    def _name(self, job: JobExecutorInterface) -> str:
        """Return a name that no other job of the queue has."""
        attempt = f"-{job.attempt}" if job.attempt > 1 else ""
        return f"{job.name}-{self._token}-{job.jobid}{attempt}"


def _note(job: JobExecutorInterface) -> str:
    """Return the rule and the wildcards of a job."""
    wildcards = {} if job.is_group() else job.wildcards_dict
    words = [f"{name}={value}" for name, value in wildcards.items()]
    return " ".join([job.name, *words])[:NOTE]


def _failure(future: "Future[ProgramResult]") -> str | None:
    """Return why a job that has ended failed; None if it is done."""
    try:
        error = future.exception()
    except concurrent.futures.CancelledError as cancelled:
        error = cancelled
    return None if error is None else str(error)
