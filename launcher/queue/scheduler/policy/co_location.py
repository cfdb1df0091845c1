"""How many jobs share a GPU: as many as it has time for, and more only while total throughput grows.

NVML reports for each process the fraction of time in which one of its kernels ran: its load, 0 to
1. While the loads of the jobs on a GPU add up to at most 1, each runs as fast as alone. Above that
they take turns, and each is slower by the sum of the loads, unless its reported steps show another
factor. A further job starts there only if the sum of the rates grows by at least GROWTH, and no job
becomes slower than MOST_SLOWED times.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import isfinite
from typing import NamedTuple

EXPECTED_LOAD = (
    0.125  # load of a job until it, or one like it, was measured: eight of them fill a GPU
)
MOST_SLOWED = 1.3  # times the duration alone; no job takes longer because of others
# the same, predicted from loads: later measurements differ by a few percent
MOST_PREDICTED_SLOWED = 1.25
GROWTH = 1.05  # growth of the sum of the rates, for which a full GPU gets a further job
FULL_LOAD = (
    0.9  # load above which a job has the GPU alone, unless the steps that it reports show more
)
SATURATED = 0.95  # use of a GPU at which loads cannot be measured any more, as all loads shrink
UNMEASURED_MOST = 4  # jobs on a GPU whose driver does not report the load of processes
MOST_COUNTED = 64  # others; of more no number is large enough, and none is needed
MOST_SLOWDOWN = 100.0  # a larger value is not a measurement but a hanging job
MOST_NAMED_JOBS = 3  # jobs, or GPUs, that a reason names; the others are counted
# steps of 1; jobs that differ by less are decided alike, and at once. Factors multiply, so theirs are fine
_USES, _FACTORS = 100, 200
_ROUNDING = 1e-9


class GpuLoad(NamedTuple):
    """Load of a job on a GPU, and its slowdown by other jobs there."""

    sm: float | None = None  # share of the time in which the job keeps the GPU busy alone, 0 to 1
    slowdown: float | None = None  # measured with one other job, at least 1
    measured: bool = False  # `sm` was measured of this very attempt; False: `sm` is an expectation
    steps: bool = False  # the job reports its steps, so it is noticed when others slow it down


UNKNOWN_LOAD = GpuLoad()


def make_load(
    sm: object, slowdown: object, *, is_measured: bool = False, steps: bool = False
) -> GpuLoad:
    """Return a load from stored or measured values. Impossible values count as unknown."""
    use = sm if isinstance(sm, int | float) and 0 <= sm <= 1 else None
    factor = slowdown if isinstance(slowdown, int | float) and isfinite(slowdown) else None
    if factor is not None and not 0 < factor <= MOST_SLOWDOWN:
        factor = None
    return GpuLoad(
        None if use is None else round(use * _USES) / _USES,
        None if factor is None else round(max(1.0, factor) * _FACTORS) / _FACTORS,
        is_measured and use is not None,
        steps,
    )


def total_load(group: Sequence[GpuLoad]) -> float:
    """Return for which share of the time jobs would keep a GPU busy together; above 1 they take turns."""
    return sum([EXPECTED_LOAD if load.sm is None else load.sm for load in group])


def relative_rates(group: Sequence[GpuLoad], foreign: float = 0.0) -> list[float]:
    """Return how fast each job runs while all of them are on one GPU; alone it is 1.

    Args:
        group: the jobs.
        foreign: load of processes of others there.
    """
    more = min(len(group) - 1, MOST_COUNTED)
    turns = 1 / max(1.0, total_load(group) + foreign)
    return [
        turns if load.slowdown is None or more <= 0 else max(1.0, load.slowdown) ** -more
        for load in group
    ]


@lru_cache(maxsize=1 << 14)
def can_share(job: GpuLoad, others: tuple[GpuLoad, ...], foreign: float = 0.0) -> bool:
    """Return whether a GPU has time for a job together with others.

    Args:
        job: Load of the job.
        others: Loads of our jobs there.
        foreign: Load of processes of others there.
    """
    if not others:
        return True
    group = (job, *others)
    total = total_load(group) + foreign
    known = [load.slowdown for load in group if load.slowdown is not None]
    if any(map(_fills_gpu, others)):
        return False
    if total <= 1 + _ROUNDING and not known:
        return True
    if foreign and total > 1 + _ROUNDING:  # jobs of other users are not slowed down
        return False
    together = relative_rates(group, foreign)
    for load, rate in zip(group, together, strict=True):
        most = MOST_PREDICTED_SLOWED if load.slowdown is None else MOST_SLOWED
        if rate * most < 1 - _ROUNDING:
            return False
    return sum(together) >= GROWTH * sum(relative_rates(others, foreign)) - _ROUNDING


def _fills_gpu(load: GpuLoad) -> bool:
    """Return whether a job has a GPU to itself: nothing would show by how much others slow it down."""
    return (load.sm or 0.0) > FULL_LOAD and load.slowdown is None and not load.steps


def format_job_names(names: Sequence[str]) -> str:
    """Return which jobs it is; of many the first ones are named, and the others counted."""
    more = f" and {len(names) - MOST_NAMED_JOBS} more" if len(names) > MOST_NAMED_JOBS else ""
    return ("job " if len(names) == 1 else "jobs ") + ", ".join(names[:MOST_NAMED_JOBS]) + more


def why_cannot_share(
    job: GpuLoad, others: Sequence[tuple[str, GpuLoad]], foreign: float = 0.0
) -> str:
    """Return why a GPU has no time for a job with named others, such as "is 93 % busy with job 3"."""
    loads = [load for _, load in others]
    measured = [(name, load) for name, load in others if load.measured]
    young = [name for name, load in others if not load.measured]
    taken = min(1.0, total_load([load for _, load in measured]) + foreign)
    parts = []
    if measured or foreign:
        whom = [format_job_names([name for name, _ in measured])] if measured else []
        whom += ["other users"] if foreign else []
        parts.append(f"is {taken:.0%} busy with {' and '.join(whom)}".replace("%", " %"))
    if young:
        expected = total_load([load for _, load in others if not load.measured])
        share = f"{min(1.0, expected):.0%}".replace("%", " %")
        parts.append(f"is expected to be {share} busy with {format_job_names(young)}")
    slowest = 1 / min(relative_rates([job, *loads], foreign))
    if slowest > 1 + _ROUNDING:
        parts.append(f"another job would slow each down {slowest:.1f} times")
    return ", ".join(parts)
