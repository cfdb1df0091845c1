"""A simulated queue follows the rules of the product: reserve, baseline, memory that is learned, users, others."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.frontends.simulate.baselines import ContendedQueue, lower_bound, merge_jobs
from launcher.frontends.simulate.machine import (
    SimulatedCluster,
    parse_cluster,
    replay,
    select_feasible,
)
from launcher.frontends.simulate.memory_claims import draw_memory
from launcher.frontends.simulate.queue import PEAK_S, MemoryKnowledge, UsageByUser
from launcher.frontends.simulate.trace import TraceJob, read_trace
from tests.launcher.conftest import Launcher, home, launcher, store
from tests.launcher.simulate.worlds import GIB, a_fleet, a_job, live, replayed, starts

__all__ = ["home", "launcher", "store"]  # fixtures


def test_memory_used_by_and_reserved_for_others_is_not_available() -> None:
    fleet = SimulatedCluster(((24 * GIB,),), baseline=2 * GIB, reserve=2 * GIB)
    jobs = [a_job(0, gib=10), a_job(1, gib=10), a_job(2, gib=11)]
    assert select_feasible([*jobs, a_job(3, gib=21)], fleet).too_much_vram == 1
    spans = replayed(jobs, live(fleet), 1, slowdown=1.0)
    assert starts(spans)[:2] == [0, 0]
    assert starts(spans)[2] == 10, "20 GiB are for jobs: 10 and 11 do not fit"
    assert starts(replayed(jobs[1:], live(a_fleet(1)), 1, slowdown=1.0)) == [0, 0]


def test_measured_usage_counts_for_similar_jobs_while_it_runs() -> None:
    jobs = [a_job(index, 100.0, at=index, gib=6, group="a") for index in range(4)]
    known = replayed(jobs, live(a_fleet(1)), 1, slowdown=1.0)
    assert starts(known)[:2] == [0, 1]
    learned = replayed(jobs, live(a_fleet(1), memory=MemoryKnowledge.LEARNED), 1, slowdown=1.0)
    assert starts(learned) == starts(known)


def test_job_that_uses_more_than_similar_jobs_is_retried_with_more() -> None:
    jobs = [
        a_job(0, 100.0, gib=6, group="a"),
        a_job(1, 1000.0, at=1, gib=6, group="a"),
        a_job(2, 500.0, at=2, gib=12, group="a"),
    ]
    queue = live(a_fleet(1), memory=MemoryKnowledge.LEARNED)
    spans = replayed(jobs, queue, 1, slowdown=1.0)
    assert queue.out_of_memory == 1
    assert spans[2].start == 100 + PEAK_S, "beside the second one it failed first"
    assert spans[2].end == spans[2].start + 500
    assert spans[2].ready == 2


def test_job_of_unknown_memory_fails_next_to_the_largest_user_and_is_retried_after_it() -> None:
    fleet = SimulatedCluster(((8 * GIB, 24 * GIB),))
    jobs = [a_job(0, 500.0, gib=20, group="a"), a_job(1, 500.0, gib=20, group="b")]
    queue = live(fleet, memory=MemoryKnowledge.LEARNED)
    spans = replayed(jobs, queue, 2)
    assert [span.cards for span in spans.values()] == [(1,), (1,)]
    assert queue.out_of_memory == 1
    assert starts(spans) == [0, 530]  # both were on the card for a minute


def test_user_with_less_recent_usage_goes_first() -> None:
    jobs = [a_job(index, 10.0, gib=20, user="a") for index in range(4)]
    jobs.append(a_job(4, 10.0, gib=20, at=1.0, user="b"))
    assert starts(replayed(jobs, live(a_fleet(1)), 1))[4] == 40
    assert starts(replayed(jobs, live(a_fleet(1), users=True), 1))[4] == 10


def test_usage_is_halved_after_a_day() -> None:
    use = UsageByUser()
    use.begin(0, "a", 2, 0.0)
    assert use.usage_at(100.0) == {"a": 200.0}
    use.end(0, 100.0)
    assert use.usage_at(100.0 + 86_400) == pytest.approx({"a": 100.0})


def test_other_users_take_idle_gpus_without_the_scheduler() -> None:
    ours = [a_job(0, 10.0, gpus=1), a_job(1, 10.0, at=5.0, gpus=2)]
    theirs = [a_job(0, 100.0, at=1.0, gpus=1), a_job(1, 7.0, at=2.0, gpus=1)]
    fleet, jobs = a_fleet(2), merge_jobs(ours, theirs)
    queue = ContendedQueue(live(fleet), fleet, first=2)
    spans = {span.job: span for span in replay(jobs, queue, cards=2, slowdown=1.5)}
    assert (spans[2].start, spans[3].start) == (1, 10), "a card of ours is not idle"
    assert spans[2].cards != spans[3].cards
    assert spans[1].start == 101, "two cards are free of others then"


# --- traces


@pytest.mark.parametrize(
    ("columns", "cells", "gpus", "claim"),
    [
        ("gpus", "0.25", 1, 6),
        ("gpus", "2", 2, None),
        ("num_gpu,gpu_milli", "1,500", 1, 12),
        ("num_gpu,gpu_milli", "2,1000", 2, None),
        ("plan_gpu", "50", 1, 12),
        ("plan_gpu", "250", 3, None),
        ("gpus,gpu_frac", "1,0.5", 1, 12),
        ("gpus,gpu_share", "1,", 1, None),
    ],
)
def test_fraction_of_a_gpu_is_that_fraction_of_its_memory(
    tmp_path: Path, columns: str, cells: str, gpus: int, claim: int | None
) -> None:
    path = tmp_path / "parts.csv"
    path.write_text(f"submit_s,duration_s,user,{columns}\n0,10,eve,{cells}\n")
    (job,) = read_trace(path)
    assert (job.gpus, job.user) == (gpus, "eve")
    (drawn,) = draw_memory([job], 0, fixed_bytes=GIB, gpu_bytes=24 * GIB)
    assert drawn.vram == (GIB if claim is None else claim * GIB)


def test_all_assumptions_are_printed(launcher: Launcher, tmp_path: Path) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text("submit_s,duration_s,gpus,user\n0,10,1,a\n0,10,1,b\n5,10,0.5,b\n")
    words = ["simulate", str(path), "--gpus", "2x24GiB", "--users", "--others", str(path)]
    words += ["--memory", "learned", "--reserve", "1GiB", "--baseline", "0.5GiB"]
    text = " ".join(launcher(*words).out.split())
    for each in (
        "1 GiB of each GPU reserved for others",
        "512 MiB of each GPU used by others",
        "launcher learns the memory",
        "the launcher user with less recent usage goes first (half-life 1 day)",
        "others run 3 jobs on whole idle GPUs",
        "for jobs with a fraction of a GPU this fraction of its memory",
    ):
        assert each in text
    assumed = launcher.json(*words)["assumptions"]
    assert assumed["reserve_bytes"] == 2 * assumed["baseline_bytes"] == GIB
    assert (assumed["memory_is"], assumed["users"], assumed["jobs_of_others"]) == (
        "learned",
        True,
        3,
    )


def test_users_need_a_column(launcher: Launcher, tmp_path: Path) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text("submit_s,duration_s,gpus\n0,10,1\n")
    answer = launcher("simulate", str(path), "--gpus", "2x24GiB", "--users")
    assert answer.code == 2
    assert "has no column user. Add the column" in " ".join(answer.err.split())


@pytest.mark.parametrize(
    "options",
    [
        ["--vram", "0", "--reserve", "24GiB"],
    ],
)
def test_jobs_that_never_start_are_an_error_and_not_omitted_from_the_figures(
    options: list[str], launcher: Launcher, tmp_path: Path
) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text("submit_s,duration_s,gpus,vram\n0,10,1,\n1,10,1,\n", encoding="utf-8")
    assert "2 of 2 jobs never start under launcher, because" in launcher.refused(
        "simulate", str(path), "--gpus", "2x24GiB", *options
    )


# --- The lower bound against cases that were worked out by hand


FOUR, LARGE = ([a_job(index, 10, gib=gib) for index in range(4)] for gib in (8, 13))


@pytest.mark.parametrize(
    ("jobs", "gpus", "slowdown", "most", "bound"),
    [
        (  # nobody is faster than the longest chain
            [a_job(0, 10), a_job(1, 5, needs=(0,)), a_job(2, 4, needs=(1,), at=30), a_job(3, 8)],
            *("50x24GiB", 1.3, 2, 34),
        ),
        # without sharing a card does a second of work in a second
        ([a_job(0, 10), a_job(1, 20), a_job(2, 15), a_job(3, 15)], "2x24GiB", 1.3, 1, 30),
        (FOUR, "1x24GiB", 1.3, 2, 26),  # pairs are as fast as the slowdown allows
        (FOUR, "1x24GiB", 2.5, 2, 40),  # then none is faster than one by one
        (FOUR, "1x24GiB", 1.0, 2, 20),  # a slowdown of nothing leaves time for any company
        (LARGE, "1x24GiB", 1.3, 2, 40),  # no two fit on a card
        (LARGE, "8x24GiB", 1.3, 2, 10),  # but on eight
        # the smallest of them counts as its own neighbour
        ([*LARGE, a_job(4, 10, gib=12)], "1x24GiB", 1.3, 2, 46.5),
        # more neighbours are counted only where memory has room for them: two at most
        ([a_job(index, 10, gib=12) for index in range(4)], "1x24GiB", 1.2, 3, 24),
        ([a_job(index, 10, gib=8) for index in range(6)], "1x24GiB", 1.2, 3, 60 * 1.44 / 3),
        # work that comes late cannot be done early
        ([a_job(0, 10), *(a_job(n, 10, at=100) for n in range(1, 5))], "1x24GiB", 1.3, 1, 140),
        # the large cards do the work that only they can hold
        ([a_job(n, 10, gib=60) for n in range(4)], "1x80GiB+9x24GiB", 1.3, 2, 40),
    ],
)
def test_nothing_is_faster_than_the_bound(
    jobs: Sequence[TraceJob], gpus: str, slowdown: float, most: int, bound: float
) -> None:
    totals = parse_cluster(gpus).totals
    assert lower_bound(jobs, totals, slowdown=slowdown, most=most) == pytest.approx(bound)


class _AnyOrder:
    """Starts whatever fits, in a random order, on random cards; some jobs share theirs with none."""

    def __init__(self, stream: random.Random, cards: int, most: int) -> None:
        self._stream, self._most = stream, most
        self._line: list[TraceJob] = []
        self._on: list[list[TraceJob]] = [[] for _ in range(cards)]
        self._alone: set[int] = set()

    def submit(self, job: TraceJob, now: float) -> None:
        self._line.append(job)
        if self._stream.random() < 0.3:
            self._alone.add(job.index)

    def finish_job(self, job: TraceJob, took: float, now: float) -> bool:
        for on in self._on:
            if job in on:
                on.remove(job)
        return True

    def next_starts(self, now: float) -> Iterator[tuple[TraceJob, tuple[int, ...]]]:
        self._stream.shuffle(self._line)
        for job in [*self._line]:
            open_cards = [card for card, on in enumerate(self._on) if self._fits(job, on)]
            if len(open_cards) >= job.gpus:
                chosen = tuple(self._stream.sample(open_cards, job.gpus))
                for card in chosen:
                    self._on[card].append(job)
                self._line.remove(job)
                yield job, chosen

    def _fits(self, job: TraceJob, on: list[TraceJob]) -> bool:
        if not on:
            return True
        alone = job.index in self._alone or any(other.index in self._alone for other in on)
        room = sum(other.vram or 0 for other in [job, *on]) <= 24 * GIB
        return not alone and room and len(on) < self._most


@given(
    shapes=st.lists(
        st.tuples(
            st.sampled_from([1.0, 5.0, 9.0, 10.0]), st.integers(1, 7), st.sampled_from([2, 8, 13])
        ),
        min_size=1,
        max_size=7,
    ),
    cards=st.integers(1, 7),
    slowdown=st.sampled_from([1.0, 1.2, 1.5, 2.5]),
    most=st.integers(1, 4),
    seed=st.integers(0, 1 << 16),
)
@settings(max_examples=150, deadline=None)
def test_no_schedule_of_any_order_beats_the_bound(
    shapes: list[tuple[float, int, int]], cards: int, slowdown: float, most: int, seed: int
) -> None:
    jobs = [
        a_job(index, seconds, gpus=min(gpus, cards), gib=gib)
        for index, (seconds, gpus, gib) in enumerate(shapes)
    ]
    bound = lower_bound(jobs, a_fleet(cards).totals, slowdown=slowdown, most=most)
    stream = random.Random(seed)
    for _ in range(6):
        queue = _AnyOrder(stream, cards, most)
        spans = replay(jobs, queue, cards=cards, slowdown=slowdown)
        assert max(span.end for span in spans) >= bound - 1e-6
