"""The jobs of a task file as a trace, with their expected durations."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from launcher.experiments.planning.estimates import RuntimeHistory, estimate_job, seconds_on_cpu
from launcher.experiments.planning.plan import Plan, PlannedJob
from launcher.frontends.simulate.trace import TraceJob
from launcher.queue.store.usage_records import program_of_signature
from launcher.system.errors import pluralize
from launcher.system.units import format_seconds, median


class DurationSource(StrEnum):
    """The source of a job's duration, the best source first; the values are phrases that follow a number of runs."""

    MEASURED = "here"  # jobs like it ran where it will run
    LEARNED = "of similar jobs"
    ON_CPU = "here on the CPU"  # jobs like it ran there, and it will have a GPU
    KIND = "here with other settings"  # jobs of its kind ran where it will run
    KIND_ON_CPU = "here on the CPU with other settings"
    UNKNOWN = ""


class DurationEstimate(NamedTuple):
    """The duration of a job, and the source of the number."""

    source: DurationSource
    seconds: float
    runs: int = 0  # jobs that were done
    is_limited: bool = False  # the job's own time limit ends it before


class PlannedTrace(NamedTuple):
    """The jobs of plans as a trace, and from where their durations are."""

    jobs: tuple[TraceJob, ...]
    # by kind and source; one for each job
    durations: Mapping[tuple[str, DurationSource], Sequence[DurationEstimate]]

    def describe(self) -> str:
        """Return from where the durations are, by kind: "12 s for 8 train jobs (median of 8 runs here)"."""
        return ", ".join(
            _describe_durations(*key, durations) for key, durations in self.durations.items()
        )


def trace_from_plans(
    plans: Iterable[Plan], history: RuntimeHistory, *, seconds: float, vram: int
) -> PlannedTrace:
    """Return the jobs of plans as if all were submitted at once and none were done.

    Dependencies precede the jobs that need them.

    Args:
        plans: finished plans.
        history: finished attempts, from which durations and memory are estimated.
        seconds: duration of a job for which the history contains no estimate.
        vram: GPU memory of such a job, unless its task file declares it.
    """
    durations: dict[tuple[str, DurationSource], list[DurationEstimate]] = {}
    jobs: list[TraceJob] = []
    for plan in plans:
        places: dict[str, int] = {}
        for job in plan.jobs:
            places[job.name] = len(jobs)
            lasting = _estimate_duration(job, history) or DurationEstimate(
                DurationSource.UNKNOWN, seconds
            )
            limit, on_gpu = job.terms.time_limit_s, job.resources.works_on_gpu(machine_has_gpu=True)
            if limit is not None and limit < lasting.seconds:
                lasting = lasting._replace(seconds=limit, is_limited=True)
            durations.setdefault((job.kind, lasting.source), []).append(lasting)
            foretold = lasting.source in {DurationSource.MEASURED, DurationSource.LEARNED}
            jobs.append(
                TraceJob(
                    index=len(jobs),
                    submitted=0.0,
                    seconds=lasting.seconds,
                    gpus=job.resources.gpus if on_gpu else 0,
                    vram=(estimate_job(job, history).vram or vram) if on_gpu else None,
                    group=job.kind,
                    exclusive=job.resources.exclusive,
                    priority=job.priority,
                    needs=tuple(
                        places[need] for need in (*job.needs, *job.after_any) if need in places
                    ),
                    forecast=lasting.seconds if foretold else None,
                )
            )
    return PlannedTrace(tuple(jobs), durations)


def _estimate_duration(job: PlannedJob, history: RuntimeHistory) -> DurationEstimate | None:
    """Return the duration of a job from the best source; None if nothing is known."""
    expected, on_gpu = estimate_job(job, history), job.resources.works_on_gpu(machine_has_gpu=True)
    if expected.seconds is not None:
        return DurationEstimate(DurationSource.MEASURED, expected.seconds, expected.runs)
    usage = history.usage(job.signature, program_of_signature(job.signature, job.argv))
    if on_gpu and usage.is_own and usage.seconds:
        return DurationEstimate(DurationSource.LEARNED, median(usage.seconds), len(usage.seconds))
    for source, known in (
        (DurationSource.ON_CPU, seconds_on_cpu(job, history)),
        (DurationSource.KIND, history.median_of_kind(job.kind, on_gpu=on_gpu)),
        (DurationSource.KIND_ON_CPU, history.median_of_kind(job.kind, on_gpu=False)),
    ):
        if known is not None:
            return DurationEstimate(source, *known)
    return None


def _describe_durations(
    kind: str, source: DurationSource, durations: Sequence[DurationEstimate]
) -> str:
    seconds = {lasting.seconds for lasting in durations}
    least, most = format_seconds(min(seconds)), format_seconds(max(seconds))
    took = least if least == most else f"{least} to {most}"
    limited = (
        ", ended by their time limits" if any(lasting.is_limited for lasting in durations) else ""
    )
    whose = f"{took} for {pluralize(len(durations), f'{kind} job')}{limited}"
    if source is DurationSource.UNKNOWN:
        return f"{whose} (--duration, because no {kind} job has run here)"
    runs = {lasting.runs for lasting in durations}
    middle = "median" if len(seconds) == 1 else "medians"
    each = "" if len(runs) == 1 else "at least "
    return f"{whose} ({middle} of {each}{pluralize(min(runs), 'run')} {source})"
