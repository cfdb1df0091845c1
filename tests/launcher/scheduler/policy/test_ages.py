"""A wall clock that is set by years while jobs wait and run changes nothing for them."""

import pytest

from launcher.scheduler.policy.decide import decide
from launcher.scheduler.policy.disciplines import LONGEST_S, Ages, arranged, response_ratio
from launcher.scheduler.policy.model import (
    Decision,
    Forecast,
    Machine,
    Running,
    Start,
    Wait,
    Waiting,
    forecast_of,
)
from tests.build import GIB, a_gpu, a_waiting

YEARS = 30 * 365 * 86_400.0
NOW = 1.8e9
MACHINE = Machine(cpus=4, ram=8 * GIB, ram_free=8 * GIB, gpus=(a_gpu(total=24),))
WIDE = a_waiting(1, device="cuda", min_vram=20 * GIB)._replace(since=NOW - 100, seconds=50.0)
SMALL = a_waiting(2, device="cuda", min_vram=GIB)._replace(since=NOW - 10, seconds=500.0)
RUNS = Running(
    job=9,
    cpus=1,
    devices=("GPU-0",),
    reservation=10 * GIB,
    since=NOW - 300,
    ends=NOW + 300,
    forecast=forecast_of([600.0]),
)


def decided(ages: Ages, now: float, steady: float) -> tuple[list[Waiting], list[Decision]]:
    line, running = ages.corrected([WIDE, SMALL], [RUNS], now=now, steady=steady)
    line = arranged(line, now)
    return line, decide(line, running, MACHINE, now)


def _at_moved_clock(decision: Decision, jump: float) -> Decision:
    """Return what is decided by a clock that was set: a place is kept until another moment."""
    if isinstance(decision, Wait) and decision.kept_until is not None:
        return decision._replace(kept_until=decision.kept_until + jump)
    return decision


@pytest.mark.parametrize("jump", [YEARS, -YEARS], ids=["forward", "back"])
def test_what_is_decided_stays_the_same_when_the_clock_is_set(jump: float) -> None:
    ages, still = Ages(), Ages()
    before = decided(ages, NOW, 5000.0)
    assert before == decided(still, NOW, 5000.0)
    line, decisions = decided(ages, NOW + jump + 7, 5007.0)
    unmoved, expected = decided(still, NOW + 7, 5007.0)
    assert decisions == [_at_moved_clock(each, jump) for each in expected]
    assert [job.job for job in line] == [job.job for job in unmoved]
    assert [round(NOW + jump + 7 - job.since) for job in line] == [
        round(NOW + 7 - job.since) for job in unmoved
    ]


@pytest.mark.parametrize("stamp", [NOW + YEARS, NOW - YEARS], ids=["the future", "the past"])
def test_what_was_queued_under_a_wrong_clock_counts_as_new_and_ages_from_then_on(
    stamp: float,
) -> None:
    ages, job = Ages(), WIDE._replace(since=stamp)
    ratios = []
    for second in (0.0, 100.0, 200.0):
        ((job_now,), _) = ages.corrected([job], [], now=NOW + second, steady=second)
        ratios.append(response_ratio(job_now, NOW + second))
    assert ratios[0] == pytest.approx(1)
    assert ratios == sorted(set(ratios))


def test_times_that_can_be_true_are_left_as_they_are() -> None:
    old = WIDE._replace(since=NOW - LONGEST_S + 1)
    later = SMALL._replace(since=NOW + 400 * 86_400, priority=-400)
    line, running = Ages().corrected([old, later], [RUNS], now=NOW, steady=1.0)
    assert line == [old, later]
    assert running == [RUNS]


def test_who_is_gone_is_forgotten() -> None:
    ages = Ages()
    ages.corrected([WIDE], [RUNS], now=NOW, steady=0.0)
    ages.corrected([], [], now=NOW, steady=1.0)
    ((job,), _) = ages.corrected([WIDE], [], now=NOW + YEARS, steady=2.0)
    assert job.since == NOW + YEARS


@pytest.mark.parametrize("now", [NOW - YEARS, NOW, NOW + YEARS])
@pytest.mark.parametrize("ends", [NOW - YEARS, NOW + YEARS, None])
def test_the_pure_decision_is_made_whatever_the_times_are(now: float, ends: float | None) -> None:
    running = [RUNS._replace(ends=ends)]
    decisions = decide(arranged([WIDE, SMALL], now), running, MACHINE, now)
    assert {decision.job for decision in decisions} == {1, 2}
    wide = next(decision for decision in decisions if decision.job == 1)
    assert isinstance(wide, Wait)
    assert "needs 20 GiB; cuda:0 has 24 GiB free" in wide.reason
    (alone,) = decide([WIDE], [], MACHINE, now)
    assert isinstance(alone, Start)


@pytest.mark.parametrize("limit", [1.0, 10 * 365 * 86_400.0], ids=["1 s", "10 years"])
def test_a_time_limit_of_a_second_and_one_of_ten_years_delay_nobody_for_ever(limit: float) -> None:
    forecast = Forecast(limit=limit)
    run = RUNS._replace(forecast=forecast, ends=forecast.end(NOW - 300, NOW))
    small = SMALL._replace(forecast=forecast, seconds=forecast.quantile(0.75))
    wide, other = decide([WIDE, small], [run], MACHINE, NOW)
    assert isinstance(wide, Wait)
    assert "room on cuda:0 " in wide.reason
    # the small one fits beside the wide one in any case
    assert isinstance(other, Start)
