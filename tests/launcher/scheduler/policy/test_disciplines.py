"""Whom a policy lets pass, for how long, and what of the scheduler's knowledge it uses."""

from math import inf

import pytest

from launcher.frontends.simulate.queue import RuntimeKnowledge
from launcher.queue.jobs.accounts import PeerScheduler, ResourceDemand, ResourceUsage
from launcher.queue.scheduler.policy.co_location import GpuLoad
from launcher.queue.scheduler.policy.decide import decide
from launcher.queue.scheduler.policy.disciplines import (
    DEFAULT_POLICY,
    EASY,
    FIFO,
    FIRM_AFTER_S,
    FIRST_FIT,
    SJF,
    STRICT_AFTER_S,
    USUAL_S,
    SchedulingPolicy,
    job_length_s,
    order_by_policy,
)
from launcher.queue.scheduler.policy.model import (
    Machine,
    Running,
    Start,
    Wait,
    Waiting,
    make_forecast,
)
from launcher.queue.scheduler.waiting_line import order_by_fair_share
from launcher.queue.store.lanes import rank_of
from launcher.system.gpu_sharing import SharingRules
from tests.build import GIB, a_gpu, a_waiting
from tests.launcher.simulate.worlds import a_fleet, a_job, live, replayed

DAY = 86_400.0
TWO = Machine(cpus=8, gpus=(a_gpu(0, total=24), a_gpu(1, total=24)))
SMALL = a_waiting(2, device="cuda", vram=20 * GIB)
BUSY = Running(
    job=9,
    cpus=1,
    devices=("GPU-0",),
    vram=20 * GIB,
    since=0.0,
    ends=1e5,
    forecast=make_forecast([1e5]),
)


@pytest.mark.parametrize("foresight", [RuntimeKnowledge.KNOWN, RuntimeKnowledge.LEARNED])
def test_wide_job_starts_despite_endless_short_jobs(foresight: RuntimeKnowledge) -> None:
    """Each ends before the slip that its wait allows: without an end to slips all of them pass."""
    jobs = [a_job(index, 120.0 if index else 60.0, gib=20) for index in range(6)]
    jobs.append(a_job(6, 100.0, at=1.0, gpus=2, gib=20, group="wide"))
    jobs += [a_job(7 + index, 120.0, at=2 + 59.4 * index, gib=20) for index in range(3000)]
    queue = live(a_fleet(2), foresight=foresight)
    spans = replayed(jobs, queue, 2)
    assert spans[6].start < spans[2900].start


def test_long_waiting_job_is_passed_by_shorter_jobs_then_only_by_limited_ones() -> None:
    wide = a_waiting(1, device="cuda", gpus=2, vram=20 * GIB)._replace(backfill_until=0.0)
    shorter = SMALL._replace(seconds=10.0, forecast=make_forecast([10.0]))
    limited = shorter._replace(forecast=make_forecast([10.0], 3600.0))
    passing = []
    for now in (FIRM_AFTER_S - 60, FIRM_AFTER_S + 60, STRICT_AFTER_S + 60):
        busy = BUSY._replace(ends=now + DAY, forecast=make_forecast([now + DAY]))
        longer = shorter._replace(seconds=DAY + 3600.0)
        (first,) = order_by_policy([wide], now)
        told, _ = decide([first, shorter], [busy], TWO, now)
        assert isinstance(told, Wait)
        assert ("later; no other job may delay it after 1 m" in told.reason) == (now < FIRM_AFTER_S)
        passing.append(
            [
                isinstance(decide([first, job], [busy], TWO, now)[1], Start)
                for job in (longer, shorter, limited)
            ]
        )
    assert passing == [[True, True, True], [False, True, True], [False, False, True]]


@pytest.mark.parametrize(("late_s", "starts"), [(350.0, True), (370.0, False)])
def test_reservation_is_delayed_by_at_most_a_tenth_of_the_waiting_time(
    late_s: float, starts: bool
) -> None:
    wide = a_waiting(1, device="cuda", gpus=2, vram=20 * GIB)._replace(backfill_until=0.0)
    (first,) = order_by_policy([wide], 3600.0)
    later = SMALL._replace(seconds=100 + late_s)
    _, decision = decide([first, later], [BUSY._replace(ends=3700.0)], TWO, 3600.0)
    assert isinstance(decision, Start) == starts


