"""What is expected of a plan: what starts first, time, disk, what it asks of backends; why it would be refused.

For other programs a plan is written as JSON, or as command lines for a shell.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from math import ceil
from typing import NamedTuple

from launcher.backends.eligibility import never_fits, slots
from launcher.backends.protocol import Estimate
from launcher.backends.settings import HERE, Backends, BackendSettings
from launcher.errors import Problem, counted
from launcher.gpu.snapshot import GpuSnapshot
from launcher.kind_interface import Kind, Role
from launcher.kinds import program_words
from launcher.planning.estimates import History, JobEstimate, forecast
from launcher.planning.first_wave import FirstWave, MachineState, first_wave, ready_jobs
from launcher.planning.plan import Plan, PlannedJob, Savings
from launcher.planning.queue_comparison import Action, ComparedJob, open_jobs
from launcher.system.files import Json
from launcher.system.git import WorkTree
from launcher.system.text import shell_line
from launcher.units import median

NO_BACKENDS = Backends()


class Answer(NamedTuple):
    """What an engine says of a pilot that is not submitted."""

    estimate: Estimate | None = None
    trouble: str = ""  # why it says nothing


class BackendPreview(NamedTuple):
    """What a plan asks of one backend, or of this machine."""

    name: str
    settings: BackendSettings | None  # None: this machine, without pilots
    kinds: Mapping[str, int]  # kind → jobs that go there first
    otherwise: tuple[str, ...]  # where these jobs may run, too
    only_there: int  # of these jobs; they may run nowhere else
    first: int  # pilots that are submitted for jobs that wait for nothing
    most: int  # pilots that all these jobs keep busy, were they ready together
    answer: Answer

    @property
    def jobs(self) -> int:
        """How many jobs go there."""
        return sum(self.kinds.values())

    def record(self) -> dict[str, Json]:
        """Return it for JSON."""
        settings, estimate = self.settings, self.answer.estimate
        at = None if estimate is None else estimate.starts_at
        return {
            "name": self.name,
            "kind": HERE if settings is None else settings.kind,
            "jobs": dict(self.kinds),
            "otherwise": list(self.otherwise),
            "only_there": self.only_there,
            "pilots_first": self.first,
            "pilots_most": self.most,
            "pilot": None
            if settings is None
            else {
                "cpus": settings.cpus,
                "gpus": settings.gpus,
                "gpu_type": settings.gpu_type or None,
                "ram": settings.memory,
                "seconds": settings.time_s,
            },
            "possible": None if estimate is None else estimate.possible,
            "starts_at": None if at is None else _iso(at),
            "why": (estimate.why if estimate is not None else self.answer.trouble) or None,
        }


def preview_backends(
    compared_jobs: Sequence[ComparedJob],
    backends: Backends,
    ask: Callable[[Sequence[BackendSettings]], Mapping[str, Answer]],
) -> tuple[BackendPreview, ...]:
    """Return what a plan asks of each backend; nothing where all of it runs here.

    Args:
        compared_jobs: its jobs beside what the queue knows of them.
        backends: the configured ones.
        ask: asks engines what they say of a pilot, each by its settings.
    """
    jobs = [compared.job for compared in open_jobs(compared_jobs)]
    ready = {job.name for job in ready_jobs(compared_jobs)}
    by_place: dict[str, list[PlannedJob]] = {}
    for job in jobs:
        if place := _first_place(job, backends):
            by_place.setdefault(place, []).append(job)
    used = [settings for name, settings in backends.by_name.items() if name in by_place]
    if not used:
        return ()
    answers = ask(used)
    order = dict.fromkeys(name for job in jobs for name in job.terms.on or (HERE,))
    return tuple(
        _preview(name, by_place[name], ready, backends, answers.get(name, Answer()))
        for name in order
        if name in by_place
    )


def _preview(
    name: str,
    jobs: Sequence[PlannedJob],
    ready: set[str],
    backends: Backends,
    answer: Answer,
) -> BackendPreview:
    settings = backends.by_name.get(name)
    places = dict.fromkeys(place for job in jobs for place in job.terms.on)
    first = (job for job in jobs if job.name in ready)
    return BackendPreview(
        name=name,
        settings=settings,
        kinds=Counter(job.kind for job in jobs),
        otherwise=tuple(place for place in places if place != name),
        only_there=sum(not {*job.terms.on} - {name} for job in jobs),
        first=_pilots(first, settings),
        most=_pilots(jobs, settings),
        answer=answer,
    )


def _first_place(job: PlannedJob, backends: Backends) -> str:
    """Return the first of a job's backends that can hold it, '' where none can."""
    for name in job.terms.on or (HERE,):
        settings = backends.by_name.get(name)
        if settings is None:
            return name
        if not never_fits(job.resources, job.terms.time_limit_s, settings):
            return name
    return ""


