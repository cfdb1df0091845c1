"""Builders of traces, machines and replays; each says only what matters to a test."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from launcher.frontends.simulate.baselines import Assumptions
from launcher.frontends.simulate.machine import JobSpan, SimulatedCluster, SimulatedQueue, replay
from launcher.frontends.simulate.queue import (
    JobKnowledge,
    MemoryKnowledge,
    PolicyQueue,
    RuntimeKnowledge,
)
from launcher.frontends.simulate.trace import TraceJob
from launcher.queue.scheduler.policy.disciplines import DEFAULT_POLICY, SchedulingPolicy

GIB = 1024**3
TRACES = Path(__file__).parents[4] / "shared" / "data" / "traces"
PHILLY = TRACES / "philly_jobs.csv"
needs_traces = pytest.mark.skipif(not PHILLY.exists(), reason=f"no {PHILLY}")


def a_job(
    index: int, seconds: float = 10.0, *, at: float = 0.0, gpus: int = 1, gib: int = 8, **more: Any
) -> TraceJob:
    """A job of a trace."""
    return TraceJob(index=index, submitted=at, seconds=seconds, gpus=gpus, vram=gib * GIB, **more)


def a_fleet(cards: int = 2, gib: int = 24) -> SimulatedCluster:
    """Cards of one size."""
    return SimulatedCluster(((gib * GIB,) * cards,))


def assuming(fleet: SimulatedCluster, **changes: Any) -> Assumptions:
    """A simulated world."""
    values: dict[str, Any] = {
        "slowdown": 1.5,
        "most": 2,
        "foresight": RuntimeKnowledge.LEARNED,
        "load": 1.0,
        "all_at_once": False,
        "memory": "as in the trace",
        "seed": None,
    }
    return Assumptions(fleet=fleet, **values | changes)


def live(
    fleet: SimulatedCluster,
    *,
    most: int = 2,
    foresight: RuntimeKnowledge = RuntimeKnowledge.KNOWN,
    memory: MemoryKnowledge = MemoryKnowledge.KNOWN,
    discipline: SchedulingPolicy = DEFAULT_POLICY,
    users: bool = False,
) -> PolicyQueue:
    """A policy of the scheduler over empty cards."""
    return PolicyQueue(
        fleet, JobKnowledge(foresight, memory), discipline, max_per_gpu=most, users=users
    )


def replayed(
    jobs: Sequence[TraceJob], queue: SimulatedQueue, cards: int, slowdown: float = 1.5
) -> dict[int, JobSpan]:
    """Return the span of each job."""
    spans = replay(jobs, queue, cards=cards, slowdown=slowdown)
    assert len({span.job for span in spans}) == len(spans), "each ends once"
    return {span.job: span for span in spans}


def starts(spans: dict[int, JobSpan]) -> list[float]:
    """When each job started, in the order of their numbers."""
    return [spans[job].start for job in sorted(spans)]


def most_at_once(spans: Iterable[JobSpan], card: int) -> tuple[int, frozenset[int]]:
    """The most crowded instant of a card: how many jobs, and which."""
    here = [span for span in spans if card in span.cards]
    crowds = [
        frozenset(one.job for one in here if one.start <= span.start < one.end) for span in here
    ]
    return max(
        ((len(crowd), crowd) for crowd in crowds), key=lambda one: one[0], default=(0, frozenset())
    )


@st.composite
def streams(draw: st.DrawFn, most_gpus: int = 4) -> tuple[TraceJob, ...]:
    """Jobs that come at random, in the order of their submission."""
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, 60),  # when
                st.sampled_from([1.0, 2.5, 7.0, 40.0]),
                st.integers(1, most_gpus),
                st.sampled_from([2, 6, 11, 13, 22]),
                st.sampled_from(["a", "b"]),
            ),
            min_size=1,
            max_size=25,
        )
    )
    return tuple(
        a_job(index, seconds, at=float(at), gpus=gpus, gib=gib, group=group)
        for index, (at, seconds, gpus, gib, group) in enumerate(
            sorted(rows, key=lambda row: row[0])
        )
    )
