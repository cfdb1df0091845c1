"""The parameters of an executor, as options of a job."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from submitit.core.job_environment import JobEnvironment

from launcher.experiments.functions.options import read_request
from launcher.frontends.plugins.submitit.job import LauncherJob
from launcher.queue.job_options.registry import JobRequest, job_options
from launcher.system.errors import UsageError

GENERIC = (
    *("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node"),
    *("tasks_per_node", "stderr_to_stdout"),
)  # the parameters that all clusters of submitit have
SUBMIT_OPTIONS = ("after", "after_any", "hold", "pass_env", "run")  # those of `launcher.api.submit`
OWN = ("setup", "signal_delay_s")  # further ones, as submitit's Slurm has them
SIGNAL_DELAY_S = 90.0  # seconds between the warning and the time limit, as in submitit's Slurm
NO_LIMIT_MIN = 10**9  # time limit of a submission that has none
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


def parameter_names() -> set[str]:
    """Return the parameters that only this cluster has, without their prefix."""
    return {*job_options(), *SUBMIT_OPTIONS, *OWN}


def read_options(parameters: Mapping[str, Any]) -> Options:
    """Return the options of a job for parameters of submitit. Those with the prefix of the cluster have priority.

    Raises:
        UsageError: a value is wrong, or parameters contradict each other.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    if given.get("nodes", 1) != 1:
        raise UsageError(f"nodes={given['nodes']!r}: a job of the queue has one node. Use nodes=1.")
    tasks = _check_positive("tasks_per_node", given.get("tasks_per_node", 1))
    options: dict[str, Any] = {}
    if "cpus_per_task" in given:
        options["cpus"] = _check_positive("cpus_per_task", given["cpus_per_task"]) * tasks
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
    if "name" in given:
        submit["name"] = given["name"]
    return Options(submit, request, tasks, tuple(setup), bool(given.get("stderr_to_stdout")))


def _limit_s(options: Mapping[str, Any]) -> float | None:
    """Return the time limit among the options of a job, in seconds."""
    limits = {name: value for name, value in options.items() if name == "time_limit"}
    return read_request(limits).terms.time_limit_s


def _check_positive(name: str, value: Any) -> int:
    if isinstance(value, int) and value > 0:
        return value
    raise UsageError(f"{name}: expected a whole number of at least 1, got {value!r:.80}")


def _numbers(jobs: Any) -> list[Any]:
    """Return jobs with those of submitit as numbers."""
    listed = jobs if isinstance(jobs, list | tuple) else [jobs]
    return [int(job.job_id) if isinstance(job, LauncherJob) else job for job in listed]
