"""The lower bound against cases that were worked out by hand."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.simulate.baselines import lower_bound
from launcher.simulate.machine import replay
from launcher.simulate.trace import TraceJob
from tests.launcher.simulate.worlds import GIB, a_fleet, a_job

ONE = a_fleet(1).totals


def test_nobody_is_faster_than_the_longest_chain() -> None:
    jobs = [a_job(0, 10), a_job(1, 5, needs=(0,)), a_job(2, 4, needs=(1,), at=30), a_job(3, 8)]
    assert lower_bound(jobs, a_fleet(50).totals, slowdown=1.3, most=2) == 34


def test_without_sharing_a_card_does_a_second_of_work_in_a_second() -> None:
    jobs = [a_job(0, 10), a_job(1, 20), a_job(2, 15), a_job(3, 15)]
    assert lower_bound(jobs, a_fleet(2).totals, slowdown=1.3, most=1) == 30


def test_pairs_are_as_fast_as_the_slowdown_allows() -> None:
    jobs = [a_job(index, 10) for index in range(4)]
    assert lower_bound(jobs, ONE, slowdown=1.3, most=2) == pytest.approx(26)
    assert lower_bound(jobs, ONE, slowdown=2.5, most=2) == 40, "then none is faster than one by one"


def test_what_leaves_no_room_beside_it_has_its_card_for_itself() -> None:
    large = [a_job(index, 10, gib=13) for index in range(4)]
    assert lower_bound(large, ONE, slowdown=1.3, most=2) == 40, "no two fit on a card"
    assert lower_bound(large, a_fleet(8).totals, slowdown=1.3, most=2) == 10, "but on eight"
    beside = [*large, a_job(4, 10, gib=12)]
    # the smallest of them counts as its own neighbour
    assert lower_bound(beside, ONE, slowdown=1.3, most=2) == pytest.approx(46.5)


def test_more_neighbours_are_counted_only_where_memory_has_room_for_them() -> None:
    jobs = [a_job(index, 10, gib=12) for index in range(4)]
    assert lower_bound(jobs, ONE, slowdown=1.2, most=3) == pytest.approx(24), "two at most"
    small = [a_job(index, 10, gib=8) for index in range(6)]
    assert lower_bound(small, ONE, slowdown=1.2, most=3) == pytest.approx(60 * 1.44 / 3)


def test_work_that_comes_late_cannot_be_done_early() -> None:
    jobs = [a_job(0, 10), *(a_job(index, 10, at=100) for index in range(1, 5))]
    assert lower_bound(jobs, ONE, slowdown=1.3, most=1) == 140


def test_what_only_the_large_cards_hold_is_theirs_to_do() -> None:
    jobs = [a_job(index, 10, gib=60) for index in range(4)]
    totals = (80 * GIB, *a_fleet(9).totals)
    assert lower_bound(jobs, totals, slowdown=1.3, most=2) == 40


def test_a_slowdown_of_nothing_leaves_time_for_any_company() -> None:
    jobs = [a_job(index, 10) for index in range(4)]
    assert lower_bound(jobs, ONE, slowdown=1.0, most=2) == 20


class _AnyOrder:
    """Starts whatever fits, in a random order, on random cards; some jobs share theirs with none."""

    def __init__(self, stream: random.Random, cards: int, most: int) -> None:
        self._stream, self._most = stream, most
        self._line: list[TraceJob] = []
        self._on: list[list[TraceJob]] = [[] for _ in range(cards)]
        self._alone: set[int] = set()

    def put(self, job: TraceJob, now: float) -> None:
        self._line.append(job)
        if self._stream.random() < 0.3:
            self._alone.add(job.index)

    def take_back(self, job: TraceJob, took: float, now: float) -> bool:
        for on in self._on:
            if job in on:
                on.remove(job)
        return True

    def starts(self, now: float) -> Iterator[tuple[TraceJob, tuple[int, ...]]]:
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
