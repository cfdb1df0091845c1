"""The requests of a plan to each backend, and the estimates of its engine."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from math import ceil
from typing import NamedTuple

from launcher.experiments.planning.comparison import ComparedJob, open_jobs
from launcher.experiments.planning.first_wave import ready_jobs
from launcher.experiments.planning.plan import PlannedJob
from launcher.queue.backends.eligibility import count_slots, why_never_fits
from launcher.queue.backends.protocol import Estimate
from launcher.queue.backends.settings import LOCAL, Backends, BackendSettings
from launcher.system.files import Json


class EstimateResult(NamedTuple):
    """An engine's estimate of a pilot that is not submitted."""

    estimate: Estimate | None = None
    error: str = ""  # why there is no estimate


class BackendPreview(NamedTuple):
    """The requests of a plan to one backend, or to this machine."""

    name: str
    settings: BackendSettings | None  # None: this machine, without pilots
    kinds: Mapping[str, int]  # kind → jobs that go there first
    other_backends: tuple[str, ...]  # backends where these jobs may run, too
    jobs_only_here: int  # number of these jobs that may run nowhere else
    first_pilots: int  # pilots that are submitted for jobs that wait for nothing
    max_pilots: int  # pilots that all these jobs keep busy, were they ready together
    estimate_result: EstimateResult

    @property
    def jobs(self) -> int:
        """The number of jobs that go there first."""
        return sum(self.kinds.values())

    def to_json(self) -> dict[str, Json]:
        """Return it for JSON."""
        settings, estimate = self.settings, self.estimate_result.estimate
        at = None if estimate is None else estimate.starts_at
        return {
            "name": self.name,
            "kind": LOCAL if settings is None else settings.kind,
            "jobs": dict(self.kinds),
            "otherwise": list(self.other_backends),
            "only_there": self.jobs_only_here,
            "pilots_first": self.first_pilots,
            "pilots_most": self.max_pilots,
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
            "why": (estimate.why if estimate is not None else self.estimate_result.error) or None,
        }


def preview_backends(
    compared_jobs: Sequence[ComparedJob],
    backends: Backends,
    query_engines: Callable[[Sequence[BackendSettings]], Mapping[str, EstimateResult]],
) -> tuple[BackendPreview, ...]:
    """Return the requests of a plan to each backend; nothing if all of it runs here.

    Args:
        compared_jobs: its jobs, compared with the queue.
        backends: the configured ones.
        query_engines: queries the engines, given by their settings, for their estimates of a pilot.
    """
    jobs = [compared.job for compared in open_jobs(compared_jobs)]
    ready = {job.name for job in ready_jobs(compared_jobs)}
    by_place: dict[str, list[PlannedJob]] = {}
    for job in jobs:
        if place := _first_fitting_backend(job, backends):
            by_place.setdefault(place, []).append(job)
    used = [settings for name, settings in backends.by_name.items() if name in by_place]
    if not used:
        return ()
    answers = query_engines(used)
    order = dict.fromkeys(name for job in jobs for name in job.terms.on or (LOCAL,))
    return tuple(
        _preview_backend(name, by_place[name], ready, backends, answers.get(name, EstimateResult()))
        for name in order
        if name in by_place
    )


def _preview_backend(
    name: str,
    jobs: Sequence[PlannedJob],
    ready: set[str],
    backends: Backends,
    estimate_result: EstimateResult,
) -> BackendPreview:
    settings = backends.by_name.get(name)
    places = dict.fromkeys(place for job in jobs for place in job.terms.on)
    first = (job for job in jobs if job.name in ready)
    return BackendPreview(
        name=name,
        settings=settings,
        kinds=Counter(job.kind for job in jobs),
        other_backends=tuple(place for place in places if place != name),
        jobs_only_here=sum(not {*job.terms.on} - {name} for job in jobs),
        first_pilots=_count_pilots(first, settings),
        max_pilots=_count_pilots(jobs, settings),
        estimate_result=estimate_result,
    )


def _first_fitting_backend(job: PlannedJob, backends: Backends) -> str:
    """Return the first of a job's backends that can hold it, '' if none can."""
    for name in job.terms.on or (LOCAL,):
        settings = backends.by_name.get(name)
        if settings is None:
            return name
        if not why_never_fits(job.resources, job.terms.time_limit_s, settings):
            return name
    return ""


def _count_pilots(jobs: Iterable[PlannedJob], settings: BackendSettings | None) -> int:
    """Return how many pilots jobs keep busy that are ready together; this machine has none."""
    if settings is None:
        return 0
    needed = sum(1 / count_slots(job.resources, settings) for job in jobs)
    return min(settings.pilots, ceil(needed - 1e-9))


def _iso(timestamp: float) -> str | None:
    try:
        return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # whatever an engine estimates
        return None