def _pilots(jobs: Iterable[PlannedJob], settings: BackendSettings | None) -> int:
    """Return how many pilots jobs keep busy that are ready together; this machine has none."""
    if settings is None:
        return 0
    needed = sum(1 / slots(job.resources, settings) for job in jobs)
    return min(settings.pilots, ceil(needed - 1e-9))


def _iso(at: float) -> str | None:
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # whatever an engine estimates
        return None


class KindSum(NamedTuple):
    """What the jobs of a kind that have to run are expected to take together."""

    jobs: int
    known: int  # of them, how many have a time
    seconds: float  # of those, added up
    spread: float | None  # of a single job
    shortest: float  # seconds of a single job
    longest: float
    runs: int  # earlier jobs on which this rests


class Preview(NamedTuple):
    """What is expected of a plan."""

    machine_state: MachineState
    estimates: tuple[JobEstimate, ...]  # of the plan's jobs, in their order
    wave: FirstWave
    kinds: Mapping[str, KindSum]  # of what has to run
    chain: float | None  # seconds when all that can runs side by side; None: not all is known
    disk: int | None  # bytes of those jobs whose results have a known size; None: of none
    disk_unknown: int  # jobs of which it is unknown how much they write
    backends: tuple[BackendPreview, ...] = ()  # where jobs go; nothing where all run here

    def record(self) -> dict[str, Json]:
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
            "first_wave": self.wave.record(),
            "backends": [each.record() for each in self.backends],
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
                "chain_seconds": self.chain,
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
    history: History,
    machine_state: MachineState,
    backends: Backends = NO_BACKENDS,
    elsewhere: tuple[BackendPreview, ...] = (),
) -> Preview:
    """Return what is expected of a plan.

    Args:
        compared_jobs: its jobs beside what the queue knows of them; needs come before what needs them.
        history: what was done before.
        machine_state: the machine and its queue.
        backends: the configured ones.
        elsewhere: what the plan asks of them.
    """
    estimates = tuple(forecast(compared.job, history) for compared in compared_jobs)
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
        backends=elsewhere,
        kinds=_kind_sums(open_ones),
        chain=_longest_chain(open_ones),
        disk=sum(sizes) if (sizes := [disk for disk in disks if disk is not None]) else None,
        disk_unknown=disks.count(None),
    )


def _kind_sums(jobs: Sequence[tuple[ComparedJob, JobEstimate]]) -> dict[str, KindSum]:
    by_kind: dict[str, list[JobEstimate]] = {}
    for compared, estimate in jobs:
        by_kind.setdefault(compared.job.kind, []).append(estimate)
    return {kind: _kind_sum(estimates) for kind, estimates in by_kind.items()}


def _kind_sum(estimates: Sequence[JobEstimate]) -> KindSum:
    estimated = [estimate for estimate in estimates if estimate.seconds is not None]
    times = [estimate.seconds or 0.0 for estimate in estimated]
    spreads = [estimate.spread for estimate in estimated if estimate.spread is not None]
    # jobs with the same estimate rest on the same runs
    return KindSum(
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
    hopeless: Mapping[str, int],
    unset: Iterable[str],
    uninstalled: Iterable[str] = (),
) -> list[str]:
    """Return in a few words each why `run` would refuse a plan; none: it would queue it.

    Args:
        plan: the plan.
        hopeless: why jobs of it can never start here, and how many those are.
        unset: variables that its jobs ask for, and that the shell does not hold.
        uninstalled: in a sentence each, packages that its jobs import and that are not there.
    """
    reasons = ["inputs are missing"] if plan.missing else []
    if hopeless:
        reasons.append(f"{counted(sum(hopeless.values()), 'job')} can never start here")
    reasons += (f"{name} of pass_env is not set in this shell" for name in unset)
    return [*reasons, *uninstalled]


