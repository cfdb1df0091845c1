"""submitit's executor: each submission is a job of the queue, an array is queued at once.

A submission is a pickle in the executor's folder, as submitit writes it. The job runs it in processes of its own, whose
output is in that folder and in the log of the job.
"""

import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from submitit.core.core import PicklingExecutor
from submitit.core.job_environment import JobEnvironment
from submitit.core.utils import DelayedSubmission, JobPaths

from launcher.api import UnknownName, UsageError, format_bytes, submit_many
from launcher.functions.calls import REMEDY
from launcher.functions.options import read_request
from launcher.functions.pickling import dump, name_of
from launcher.job_options.registry import JobRequest, job_options
from launcher.plugins.submitit.job import LauncherJob
from launcher.plugins.submitit.tasks import SubmittedCall, TaskPaths, place_pickle, run_tasks

GENERIC = (
    *("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node"),
    *("tasks_per_node", "stderr_to_stdout"),
)  # the parameters that all clusters of submitit have
SUBMIT_OPTIONS = ("after", "after_any", "hold", "pass_env", "run")  # those of `launcher.api.submit`
OWN = ("setup", "signal_delay_s")  # further ones, as submitit's Slurm has them
SIGNAL_DELAY_S = 90.0  # between the warning and the time limit, as in submitit's Slurm
NO_LIMIT_MIN = 10**9  # what a submission has as its time limit if there is none
_JOBS = ("after", "after_any")


class Options(NamedTuple):
    """The parameters of an executor, read."""

    submit: Mapping[str, Any]  # options of `launcher.api.submit_many`
    request: JobRequest
    tasks: int
    setup: tuple[str, ...]
    joins_stderr: bool

    @property
    def timeout_min(self) -> float:
        """The time limit in minutes."""
        limit_s = self.request.terms.time_limit_s
        return NO_LIMIT_MIN if limit_s is None else limit_s / 60


