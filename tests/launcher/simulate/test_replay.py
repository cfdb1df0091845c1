"""The clock, the baselines and the pace of a simulation against cases that were worked out by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from launcher.frontends.simulate.baselines import ContendedQueue, merge_jobs
from launcher.frontends.simulate.machine import compute_result, parse_cluster, select_feasible
from launcher.frontends.simulate.queue import (
    NEWEST,
    BackfillWindow,
    JobKnowledge,
    MemoryKnowledge,
    RuntimeKnowledge,
)
from launcher.frontends.simulate.trace import TraceJob, select_jobs
from launcher.queue.scheduler.policy.disciplines import (
    DEFAULT_POLICY,
    EASY,
    FIFO,
    SJF,
    SchedulingPolicy,
)
from launcher.queue.scheduler.policy.model import Machine, Waiting, make_forecast
from launcher.queue.scheduler.policy.queue_lengths import QueueDelayEstimator, queue_length
from tests.build import a_waiting
from tests.launcher.simulate.worlds import a_fleet, a_job, live, replayed, starts


class Replay(NamedTuple):
    """Jobs, their starts, and where it matters their ends and the cards that they had."""

    gpus: str
    jobs: Sequence[TraceJob]
    starts: Sequence[float]
    ends: Sequence[float] = ()
    cards: Sequence[tuple[int, ...]] = ()
    queue: Mapping[str, Any] = {}


FIRST, SHORTEST = {"discipline": FIFO}, {"discipline": SJF}
REPLAYS = {
    "first come, first served: the second card is idle from 0 to 10": Replay(
        "2x24GiB",
        [a_job(0, 10), a_job(1, 30, gpus=2, at=1), a_job(2, 5, at=2)],
        *([0, 10, 40], [10, 40, 45], [(0,), (0, 1), (0,)], FIRST),
    ),
    "whole cards are never shared": Replay(
        "1x24GiB", [a_job(index, 10, gib=2) for index in range(3)], [0, 10, 20], queue=FIRST
    ),
    "whole cards are the smallest that will do": Replay(
        "1x80GiB+1x24GiB",
        [a_job(0, gib=10), a_job(1, gib=40), a_job(2, gib=40)],
        *([0, 0, 10], (), [(1,), (0,), (0,)], FIRST),
    ),
    "no time: it ends as it starts": Replay(
        "1x24GiB", [a_job(0, 0), a_job(1, 0)], [0, 0], [0, 0], queue=FIRST
    ),
    "without GPUs it starts at once": Replay(
        "1x24GiB",
        [a_job(0, 10), a_job(1, 3, gpus=0), a_job(2, 5, needs=(1,))],
        *([0, 0, 10], (), [(0,), (), (0,)], FIRST),
    ),
    "the shortest that fits starts first": Replay(
        "1x24GiB",
        [a_job(0, 10), a_job(1, 30, at=1), a_job(2, 5, at=2), a_job(3, 20, at=3)],
        [0, 35, 10, 15],
        queue=SHORTEST,
    ),
    "the shortest is passed over while it does not fit": Replay(
        "2x24GiB",
        [a_job(0, 10), a_job(1, 1, gpus=2, at=1), a_job(2, 12, at=2)],
        [0, 14, 2],
        queue=SHORTEST,
    ),
    # together until 6: the short one has done 4, the long one 4 of 10, and runs its 6 alone
    "what is left runs faster when a neighbour has gone": Replay(
        "1x24GiB", [a_job(0, 10), a_job(1, 4)], [0, 0], [12, 6]
    ),
    # alone until 4, then 6 at 1.5: would end at 13; the other has done 6 by then, and runs 4 alone
    "a neighbour that comes later slows from then on": Replay(
        "1x24GiB", [a_job(0, 10), a_job(1, 10, at=4)], [0, 4], [13, 17]
    ),
    "what ends in time goes before a wide one": Replay(
        "2x24GiB",
        [a_job(n, 11 if n == 3 else 10, gib=22, gpus=2 if n == 1 else 1) for n in range(4)],
        [0, 10, 0, 20],
    ),
    "the more urgent is looked at although it came later": Replay(
        "1x24GiB",
        [*(a_job(n, gib=22) for n in range(3)), a_job(3, gib=22, at=1, priority=5)],
        [0, 20, 30, 10],
    ),
    "without forecasts EASY lets nothing go before a wide job": Replay(
        "2x24GiB",
        [a_job(0, 10, gib=22), a_job(1, 10, gpus=2, gib=22), a_job(2, 1, gib=22)],
        [0, 10, 20],
        queue={"foresight": RuntimeKnowledge.NONE, "discipline": EASY},
    ),
    "a job has all its GPUs on one machine": Replay(
        "2x(2x24GiB)",
        [a_job(0), a_job(1), a_job(2, gpus=2), a_job(3, gpus=2)],
        *([0, 0, 0, 10], (), [(0,), (1,), (2, 3), (0, 1)], {"most": 1}),
    ),
}


@pytest.mark.parametrize("case", REPLAYS.values(), ids=REPLAYS)
def test_jobs_start_and_end_as_calculated_by_hand(case: Replay) -> None:
    fleet = parse_cluster(case.gpus)
    spans = replayed(case.jobs, live(fleet, **case.queue), len(fleet.totals))
    assert starts(spans) == [*case.starts]
    in_order = [spans[job] for job in range(len(case.jobs))]
    assert not case.ends or [one.end for one in in_order] == pytest.approx([*case.ends])
    assert not case.cards or [one.cards for one in in_order] == [*case.cards]
    assert all(one.waited_s == one.start - one.ready for one in in_order)


class Placed:
    """A queue that starts jobs at once, on given cards."""

    def __init__(self, *cards: tuple[int, ...]) -> None:
        self._cards = cards
        self._new: list[TraceJob] = []

    def submit(self, job: TraceJob, now: float) -> None:
        self._new.append(job)

    def finish_job(self, job: TraceJob, took: float, now: float) -> bool:
        return True

    def next_starts(self, now: float) -> list[tuple[TraceJob, tuple[int, ...]]]:
        new, self._new = self._new, []
        return [(job, self._cards[job.index]) for job in new]


@pytest.mark.parametrize(
    ("cards", "seconds", "slowdown", "ends"),
    [
        pytest.param([(0,), (0,)], [10, 10], 1.5, [15, 15], id="two take the factor longer"),
        pytest.param([(0,)] * 3, [10] * 3, 2.0, [40] * 3, id="three take its square"),
        pytest.param([(0, 1), (1,)], [10, 4], 1.5, [12, 6], id="the most crowded card counts"),
    ],
)
def test_job_that_shares_a_gpu_is_slowed_down(
    cards: list[tuple[int, ...]], seconds: list[float], slowdown: float, ends: list[float]
) -> None:
    jobs = [a_job(index, each) for index, each in enumerate(seconds)]
    spans = replayed(jobs, Placed(*cards), 2, slowdown)
    assert [spans[job.index].end for job in jobs] == ends


# --- needs


def test_job_waits_for_its_dependencies_without_counting_as_waiting_for_gpus() -> None:
    jobs = [a_job(0, 10), a_job(1, 5, needs=(0,)), a_job(2, 5, needs=(0, 1), at=100)]
    spans = replayed(jobs, live(a_fleet(2), discipline=FIFO), cards=2)
    assert starts(spans) == [0, 10, 100]
    assert [span.waited_s for span in spans.values()] == [0, 0, 0]


@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_job_arriving_as_its_dependency_ends_starts_once(seconds: float) -> None:
    jobs = [a_job(0, 5, gpus=0), a_job(1, seconds, at=5, needs=(0,)), a_job(2, 1, at=6)]
    for gpus in (0, 1):
        spans = replayed([jobs[0], replace(jobs[1], gpus=gpus), jobs[2]], live(a_fleet(1)), cards=1)
        assert starts(spans) == [0, 5, 6]


# --- the scheduler's policy


def test_jobs_share_a_gpu_if_their_memory_allows_it() -> None:
    jobs = [a_job(0, gib=13), a_job(1, gib=13), a_job(2, gib=11)]
    spans = replayed(jobs, live(a_fleet(1)), cards=1)
    assert starts(spans)[0] == starts(spans)[2] == 0
    assert starts(spans)[1] > 0


def test_empty_gpus_are_used_before_shared_ones() -> None:
    jobs = [a_job(index, gib=2) for index in range(3)]
    spans = replayed(jobs, live(a_fleet(2)), cards=2)
    assert spans[0].cards != spans[1].cards
    assert starts(spans) == [0, 0, 0]


# --- forecasts


def test_durations_are_estimated_from_ended_jobs_of_the_same_group() -> None:
    learned = JobKnowledge(RuntimeKnowledge.LEARNED, MemoryKnowledge.KNOWN)
    job = a_job(0, group="a")
    assert learned.forecast(job).seconds == ()
    for seconds in (20.0, 40.0, 10.0):
        learned.record_end(a_job(0, seconds, group="a"))
    learned.record_end(a_job(0, 7.0, group="b"))
    assert learned.forecast(job).seconds == (10, 20, 40)
    assert learned.forecast(a_job(1, group="c")).seconds == (7, 10, 20, 40), "all that ended"
    for _ in range(NEWEST):
        learned.record_end(a_job(0, 1.0, group="a"))
    assert set(learned.forecast(job).seconds) == {1}, "older ones are forgotten"


def test_measurements_of_the_queue_take_precedence_over_estimates() -> None:
    learned = JobKnowledge(RuntimeKnowledge.LEARNED, MemoryKnowledge.KNOWN)
    learned.record_end(a_job(0))
    assert learned.forecast(a_job(1, forecast=3.0)).seconds == (3,)


# --- what is replayed


def test_jobs_arrive_faster_all_at_once_or_only_the_first() -> None:
    jobs = [a_job(index, at=10.0 * index) for index in range(3)]
    assert [job.submitted for job in select_jobs(jobs, first=2, all_at_once=False, load=2)] == [
        0,
        5,
    ]
    assert [job.submitted for job in select_jobs(jobs, first=None, all_at_once=True, load=1)] == [
        0,
        0,
        0,
    ]


def test_job_that_can_never_fit_is_dropped_and_counted() -> None:
    jobs = [
        a_job(0, gpus=3),
        a_job(1, gib=25),
        a_job(2, gpus=2),
        a_job(3, needs=(0,)),
        a_job(4, needs=(3,)),
        a_job(5, needs=(2,)),
    ]
    load = select_feasible(jobs, a_fleet(2))
    assert [job.index for job in load.jobs] == [2, 5]
    assert (load.too_many_gpus, load.too_much_vram, load.orphaned) == (1, 1, 2)


# --- what it came to


def test_outcome_counts_gpus_in_use_and_waiting() -> None:
    # two cards for 20 s: the first is used all of the time, the second for 10 s by two jobs
    jobs = [a_job(0, 20, gib=22), a_job(1, 5), a_job(2, 5, at=2.5, gib=16)]
    spans = replayed(jobs, live(a_fleet(2)), cards=2, slowdown=1.0)
    outcome = compute_result("launcher", [*spans.values()], jobs, 2)
    assert outcome.makespan_s == 20
    assert outcome.utilisation == pytest.approx((20 + 7.5) / 40)
    assert outcome.wait_mean_s == 0


def test_95th_percentile_is_the_waiting_time_of_some_job() -> None:
    jobs = [a_job(index, 1) for index in range(100)]
    spans = replayed(jobs, live(a_fleet(1), discipline=FIFO), cards=1)
    outcome = compute_result("fifo", [*spans.values()], jobs, 1)
    assert (outcome.wait_mean_s, outcome.wait_p95_s, outcome.wait_longest_s) == (49.5, 94, 99)


def test_job_wider_than_each_machine_is_skipped() -> None:
    fleet = parse_cluster("1x80GiB+4x(2x24GiB)")
    load = select_feasible([a_job(0, gpus=3), a_job(1, gpus=2), a_job(2, gpus=2, gib=40)], fleet)
    assert [job.index for job in load.jobs] == [1]
    assert (load.too_many_gpus, load.too_much_vram) == (1, 1), "80 GiB are there once on a machine"


@pytest.mark.parametrize(
    "discipline", [DEFAULT_POLICY, FIFO, EASY], ids=lambda discipline: discipline.name
)
def test_next_job_may_start_on_a_machine_that_was_considered_before(
    discipline: SchedulingPolicy,
) -> None:
    queue = live(parse_cluster("(1x24GiB)+(2x24GiB)"), most=1, discipline=discipline)
    spans = replayed([a_job(0, gpus=2), a_job(1)], queue, cards=3)
    assert [spans[job].cards for job in (0, 1)] == [(1, 2), (0,)]
    assert starts(spans) == [0, 0]


def test_other_users_get_whole_gpus_of_one_machine() -> None:
    fleet = parse_cluster("2x(2x24GiB)")
    ours, theirs = [a_job(0, 10)], [a_job(0, 10, gpus=2), a_job(1, 10, gpus=2)]
    jobs = merge_jobs(ours, theirs)
    spans = replayed(jobs, ContendedQueue(live(fleet, most=1), fleet, 1), cards=4)
    assert (spans[1].cards, spans[2].cards) == ((0, 1), (2, 3))
    assert starts(spans) == [10, 0, 0]


# --- How long a simulated job is passed by others: as long as in the real queue


JOBS = (a_job(0, 100.0, gpus=2), a_job(1, 60.0), a_job(2, 40.0))


LEFT_S = 20.0  # GPU-seconds left of the running jobs


@pytest.fixture
def patience() -> BackfillWindow:
    """Nobody waits on a machine with two GPUs."""
    return BackfillWindow(
        JobKnowledge(RuntimeKnowledge.KNOWN, MemoryKnowledge.KNOWN), 2, learns=True
    )


def given(
    patience: BackfillWindow, jobs: Sequence[TraceJob], left_s: float, now: float
) -> dict[int, float]:
    """Until when others may pass each of some new jobs."""
    patience.open_for(jobs, left_s, now)
    return {job.index: patience.find_end(job.index) for job in jobs}


def test_simultaneous_jobs_are_overtaken_equally_long_and_a_later_one_with_the_queue_length(
    patience: BackfillWindow,
) -> None:
    at_once = 1.5 * (200 + 60 + 40 + LEFT_S) / 2
    assert given(patience, JOBS, LEFT_S, 0.0) == dict.fromkeys((0, 1, 2), at_once)
    patience.remove(1)
    patience.remove(2)
    later = given(patience, [a_job(3, 100.0, at=50.0)], 0.0, 50.0)
    assert later == {3: 50 + 1.5 * (200 + 100) / 2}


def test_real_queue_overtakes_the_same_jobs_as_long(patience: BackfillWindow) -> None:
    machine = Machine(cpus=2)  # a core of two stands for a GPU of two

    def real(job: TraceJob) -> Waiting:
        known = a_waiting(job.index, cpus=job.gpus)._replace(forecast=make_forecast([job.seconds]))
        return known._replace(since=0.0)

    line = [real(job) for job in JOBS]
    lengths = QueueDelayEstimator()
    lengths.record(0.0, queue_length([(job, 1) for job in line], [], machine, 0.0))
    until = {job.job: job.backfill_until for job in lengths.set_patience(line)}
    assert until == given(patience, JOBS, 0.0, 0.0)


def test_shortest_of_simultaneous_jobs_starts_first_as_in_the_real_queue() -> None:
    begun = [a_job(n, 300.0 * (n + 1), group=f"{n}") for n in range(3)]  # no two end together
    wide = [a_job(3, 5000.0, gpus=2, group="long"), a_job(4, 50.0, gpus=3, group="short")]
    others = [a_job(5 + n, 9000.0, at=250.0 + 300.0 * n, group="others") for n in range(6)]
    spans = replayed([*begun, *wide, *others], live(a_fleet(3), most=1), 3)
    assert spans[4].start == 9900, "its place is kept since the others have passed it once"
    assert spans[3].start == 9950, "it does not take that place before, though two GPUs were free"


def test_requeued_job_is_overtaken_as_long_as_the_queue_is_then(
    patience: BackfillWindow,
) -> None:
    job = a_job(0, 100.0)
    assert given(patience, [job], 0.0, 0.0) == {0: 75.0}
    patience.remove(0)
    again = replace(job, submitted=80.0)
    assert given(patience, [again], 100.0, 80.0) == {0: 80 + 150.0}
    assert patience.first_overdue_job(100.0) is None
    assert patience.first_overdue_job(231.0) == 0
