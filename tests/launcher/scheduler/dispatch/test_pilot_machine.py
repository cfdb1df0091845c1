"""Which jobs a pilot has time for: limits are kept, guesses keep no job from every pilot there could be."""

import pytest

from launcher.backends.channel import Hello
from launcher.scheduler.placement import unfit
from launcher.scheduler.policy.model import Waiting
from tests.launcher.scheduler.dispatch.test_demand import lane
from tests.launcher.scheduler.remote.toy_pilot import HELLO

NOW, HOUR = 1e9, 3600.0


def a_pilot(left_h: float, whole_h: float = 10.0) -> Hello:
    until = NOW + left_h * HOUR
    return HELLO._replace(began=until - whole_h * HOUR, until=until)


def why(hello: Hello, *, took_h: float | None = None, limit_h: float | None = None) -> str:
    asked = lane(1).lane
    job = Waiting(
        job=1, resources=asked.resources, seconds=None if took_h is None else took_h * HOUR
    )
    limited = asked._replace(limit=None if limit_h is None else limit_h * HOUR)
    return unfit(limited, job, hello, hello.until, NOW)


def test_what_is_expected_to_take_longer_than_is_left_waits_for_a_pilot_with_more_time() -> None:
    assert why(a_pilot(left_h=5), took_h=4) == (
        "is expected to run for up to 6 h, and this pilot ends in 5 h"
    )
    assert why(a_pilot(left_h=7), took_h=4) == ""


@pytest.mark.parametrize("took_h", [7, 12, 1000])
def test_what_no_pilot_has_time_for_by_a_guess_starts_on_a_new_one(took_h: float) -> None:
    assert "is expected to run" in why(a_pilot(left_h=8), took_h=took_h)
    assert why(a_pilot(left_h=9.9), took_h=took_h) == ""


def test_a_limit_is_no_guess() -> None:
    assert "may run for 11 h" in why(a_pilot(left_h=10), limit_h=11)


def test_of_a_pilot_whose_beginning_is_not_known_a_guess_counts() -> None:
    assert "is expected to run" in why(a_pilot(left_h=10)._replace(began=None), took_h=9)
