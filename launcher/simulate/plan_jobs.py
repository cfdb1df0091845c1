"""A plan's jobs as a replay sees them: all of them submitted at once, as if none were done."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from launcher.errors import counted
from launcher.planning.estimates import History, forecast, seconds_on_cpu, wants_gpu
from launcher.planning.plan import Plan, PlannedJob
from launcher.simulate.trace import TraceJob
from launcher.units import format_seconds


class Known(StrEnum):
    """From where the duration of a job is known."""

    MEASURED = "measured"  # jobs like it ran where it will run
    ON_CPU = "on_cpu"  # they ran on the CPU, and it will have a GPU
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The jobs of plans as a trace, and from where their durations are."""

    jobs: tuple[TraceJob, ...]
    sources: Mapping[Known, int]  # number of jobs
    seconds: float  # of a job of which nothing is known

    def in_words(self) -> str:
        """Return from where the durations are: "of 3 jobs as measured here, of 1 job 1h"."""
        words = {
            Known.MEASURED: "as measured here",
            Known.ON_CPU: "as measured here on the CPU",
            Known.UNKNOWN: f"{format_seconds(self.seconds)}, as none like them ran (--duration)",
        }
        texts = [
            f"of {counted(count, 'job')} {words[source]}"
            for source in Known
            if (count := self.sources.get(source, 0))
        ]
        return ", ".join(texts)


def planned_jobs(plans: Iterable[Plan], history: History, *, seconds: float, vram: int) -> Planned:
    """Return the jobs of plans; what is needed comes before what needs it.

    Args:
        plans: worked out.
        history: what was done before, from which durations and memory are known.
        seconds: how long a job takes of which that tells nothing.
        vram: what it claims, likewise, unless its task file declares it.
    """
    sources: Counter[Known] = Counter()
    jobs: list[TraceJob] = []
    for plan in plans:
        places: dict[str, int] = {}
        for job in plan.jobs:
            places[job.name] = len(jobs)
            source, lasts = _lasts(job, history)
            sources[source] += 1
            jobs.append(
                _traced(
                    job,
                    history,
                    index=len(jobs),
                    seconds=seconds if lasts is None else lasts,
                    vram=vram,
                    needs=(places[need] for need in job.needs if need in places),
                )
            )
    return Planned(jobs=tuple(jobs), sources=sources, seconds=seconds)


def _lasts(job: PlannedJob, history: History) -> tuple[Known, float | None]:
    """Return how long a job takes, and from where that is known."""
    if (seconds := forecast(job, history).seconds) is not None:
        return Known.MEASURED, seconds
    seconds = seconds_on_cpu(job, history)
    return Known.UNKNOWN if seconds is None else Known.ON_CPU, seconds


def _traced(
    job: PlannedJob,
    history: History,
    *,
    index: int,
    seconds: float,
    vram: int,
    needs: Iterator[int],
) -> TraceJob:
    expected = forecast(job, history)
    on_gpu = wants_gpu(job, gpus=True)
    asked = job.resources
    return TraceJob(
        index=index,
        submitted=0.0,
        seconds=seconds,
        gpus=asked.gpus if on_gpu else 0,
        vram=(expected.vram or vram) if on_gpu else None,
        group=job.kind,
        exclusive=asked.exclusive,
        priority=job.priority,
        needs=tuple(needs),
        forecast=expected.seconds,
    )
