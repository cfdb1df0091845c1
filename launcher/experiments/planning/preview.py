"""The preview of a plan: the jobs that start first, time, disk, and reasons to refuse it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from launcher.experiments.kind_interface import Kind
from launcher.experiments.planning.backend_preview import BackendPreview
from launcher.experiments.planning.comparison import Action, ComparedJob, open_jobs
from launcher.experiments.planning.estimates import JobEstimate, RuntimeHistory, estimate_job
from launcher.experiments.planning.first_wave import FirstWave, MachineState, first_wave
from launcher.experiments.planning.plan import Plan
from launcher.queue.backends.settings import Backends
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.system.errors import pluralize
from launcher.system.files import Json
from launcher.system.units import median

NO_BACKENDS = Backends()


class KindEstimate(NamedTuple):
    """The expected duration of all jobs of a kind that have to run."""

    jobs: int
    known: int  # number of these jobs that have a time
    seconds: float  # sum of the known times
    spread: float | None  # spread of the time of a single job
    shortest: float  # seconds of a single job
    longest: float
    runs: int  # earlier jobs on which this rests


class Preview(NamedTuple):
    """The expected starts, durations, disk usage and backends of a plan."""

    machine_state: MachineState
    estimates: tuple[JobEstimate, ...]  # estimates of the plan's jobs, in their order
    wave: FirstWave
    kinds: Mapping[str, KindEstimate]  # kind → estimate of its jobs that have to run
    # seconds when all that can runs side by side; None: not all is known
    longest_chain_s: float | None
    disk: int | None  # bytes of those jobs whose results have a known size; None: of none
    disk_unknown: int  # jobs of which it is unknown how much they write
    backends: tuple[BackendPreview, ...] = ()  # backends to which jobs go; empty if all run here

    def to_json(self) -> dict[str, Json]:
        """Return what holds for the plan as a whole as JSON."""
        machine = self.machine_state.machine
        return {
            "machine": {
                "cpus": machine.cpus,
                "cpus_free": machine.cpus - sum(job.cpus for job in self.machine_state.running),
                "ram_bytes": machine.ram,
                "ram_free_bytes": machine.ram_free,
                "gpus": [_gpu_record(gpu) for gpu in machine.gpus],
            },
            "first_wave": self.wave.to_json(),
            "backends": [each.to_json() for each in self.backends],
            "time": {
                "kinds": {
                    kind: {
                        "jobs": kind_sum.jobs,
                        "known": kind_sum.known,
                        "seconds": kind_sum.seconds if kind_sum.known else None,
                        "runs": kind_sum.runs,
                    }
                    for kind, kind_sum in self.kinds.items()
                },
                "chain_seconds": self.longest_chain_s,
            },
            "disk": {
                "bytes": self.disk,
                "unknown_jobs": self.disk_unknown,
                "free_bytes": self.machine_state.disk_free,
            },
        }


def _gpu_record(gpu: GpuSnapshot) -> dict[str, Json]:
    return {
        "index": gpu.index,
        "label": gpu.label,
        "name": gpu.name,
        "uuid": gpu.uuid,
        "total_bytes": gpu.total,
        "used_bytes": gpu.used,
        "fault": gpu.fault or None,
    }


def preview_plan(
    compared_jobs: Sequence[ComparedJob],
    history: RuntimeHistory,
    machine_state: MachineState,
    backends: Backends = NO_BACKENDS,
    backend_previews: tuple[BackendPreview, ...] = (),
) -> Preview:
    """Return the preview of a plan.

    Args:
        compared_jobs: its jobs, compared with the queue; dependencies come before their dependents.
        history: what was done before.
        machine_state: the machine and its queue.
        backends: the configured ones.
        backend_previews: the requests of the plan to them.
    """
    estimates = tuple(estimate_job(compared.job, history) for compared in compared_jobs)
    open_ones = [
        (compared, estimate)
        for compared, estimate in zip(compared_jobs, estimates, strict=True)
        if compared.action is not Action.CACHED
    ]
    disks = [estimate.disk for _, estimate in open_ones]
    return Preview(
        machine_state=machine_state,
        estimates=estimates,
        wave=first_wave(compared_jobs, machine_state, backends),
        backends=backend_previews,
        kinds=_kind_sums(open_ones),
        longest_chain_s=_longest_chain(open_ones),
        disk=sum(sizes) if (sizes := [disk for disk in disks if disk is not None]) else None,
        disk_unknown=disks.count(None),
    )


def _kind_sums(jobs: Sequence[tuple[ComparedJob, JobEstimate]]) -> dict[str, KindEstimate]:
    by_kind: dict[str, list[JobEstimate]] = {}
    for compared, estimate in jobs:
        by_kind.setdefault(compared.job.kind, []).append(estimate)
    return {kind: _kind_sum(estimates) for kind, estimates in by_kind.items()}


def _kind_sum(estimates: Sequence[JobEstimate]) -> KindEstimate:
    estimated = [estimate for estimate in estimates if estimate.seconds is not None]
    times = [estimate.seconds or 0.0 for estimate in estimated]
    spreads = [estimate.spread for estimate in estimated if estimate.spread is not None]
    # jobs with the same estimate rest on the same runs
    return KindEstimate(
        jobs=len(estimates),
        known=len(estimated),
        seconds=sum(times),
        spread=median(spreads) if spreads else None,
        shortest=min(times, default=0.0),
        longest=max(times, default=0.0),
        runs=sum(
            {
                (estimate.seconds, estimate.spread, estimate.disk): estimate.runs
                for estimate in estimated
            }.values()
        ),
    )


def _longest_chain(jobs: Sequence[tuple[ComparedJob, JobEstimate]]) -> float | None:
    """Return how long the plan takes at least, however many jobs run side by side."""
    ends: dict[str, float] = {}
    for compared, estimate in jobs:
        if estimate.seconds is None:
            return None
        needs = (*compared.job.needs, *compared.after_any)
        before = max((ends.get(need, 0.0) for need in needs), default=0.0)
        ends[compared.job.name] = before + estimate.seconds
    return max(ends.values(), default=0.0)


def kinds_to_run(plan: Plan, compared_jobs: Iterable[ComparedJob]) -> list[Kind]:
    """Return the kinds of the jobs that have to run, each once."""
    names = dict.fromkeys(compared.job.kind for compared in open_jobs(compared_jobs))
    return [plan.kinds[name] for name in names]


def refusals(
    plan: Plan,
    unsatisfiable: Mapping[str, int],
    unset_variables: Iterable[str],
    uninstalled_kinds: Iterable[str] = (),
) -> list[str]:
    """Return the reasons, in a few words each, why `run` would refuse a plan. Empty if it would queue it.

    Args:
        plan: the plan.
        unsatisfiable: why jobs of it can never start here, and how many those are.
        unset_variables: variables that its jobs ask for, and that the shell does not hold.
        uninstalled_kinds: in a sentence each, packages that its jobs import and that are not there.
    """
    reasons = ["inputs are missing"] if plan.missing else []
    if unsatisfiable:
        reasons.append(f"{pluralize(sum(unsatisfiable.values()), 'job')} can never start here")
    reasons += (f"{name} of pass_env is not set in this shell" for name in unset_variables)
    return [*reasons, *uninstalled_kinds]
