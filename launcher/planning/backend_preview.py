"""What a plan asks of each backend, and what that expects."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from math import ceil
from typing import NamedTuple

from launcher.backends.eligibility import never_fits, slots
from launcher.backends.protocol import Estimate
from launcher.backends.settings import HERE, Backends, BackendSettings
from launcher.planning.comparison import ComparedJob, open_jobs
from launcher.planning.first_wave import ready_jobs
from launcher.planning.plan import PlannedJob
from launcher.system.files import Json


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
