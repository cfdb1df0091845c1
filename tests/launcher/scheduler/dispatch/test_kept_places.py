"""For a job that fits nowhere a place is kept on one pilot, not on each of them."""

import pytest

from launcher.backends.channel import Run
from launcher.scheduler.placement import CHOSEN_S, KeptPlaces
from launcher.scheduler.policy.disciplines import EASY
from launcher.scheduler.policy.model import Wait
from launcher.states import Done
from tests.build import a_spec
from tests.launcher.scheduler.dispatch.conftest import NOW, Office
from tests.launcher.scheduler.remote.toy_cluster import ToyClock


@pytest.fixture
def clock() -> ToyClock:
    return ToyClock()


def turn(places: KeptPlaces, **free_at: float) -> None:
    """Have a turn in which these pilots keep a place for job 1, where they may."""
    places.begin()
    for token, at in free_at.items():
        if places.may_keep(1, token):
            places.note(token, [Wait(job=1, reason="", kept_until=at)])


def keepers(places: KeptPlaces, *tokens: str) -> list[str]:
    return [token for token in tokens if places.may_keep(1, token)]


def test_the_pilot_that_is_free_first_keeps_the_place(clock: ToyClock) -> None:
    places = KeptPlaces(clock)
    turn(places, a=50.0, b=20.0, c=70.0)
    places.begin()
    assert keepers(places, "a", "b", "c") == ["b"]


def test_it_stays_there_until_all_are_compared_anew(clock: ToyClock) -> None:
    places = KeptPlaces(clock)
    turn(places, a=50.0, b=20.0)
    turn(places, a=10.0, b=20.0)
    assert keepers(places, "a", "b") == ["b"]
    clock.now += CHOSEN_S
    turn(places, a=10.0, b=20.0)
    turn(places, a=10.0, b=20.0)
    assert keepers(places, "a", "b") == ["a"]


def test_a_pilot_that_is_lost_keeps_nothing(clock: ToyClock) -> None:
    places = KeptPlaces(clock)
    turn(places, a=50.0, b=20.0)
    turn(places, a=50.0, b=20.0)
    turn(places, a=50.0)  # b is gone
    turn(places, a=50.0)
    turn(places, a=50.0)
    assert keepers(places, "a") == ["a"]


def test_a_job_behind_a_wide_one_starts_on_the_pilot_that_keeps_no_place(office: Office) -> None:
    first, second = office.pilot("lp-1"), office.pilot("lp-2")
    job, *_ = office.queue("box", jobs=3)
    office.decide()
    office.end(first, f"{job}-1", Done(at=NOW))
    office.news()
    office.queue("box", spec=a_spec(cpus=2), group="wide", retries=1)
    (narrow,) = office.queue("box", group="narrow")
    first.orders(), second.orders()
    office.decide(discipline=EASY)
    assert (first.orders(), second.orders()) == ([], [])  # each might keep it
    office.decide(discipline=EASY)
    assert (first.orders(), second.orders()) == ([], [Run(attempt=f"{narrow}-1")])
