"""How long the queue is reckoned to be: for so long jobs are passed, so nothing may blow it up."""

import pytest

from launcher.scheduler.policy.disciplines import queue_length
from launcher.scheduler.policy.model import Machine, Running, forecast_of
from tests.build import a_waiting

HOUR, TEN_YEARS = 3600.0, 10 * 365 * 86_400.0
MACHINE = Machine(cpus=8)


def test_a_limit_of_ten_years_makes_no_queue_of_ten_years() -> None:
    limit = forecast_of([], TEN_YEARS)
    runs = Running(cpus=8, since=0.0, ends=TEN_YEARS, forecast=limit)
    job = a_waiting(1, cpus=8)._replace(forecast=limit, seconds=TEN_YEARS)
    assert queue_length([(job, 3)], [runs], MACHINE, HOUR) == pytest.approx(3 * 2 * HOUR + HOUR)


def test_a_limit_of_a_second_bounds_what_is_expected() -> None:
    limit = forecast_of([HOUR], 1.0)
    runs = Running(cpus=8, since=0.0, ends=1.0, forecast=limit)
    job = a_waiting(1, cpus=8)._replace(forecast=limit, seconds=1.0)
    assert queue_length([(job, 3)], [runs], MACHINE, 0.5) == pytest.approx(3.5)


def test_many_that_run_and_of_which_none_has_ended_are_no_reason_to_expect_their_sum() -> None:
    runs = [Running(cpus=1, since=0.0) for _ in range(8)]
    length_s = queue_length([(a_waiting(1, cpus=1), 8)], runs, MACHINE, 2 * HOUR)
    assert length_s == pytest.approx(4 * HOUR + 2 * HOUR), "as long again: 4 h in all each"


def test_who_runs_longer_than_most_of_its_like_is_expected_to_go_on_like_the_longest() -> None:
    known = forecast_of([HOUR, HOUR, HOUR, 10 * HOUR])
    runs = Running(cpus=8, since=0.0, ends=HOUR, forecast=known)
    assert queue_length([], [runs], MACHINE, 2 * HOUR) == pytest.approx(8 * HOUR)


@pytest.mark.parametrize("since", [None, float("nan"), float("inf"), -float("inf")])
def test_times_that_cannot_be_count_for_nothing(since: float | None) -> None:
    runs = Running(cpus=8, since=since, forecast=forecast_of([HOUR]))
    assert queue_length([(a_waiting(1, cpus=8), 1)], [runs], MACHINE, 0.0) >= HOUR


def test_a_duration_of_no_time_is_one_and_what_is_no_duration_is_none() -> None:
    measured = [2.0, 0.0, 0.5, -1.0, float("inf"), float("nan")]
    assert forecast_of(measured, 0.0).seconds == (0.0, 0.5, 2.0)
    assert [forecast_of((), limit).limit for limit in (0.0, -1.0, float("inf"), 3.0)] == [
        None,
        None,
        None,
        3.0,
    ]
