"""The lower bound against cases that were worked out by hand."""

import pytest

from launcher.simulate.lower_bound import lower_bound
from tests.launcher.simulate.worlds import GIB, a_fleet, a_job

ONE = a_fleet(1).totals


def test_nobody_is_faster_than_the_longest_chain() -> None:
    jobs = [a_job(0, 10), a_job(1, 5, needs=(0,)), a_job(2, 4, needs=(1,), at=30), a_job(3, 8)]
    assert lower_bound(jobs, a_fleet(50).totals, slowdown=1.3, most=2) == 34


def test_without_sharing_a_card_does_a_second_of_work_in_a_second() -> None:
    jobs = [a_job(index, 10, gpus=2) for index in range(3)]
    assert lower_bound(jobs, a_fleet(4).totals, slowdown=1.3, most=1) == 15


def test_pairs_are_as_fast_as_the_slowdown_allows() -> None:
    jobs = [a_job(index, 10) for index in range(4)]
    assert lower_bound(jobs, ONE, slowdown=1.3, most=2) == pytest.approx(26)
    assert lower_bound(jobs, ONE, slowdown=2.5, most=2) == 40, "then none is faster than one by one"


def test_what_takes_more_than_half_of_a_card_never_meets_its_like() -> None:
    large, small = [a_job(index, 10, gib=13) for index in range(3)], a_job(3, 10, gib=11)
    # one of the large ones runs beside the small one for 13 s, two run alone
    assert lower_bound([*large, small], ONE, slowdown=1.3, most=2) == pytest.approx(33)
    tight = a_job(3, 10, gib=12)
    assert lower_bound([*large, tight], ONE, slowdown=1.3, most=2) == pytest.approx(36.5), (
        "nothing fits beside them, and the small one counts as its own neighbour"
    )


def test_more_neighbours_are_counted_only_where_memory_has_room_for_them() -> None:
    jobs = [a_job(index, 10, gib=12) for index in range(4)]
    assert lower_bound(jobs, ONE, slowdown=1.2, most=3) == pytest.approx(24), "two at most"
    small = [a_job(index, 10, gib=8) for index in range(4)]
    assert lower_bound(small, ONE, slowdown=1.2, most=3) == pytest.approx(40 * 1.44 / 3)


def test_work_that_comes_late_cannot_be_done_early() -> None:
    jobs = [a_job(0, 10), *(a_job(index, 10, at=100) for index in range(1, 5))]
    assert lower_bound(jobs, ONE, slowdown=1.3, most=1) == 140


def test_what_only_the_large_cards_hold_is_theirs_to_do() -> None:
    jobs = [a_job(index, 10, gib=60) for index in range(4)]
    totals = (80 * GIB, *a_fleet(9).totals)
    assert lower_bound(jobs, totals, slowdown=1.3, most=2) == 40


def test_a_job_that_has_no_time_for_company_has_its_card_for_itself() -> None:
    # until 100 the long one could do all of its work alone; the others fill the other card in pairs
    jobs = [a_job(0, 100), *(a_job(index, 10) for index in range(1, 21))]
    cards = a_fleet(2).totals
    assert 300 * 0.65 / 2 == 97.5, "as if the long one did half of its work in company"
    # at T it does at most (T - 100) / 0.3 there: 100 + 200 × 0.65 - 0.35 × (T - 100) / 0.3 = 2 T
    assert lower_bound(jobs, cards, slowdown=1.3, most=2) == pytest.approx(
        (230 + 0.35 / 0.3 * 100) / (2 + 0.35 / 0.3)
    )


def test_a_slowdown_of_nothing_leaves_time_for_any_company() -> None:
    jobs = [a_job(index, 10) for index in range(4)]
    assert lower_bound(jobs, ONE, slowdown=1.0, most=2) == 20