class LauncherExecutor(PicklingExecutor):  # type: ignore[misc]  # submitit is optional
    """The queue as a cluster of submitit.

    Args:
        folder: of pickles and logs. %j in it is the number of the job.
        max_num_timeout: how often a function with a checkpoint runs again.
        max_pickle_size_gb: the most GB that a submission may have.
        python: the interpreter of the jobs; that of this process if it is not given.
    """

    job_class = LauncherJob

    def __init__(
        self,
        folder: str | Path,
        max_num_timeout: int = 3,
        max_pickle_size_gb: float = 1.0,
        python: str | None = None,
    ) -> None:
        super().__init__(folder, max_num_timeout, max_pickle_size_gb)
        self.python = python or sys.executable

    @classmethod
    def affinity(cls) -> int:
        """Return 0: submitit takes this cluster only if it is named."""
        return 0

    @classmethod
    def _valid_parameters(cls) -> set[str]:
        return {*job_options(), *SUBMIT_OPTIONS, *OWN}

    def _internal_update_parameters(self, **kwargs: Any) -> None:
        known = (*GENERIC, *self._valid_parameters())
        for name in kwargs:
            if name not in known:
                raise UnknownName("parameter", name, known)
        parameters = {**self.parameters, **kwargs}
        read_options(parameters)  # its mistakes are reported here
        self.parameters.update(kwargs)

    def _num_tasks(self) -> int:
        return read_options(self.parameters).tasks

    def _internal_process_submissions(
        self, delayed_submissions: Sequence[DelayedSubmission]
    ) -> list[LauncherJob]:
        """Queue submissions, all of them or none."""
        options = read_options(self.parameters)
        pickles = self._write_pickles(delayed_submissions, options)
        jobs: dict[Path, LauncherJob] = {}
        kinds = {_has_checkpoint(delayed) for delayed in delayed_submissions}
        try:
            for runs_again in sorted(kinds):
                chosen = [
                    path
                    for path, delayed in zip(pickles, delayed_submissions, strict=True)
                    if _has_checkpoint(delayed) is runs_again
                ]
                name = self.parameters.get("name") or name_of(delayed_submissions[0].function)
                retried = self._retries(options) if runs_again else {}
                calls = [self._call(path, options) for path in chosen]
                futures = submit_many(
                    run_tasks, calls, **{"name": name, **retried, **options.submit}
                )
                tasks = range(options.tasks)
                jobs |= {
                    path: LauncherJob(self.folder, str(future.job), tasks)
                    for path, future in zip(chosen, futures, strict=True)
                }
        finally:
            for path in pickles:
                if path not in jobs:
                    path.unlink(missing_ok=True)
        for path, job in jobs.items():
            place_pickle(path, job.paths.submitted_pickle)
        return [jobs[path] for path in pickles]

    def _retries(self, options: Options) -> Mapping[str, Any]:
        """Return the options of a job that runs again after a checkpoint."""
        retries = options.request.terms.retries
        if retries:
            return {"retries": retries + self.max_num_timeout}
        return {"retries": self.max_num_timeout, "backoff": 0}

    def _call(self, pickle: Path, options: Options) -> SubmittedCall:
        terms = options.request.terms
        return SubmittedCall(
            folder=str(self.folder),
            pickle=pickle,
            paths=TaskPaths(*(getattr(JobPaths(self.folder), name) for name in TaskPaths._fields)),
            tasks=options.tasks,
            python=self.python,
            setup=options.setup,
            joins_stderr=options.joins_stderr,
            warn_signal=terms.warn_signal if terms.warn_s else f"SIG{JobEnvironment.USR_SIG}",
            runs_failed_again=bool(terms.retries),
        )

    def _write_pickles(
        self, submissions: Sequence[DelayedSubmission], options: Options
    ) -> list[Path]:
        """Write submissions into files; return them.

        Raises:
            CannotPickle: a function or an argument cannot be pickled; it is named.
            UsageError: they are larger than `max_pickle_size_gb`.
        """
        folder = JobPaths.get_first_id_independent_folder(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{uuid.uuid4().hex}.pkl" for _ in submissions]
        try:
            for delayed, path in zip(submissions, paths, strict=True):
                delayed.set_timeout(options.timeout_min, self.max_num_timeout)
                _write_pickle(delayed, path)
                self._check_size(paths[0], len(paths))
        except BaseException:
            for path in paths:
                path.unlink(missing_ok=True)
            raise
        return paths

    def _check_size(self, pickle: Path, number: int) -> None:
        """Refuse pickles that are too large together; the first stands for all.

        Raises:
            UsageError: they are larger than `max_pickle_size_gb`.
        """
        size = pickle.stat().st_size * number
        if size > self.max_pickle_size_gb * (1 << 30):
            raise UsageError(
                f"the pickles of the submission have about {format_bytes(size)}, more than "
                f"max_pickle_size_gb={self.max_pickle_size_gb:g}. Pass paths of files instead, or raise "
                "executor.max_pickle_size_gb."
            )

    # submitit's own way to submit a command, which is not used

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        raise NotImplementedError

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        raise NotImplementedError

    @staticmethod
    def _get_job_id_from_submission_command(string: bytes | str) -> str:
        raise NotImplementedError


def read_options(parameters: Mapping[str, Any]) -> Options:
    """Return the options of a job for parameters of submitit. Those of `launcher_` have priority.

    Raises:
        UsageError: a value is wrong, or parameters contradict each other.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    if given.get("nodes", 1) != 1:
        raise UsageError(f"nodes={given['nodes']!r}: a job of the queue has one node. Use nodes=1.")
    tasks = _positive("tasks_per_node", given.get("tasks_per_node", 1))
    options: dict[str, Any] = {}
    if "cpus_per_task" in given:
        options["cpus"] = _positive("cpus_per_task", given["cpus_per_task"]) * tasks
    if "mem_gb" in given:
        options["ram"] = int(given["mem_gb"] * (1 << 30))
    if given.get("gpus_per_node"):
        options["gpus"] = given["gpus_per_node"]
    if "timeout_min" in given:
        options["time_limit"] = float(given["timeout_min"]) * 60
    known = job_options()
    options |= {name: value for name, value in given.items() if name in known}
    if limit_s := _limit_s(options):
        delay_s = given.get("signal_delay_s", min(SIGNAL_DELAY_S, limit_s / 2))
        warning = {"warn": float(delay_s), "signal": f"SIG{JobEnvironment.USR_SIG}"}
        options = {**warning, **options}
    request = read_request(options)
    submit = {name: given[name] for name in SUBMIT_OPTIONS if name in given}
    for name in _JOBS:
        if name in submit:
            submit[name] = _numbers(submit[name])
    setup = given.get("setup", ())
    if isinstance(setup, str):
        raise UsageError(f"setup: expected a list of commands, got {setup!r:.80}")
    # submitit's users expect that the jobs of an array are independent
    submit = {"max_failures": "none", **options, **submit}
    return Options(submit, request, tasks, tuple(setup), bool(given.get("stderr_to_stdout")))


def _limit_s(options: Mapping[str, Any]) -> float | None:
    """Return the time limit among the options of a job, in seconds."""
    limits = {name: value for name, value in options.items() if name == "time_limit"}
    return read_request(limits).terms.time_limit_s


def _positive(name: str, value: Any) -> int:
    if isinstance(value, int) and value > 0:
        return value
    raise UsageError(f"{name}: expected a whole number of at least 1, got {value!r:.80}")


def _numbers(jobs: Any) -> list[Any]:
    """Return jobs with those of submitit as numbers."""
    listed = jobs if isinstance(jobs, list | tuple) else [jobs]
    return [int(job.job_id) if isinstance(job, LauncherJob) else job for job in listed]


def _has_checkpoint(delayed: DelayedSubmission) -> bool:
    names = ("checkpoint", "__submitit_checkpoint__")
    return any(hasattr(delayed.function, name) for name in names)


def _write_pickle(delayed: DelayedSubmission, path: Path) -> None:
    parts = [
        ("function", delayed.function),
        *((f"argument {n}", value) for n, value in enumerate(delayed.args, 1)),
        *delayed.kwargs.items(),
    ]
    with path.open("wb") as file:
        dump(delayed, file, f"a call of {name_of(delayed.function)}", REMEDY, parts)
