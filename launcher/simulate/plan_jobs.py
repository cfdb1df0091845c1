"""A plan's jobs as a replay sees them: all of them submitted at once, as if none were done."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from statistics import median
from typing import NamedTuple

from launcher.errors import counted
from launcher.planning.first_wave import History, forecast, seconds_on_cpu, wants_gpu
from launcher.planning.plan import Plan, PlannedJob
from launcher.simulate.trace import TraceJob
from launcher.units import format_seconds


class Known(StrEnum):
    """From where the duration of a job is known, the best source first."""

    MEASURED = "measured"  # jobs like it ran where it will run
    LEARNED = "learned"  # jobs that the scheduler takes for alike did
    ON_CPU = "on_cpu"  # jobs like it ran on the CPU, and it will have a GPU
    KIND = "kind"  # jobs of its kind ran where it will run, with other settings
    KIND_ON_CPU = "kind_on_cpu"  # or on the CPU
    UNKNOWN = "unknown"


class Lasting(NamedTuple):
    """How long a job takes, and on what that rests."""

    source: Known
    seconds: float
    runs: int = 0  # jobs that were done
    cut: bool = False  # it is ended by its own time limit before


class Planned(NamedTuple):
    """The jobs of plans as a trace, and from where their durations are."""

    jobs: tuple[TraceJob, ...]
    durations: Mapping[tuple[str, Known], Sequence[Lasting]]  # by kind and source; one for each job

    def in_words(self) -> str:
        """Return from where the durations are, by kind: "of 8 train jobs 12 s (median of 8 runs here)"."""
        return ", ".join(
            _in_words(kind, source, durations)
            for (kind, source), durations in self.durations.items()
        )


def planned_jobs(plans: Iterable[Plan], history: History, *, seconds: float, vram: int) -> Planned:
    """Return the jobs of plans; what is needed comes before what needs it.

    Args:
        plans: worked out.
        history: what was done before, from which durations and memory are known.
        seconds: how long a job takes of which that tells nothing.
        vram: what it claims, likewise, unless its task file declares it.
    """
    durations: dict[tuple[str, Known], list[Lasting]] = {}
    jobs: list[TraceJob] = []
    for plan in plans:
        places: dict[str, int] = {}
        for job in plan.jobs:
            places[job.name] = len(jobs)
            lasting = _lasts(job, history) or Lasting(source=Known.UNKNOWN, seconds=seconds)
            limit = job.terms.time_limit_s
            if limit is not None and limit < lasting.seconds:
                lasting = lasting._replace(seconds=limit, cut=True)
            durations.setdefault((job.kind, lasting.source), []).append(lasting)
            jobs.append(
                _traced(
                    job,
                    history,
                    index=len(jobs),
                    lasting=lasting,
                    vram=vram,
                    needs=(places[need] for need in (*job.needs, *job.after_any) if need in places),
                )
            )
    return Planned(jobs=tuple(jobs), durations=durations)


def _lasts(job: PlannedJob, history: History) -> Lasting | None:
    """Return how long a job takes by the best that is known of it, None where nothing is."""
    expected, on_gpu = forecast(job, history), wants_gpu(job, gpus=True)
    if expected.seconds is not None:
        return Lasting(source=Known.MEASURED, seconds=expected.seconds, runs=expected.runs)
    usage = history.usage(job.signature)
    if on_gpu and usage.own and usage.seconds:
        return Lasting(source=Known.LEARNED, seconds=median(usage.seconds), runs=len(usage.seconds))
    for source, known in (
        (Known.ON_CPU, seconds_on_cpu(job, history)),
        (Known.KIND, history.of_kind(job.kind, on_gpu=on_gpu)),
        (Known.KIND_ON_CPU, history.of_kind(job.kind, on_gpu=False)),
    ):
        if known is not None:
            return Lasting(source=source, seconds=known[0], runs=known[1])
    return None


def _in_words(kind: str, source: Known, durations: Sequence[Lasting]) -> str:
    shortest = min(lasting.seconds for lasting in durations)
    longest = max(lasting.seconds for lasting in durations)
    least, most = format_seconds(shortest), format_seconds(longest)
    took = least if least == most else f"{least} to {most}"
    runs = {lasting.runs for lasting in durations}
    each = "" if len(runs) == 1 else "at least "
    middle = "median" if len({lasting.seconds for lasting in durations}) == 1 else "medians"
    tells = f"{middle} of {each}{counted(min(runs), 'run')}"
    why = {
        Known.MEASURED: f"({tells} here)",
        Known.LEARNED: f"({tells} that the scheduler takes for alike)",
        Known.ON_CPU: f"({tells} here on the CPU)",
        Known.KIND: f"({tells} here with other settings)",
        Known.KIND_ON_CPU: f"({tells} here on the CPU with other settings)",
        Known.UNKNOWN: f"as no {kind} job ran here (--duration)",
    }
    comma = "," if source is Known.UNKNOWN else ""
    took += " by their time limits" if any(lasting.cut for lasting in durations) else ""
    return f"of {counted(len(durations), f'{kind} job')} {took}{comma} {why[source]}"


def _traced(
    job: PlannedJob,
    history: History,
    *,
    index: int,
    lasting: Lasting,
    vram: int,
    needs: Iterator[int],
) -> TraceJob:
    expected = forecast(job, history)
    on_gpu = wants_gpu(job, gpus=True)
    asked = job.resources
    return TraceJob(
        index=index,
        submitted=0.0,
        seconds=lasting.seconds,
        gpus=asked.gpus if on_gpu else 0,
        vram=(expected.vram or vram) if on_gpu else None,
        group=job.kind,
        exclusive=asked.exclusive,
        priority=job.priority,
        needs=tuple(needs),
        forecast=lasting.seconds if lasting.source in {Known.MEASURED, Known.LEARNED} else None,
    )
