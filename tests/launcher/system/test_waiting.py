"""Waits with a time limit end with the awaited value or when the time is up."""

import pytest

from launcher.system.waiting import wait_until


@pytest.mark.parametrize("awaited", [True, 0, ""], ids=repr)
def test_wait_ends_with_the_first_answer_that_is_neither_none_nor_false(awaited: object) -> None:
    answers, pauses = iter([None, False, awaited]), list[float]()
    assert wait_until(lambda: next(answers), 60.0, 0.5, sleep=pauses.append) is awaited
    assert pauses == [0.5, 0.5]


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
def test_wait_without_time_looks_once(timeout_s: float) -> None:
    answers = iter([False])
    assert wait_until(lambda: next(answers), timeout_s, 1.0) is False


def test_wait_looks_again_when_its_time_is_up_and_never_sleeps_longer() -> None:
    counted = list[int]()
    assert wait_until(lambda: counted.append(1), 0.05, 3600.0) is None
    assert len(counted) == 2