def plan_json(
    plan: Plan,
    compared_jobs: Sequence[ComparedJob],
    preview: Preview,
    tree: WorkTree | None = None,
    *,
    refused: Sequence[str] = (),
    savings: Sequence[Savings] = (),
) -> dict[str, Json]:
    """Return the whole plan as JSON (schema 1).

    Args:
        plan: the plan.
        compared_jobs: its jobs beside what the queue knows of them.
        preview: what is expected of them.
        tree: the working tree, where there is one.
        refused: the reasons for which `run` would refuse it.
        savings: by jobs that do shared work.
    """
    return {
        "schema": 1,
        "file": plan.file,
        "run": plan.name,
        "about": plan.about,
        "share": plan.share,
        "notify": plan.notify.record(),
        "run_folder": str(plan.run_folder),
        "git": None if tree is None else tree._asdict(),
        "jobs": [
            _job_record(compared, estimate)
            for compared, estimate in zip(compared_jobs, preview.estimates, strict=True)
        ],
        "refused": bool(refused),
        "refusals": list(refused),
        **preview.record(),
        "shared_work": [each.record() for each in savings],
        "warnings": [_problem_record(warning) for warning in plan.warnings],
    }


def plan_commands(compared_jobs: Iterable[ComparedJob]) -> list[str]:
    """Return a command line for each job that would run, in their order, a line each.

    Work that several jobs share is done by the first of them.
    """
    return [
        shell_line(_words(compared.job))
        for compared in compared_jobs
        if compared.action is Action.RUN and compared.job.role is not Role.SHARED
    ]


def _words(job: PlannedJob) -> Sequence[str]:
    return job.argv if job.entry else program_words(job.settings, job.argv)


_TOLD_FIRST = ("name", "kind", "role", "model", "base", "data", "images")
# as they were called in a job's record from the beginning
_OF_RESOURCES = ("cpus", "min_vram", "device", "exclusive", "ram", "gpu_ids")
_OF_TERMS = (
    "rerun", "retries", "time_limit_s", "group", "not_before", "backoff_s", "warn_s", "grace_s",
)  # fmt: skip


def _job_record(compared: ComparedJob, estimate: JobEstimate) -> dict[str, Json]:
    job, resources, terms = compared.job, compared.job.resources, compared.job.terms
    settings: Mapping[str, Json] = job.settings
    return {
        **{name: getattr(job, name) for name in _TOLD_FIRST},
        "words": job.words.record(),
        "settings": dict(settings),
        "needs": list(job.needs),
        "after_any": list(compared.after_any),
        "state": compared.state,
        "reason": compared.reason,
        "changes": list(compared.changes),
        "other_code": compared.other_code,
        "other_options": list(compared.options),
        "estimate": estimate.record(),
        "argv": list(job.argv),
        "inputs": [str(path) for path in job.inputs],
        "outputs": [str(path) for path in job.outputs],
        "resources": {
            **{name: getattr(resources, name) for name in _OF_RESOURCES},
            "vram": resources.min_vram,  # called min_vram in earlier versions
            "gpus": job.gpus,
            "priority": job.priority,
            **{name: getattr(terms, name) for name in _OF_TERMS},
            "signal": terms.warn_signal,
            "on": list(terms.on),
            "tensorboard": terms.tensorboard or None,
        },
        "hash": job.hash,
    }


def _problem_record(problem: Problem) -> dict[str, Json]:
    place = problem.place
    return {
        "code": problem.code,
        "severity": problem.severity,
        "message": problem.message,
        "file": None if place is None else place.file,
        "line": None if place is None else place.line,
        "column": None if place is None else place.column,
        "hint": problem.hint,
        "notes": list(problem.notes),
    }