@pytest.mark.parametrize(
    ("now", "starts"), [(FIRM_AFTER_S + 60, True), (STRICT_AFTER_S + 60, False)]
)
def test_firm_reservation_is_not_used_by_other_jobs(now: float, starts: bool) -> None:
    wide = a_waiting(1, device="cuda", gpus=2, vram=10 * GIB)._replace(backfill_until=0.0)
    small = a_waiting(2, device="cuda", vram=4 * GIB)._replace(seconds=9 * DAY)
    soon = BUSY._replace(devices=("GPU-1",), vram=4 * GIB, ends=now + 60)
    (first,) = order_by_policy([wide], now)
    pairs = TWO._replace(rules=SharingRules(max_per_gpu=2))
    told, later = decide([first, small], [BUSY._replace(ends=now + DAY), soon], pairs, now)
    assert isinstance(told, Wait)
    assert isinstance(later, Start) == starts


def test_first_fit_ignores_measured_loads() -> None:
    """Two that fill the card by what was measured are put together by their memory alone."""
    full = GpuLoad(sm=1.0, slowdown=2.5)
    runs = Running(job=9, cpus=1, devices=("GPU-0",), vram=GIB, load=full, since=0.0, ends=50.0)
    job = a_waiting(1, device="cuda", vram=GIB)._replace(load=full, seconds=5.0)
    machine = Machine(cpus=8, gpus=(a_gpu(0),))
    assert isinstance(decide([job], [runs], machine)[0], Wait)
    assert isinstance(decide([job], [runs], machine, 0.0, FIRST_FIT)[0], Start)


def test_reserved_gpu_is_not_used_by_a_job_that_cannot_share_it() -> None:
    """There is memory for both on the card, but beside the later one the first would not start."""
    machine = Machine(cpus=8, gpus=(a_gpu(0, total=24),))
    runs = BUSY._replace(vram=10 * GIB, load=GpuLoad(sm=0.1), ends=100.0)
    busy = GpuLoad(sm=1.0)
    first = a_waiting(1, device="cuda", vram=20 * GIB)._replace(load=busy)
    for later, starts in ((busy, False), (GpuLoad(sm=0.1), True)):
        job = a_waiting(2, device="cuda", vram=GIB)._replace(load=later)
        assert isinstance(decide([first, job], [runs], machine)[1], Start) == starts
        assert isinstance(decide([job], [runs], machine)[0], Start)


@pytest.mark.parametrize("discipline", [FIFO, EASY, SJF, FIRST_FIT])
def test_other_policies_have_no_fair_queueing_of_runs(discipline: SchedulingPolicy) -> None:
    jobs = [a_waiting(number)._replace(run="ab"[number // 4], since=number) for number in range(8)]
    assert order_by_fair_share(jobs, (), now=10.0, policy=discipline) == jobs
    assert order_by_fair_share(jobs, (), now=10.0) != jobs


def test_under_fifo_no_job_passes_one_that_yields_to_another_user() -> None:
    bob = PeerScheduler(
        user="bob", waited_s=10.0, demand=ResourceDemand(since=0.0, gpus=1, vram=20 * GIB)
    )
    machine = TWO._replace(peers=(bob,), use=ResourceUsage(cards=1e6))
    wide = a_waiting(1, device="cuda", gpus=2, vram=20 * GIB)
    ours = decide([wide, SMALL], [], machine, 0.0, DEFAULT_POLICY)
    assert [type(each) for each in ours] == [Wait, Start]
    assert [type(each) for each in decide([wide, SMALL], [], machine, 0.0, FIFO)] == [Wait, Wait]


def test_time_limit_never_delays_a_job() -> None:
    forecast = make_forecast([], 10 * 365 * 86_400.0)
    limited = a_waiting(1)._replace(forecast=forecast, seconds=forecast.quantile(0.75))
    assert job_length_s(limited) == job_length_s(a_waiting(2)) == USUAL_S
    brief = make_forecast([], 300.0)
    assert job_length_s(a_waiting(1)._replace(forecast=brief, seconds=300.0)) == 300.0


def test_low_priority_jobs_are_ordered_by_length_after_all_others() -> None:
    """Their wait is counted from days ahead: a ratio of that put the longest first."""
    now = 1e9

    def job(number: int, priority: int, seconds: float) -> Waiting:
        since = rank_of(now - 60.0, priority)
        return a_waiting(number, seconds=seconds)._replace(since=since, priority=priority)

    line = [
        job(0, -1, 1000 * DAY), job(1, -1, 60.0), job(2, -2, 60.0), job(3, 0, 1000 * DAY),
        job(4, -1, 3600.0), job(5, 0, 60.0), job(6, -2**31, 60.0), job(7, 2**31, DAY),
    ]  # fmt: skip
    patient = [each._replace(backfill_until=inf) for each in line]
    assert [each.job for each in order_by_policy(patient, now)] == [7, 5, 3, 1, 4, 0, 2, 6]
    later = [each.job for each in order_by_policy(patient, now + 2 * DAY)]
    assert later[:3] == [7, 5, 1], "its day is over"
