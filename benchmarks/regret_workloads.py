"""Workloads for `benchmarks.regret`: parts of public traces on machines of many sizes, and drawn ones.

No policy is tuned to any one of them: a seed draws which part of a trace, how many cards, how much load and how
large the jobs. A load of 1 keeps all cards busy with one job each from the first submission to the last one.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.frontends.simulate.machine import SimulatedCluster
from launcher.frontends.simulate.memory_claims import GIB, draw_memory
from launcher.frontends.simulate.trace import TraceJob, read_trace

TRACES = Path(__file__).parents[2] / "shared" / "data" / "traces"
CARD = 24 * GIB
MONTH_S = 30 * 86_400.0
CARDS, LOADS = (8, 16, 24, 32, 64), (0.3, 0.45, 0.6, 0.8, 1.0)
# fraction of a card for each job; None: drawn as `launcher simulate` does
MEMORY = None, None, 0.3, 0.5, 0.8
WIDE = (0.05, 0.3, 0.5, 0.8)  # share of the drawn jobs that want several cards


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Jobs and the machine on which they are replayed."""

    name: str
    jobs: tuple[TraceJob, ...]
    fleet: SimulatedCluster


def cases(seed: int, jobs: int, parts: int) -> Iterator[Case]:
    """Give workloads: of each kind so many `parts`, each of about so many `jobs`.

    Args:
        seed: of all that is drawn.
        jobs: Number of jobs of each workload, except the small traces.
        parts: of each kind.
    """
    stream = random.Random(f"regret/{seed}")
    if (philly := TRACES / "philly_jobs.csv").exists():
        trace = read_trace(philly)
        groups = sorted({job.group for job in trace})
        for _ in range(parts):
            yield _case("Philly, window", _window(trace, jobs, stream), stream)
        for _ in range(parts):
            thinned = sorted(stream.sample(trace, min(jobs, len(trace))), key=_when)
            yield _case("Philly, thinned", thinned, stream)
        for _ in range(parts):
            permuted = _permuted(_window(trace, jobs, stream), stream)
            yield _case("Philly, permuted", permuted, stream)
        for _ in range(parts):
            of_a_group = _of_a_group(trace, stream.choice(groups), jobs)
            yield _case("Philly, one group", of_a_group, stream)
    if (kalos := TRACES / "kalos_jobs.csv").exists():
        trace = read_trace(kalos)
        for speed in (2.0, 4.0):
            faster = [replace(job, submitted=job.submitted / speed) for job in trace]
            drawn = draw_memory(faster, stream.randrange(1 << 30))
            yield Case(
                name=f"Kalos, {speed:g} times as fast",
                jobs=tuple(drawn),
                fleet=SimulatedCluster(((80 * GIB,) * 1024,)),
            )
    if (small := TRACES / "tiresias_60_job.csv").exists():
        for cards in (8, 16):
            drawn = draw_memory(read_trace(small), stream.randrange(1 << 30))
            yield Case(
                name=f"60 jobs on {cards} cards",
                jobs=tuple(drawn),
                fleet=SimulatedCluster(((CARD,) * cards,)),
            )
    for kind, draw in _DRAWS.items():
        for _ in range(max(1, parts // 2)):
            wide = stream.choice(WIDE)
            yield _case(f"{kind}, {wide:.0%} wide", _drawn(draw, wide, jobs, stream), stream)


def _when(job: TraceJob) -> tuple[float, int]:
    return job.submitted, job.index


def _window(trace: Sequence[TraceJob], jobs: int, stream: random.Random) -> list[TraceJob]:
    begin = stream.randrange(max(1, len(trace) - jobs))
    return [*trace[begin : begin + jobs]]


def _permuted(jobs: Sequence[TraceJob], stream: random.Random) -> list[TraceJob]:
    seconds = [job.seconds for job in jobs]
    stream.shuffle(seconds)
    return [replace(job, seconds=span) for job, span in zip(jobs, seconds, strict=True)]


def _of_a_group(trace: Sequence[TraceJob], group: str, jobs: int) -> list[TraceJob]:
    return [job for job in trace if job.group == group][:jobs]


_DRAWS: dict[str, Callable[[random.Random, float], float]] = {
    "Pareto": lambda stream, _: 60 * stream.paretovariate(1.1),
    "log-normal": lambda stream, _: stream.lognormvariate(7, 2),
    "exponential": lambda stream, _: stream.expovariate(1 / 3600),
    "by user": lambda stream, mean: stream.lognormvariate(mean, 0.6),
    "short and long": lambda stream, _: stream.expovariate(
        1 / 300 if stream.random() < 0.9 else 1 / 40_000
    ),
}


def _drawn(
    draw: Callable[[random.Random, float], float], wide: float, jobs: int, stream: random.Random
) -> list[TraceJob]:
    """Return drawn jobs of twelve users, a share of which wants 2, 4 or 8 cards."""
    means = [stream.normalvariate(7, 1.8) for _ in range(12)]
    at, made = 0.0, []
    for index in range(jobs):
        at += stream.expovariate(1.0)
        user = stream.randrange(len(means))
        made.append(
            TraceJob(
                index=index,
                submitted=at,
                seconds=min(MONTH_S, draw(stream, means[user])),
                gpus=stream.choice((2, 4, 8)) if stream.random() < wide else 1,
                group=f"u{user}",
            )
        )
    return made


def _case(name: str, jobs: Sequence[TraceJob], stream: random.Random) -> Case:
    """Return jobs on a machine that is drawn, which they load as is drawn."""
    cards, load, memory = stream.choice(CARDS), stream.choice(LOADS), stream.choice(MEMORY)
    fitting = [job for job in jobs if job.gpus <= cards]
    begin = fitting[0].submitted
    span = max(1.0, fitting[-1].submitted - begin)
    factor = sum(job.gpus * job.seconds for job in fitting) / (cards * span) / load
    moved = [
        replace(job, index=index, submitted=(job.submitted - begin) * factor)
        for index, job in enumerate(fitting)
    ]
    always = None if memory is None else round(memory * CARD)
    drawn = draw_memory(moved, stream.randrange(1 << 30), fixed_bytes=always)
    size = "" if memory is None else f", {memory:.0%} of a card each"
    return Case(
        name=f"{name}; {cards} cards, load {load:g}{size}",
        jobs=tuple(drawn),
        fleet=SimulatedCluster(((CARD,) * cards,)),
    )
