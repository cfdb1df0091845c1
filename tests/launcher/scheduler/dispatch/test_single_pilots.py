"""Plain mode: a pilot for one job gets one, and is told to leave behind it."""

from launcher.backends.channel import Leave, Run
from launcher.backends.settings import Backends
from launcher.scheduler.dispatch import demands
from launcher.scheduler.turn import Requests, TurnResult
from launcher.states import Done
from tests.build import a_spec
from tests.launcher.scheduler.dispatch.conftest import Office
from tests.launcher.scheduler.dispatch.test_demand import BOX, lane


def plain(office: Office) -> None:
    """Have a backend whose pilots are for one job each."""
    settings = office.backends.by_name["box"]._replace(pilot=False)
    office.backends = Backends(by_name={**office.backends.by_name, "box": settings})


def test_a_pilot_gets_one_job_though_it_has_room_for_two_and_leaves_behind_it(
    office: Office,
) -> None:
    plain(office)
    pilot = office.pilot(single=True)
    first, _ = office.queue("box", jobs=2)
    office.decide()
    assert pilot.orders() == [Run(attempt=f"{first}-1"), Leave()]
    office.decide()
    assert pilot.orders() == []


def test_a_pilot_whose_job_has_just_ended_gets_no_other_one(office: Office) -> None:
    plain(office)
    pilot = office.pilot(single=True)
    first, _ = office.queue("box", jobs=2)
    office.decide()
    pilot.orders()
    office.end(pilot, f"{first}-1", Done(at=1.0))
    assert [job for job, _ in office.news()] == [first]
    office.decide()  # the fleet, which looks at its pilots now and then, lists it still
    assert pilot.orders() == []


def test_each_pilot_gets_its_own_job_in_the_order_of_the_queue(office: Office) -> None:
    plain(office)
    pilots = [office.pilot(f"lp-{number}", single=True) for number in range(3)]
    jobs = office.queue("box", jobs=5)
    office.decide()
    runs = [pilot.orders()[0] for pilot in pilots]
    assert runs == [Run(attempt=f"{job}-1") for job in jobs[:3]]


def test_a_job_behind_one_that_does_not_fit_gets_the_pilot(office: Office) -> None:
    plain(office)
    pilot = office.pilot(single=True, cpus=1)
    office.queue("box", spec=a_spec(cpus=2))
    (second,) = office.queue("box", group="other")
    office.decide()
    assert pilot.orders() == [Run(attempt=f"{second}-1"), Leave()]


def test_what_got_a_place_asks_for_no_further_pilot_at_once(office: Office) -> None:
    plain(office)
    office.queue("box", jobs=3)
    office.decide()
    office.dispatch.order_pilots(Requests(), TurnResult())
    asked, _ = office.fleet.turns[-1]
    assert asked["box"].pilots == 2  # at most, as the table says
    for number in range(3):
        office.pilot(f"lp-{number}", single=True)
    office.decide()
    office.dispatch.order_pilots(Requests(), TurnResult())
    asked, busy = office.fleet.turns[-1]
    assert not asked
    assert sorted(busy.values()) == [1, 1, 1]


def test_as_many_pilots_as_jobs_wait() -> None:
    settings = BOX._replace(pilot=False, pilots=1000)
    demand = demands([lane(700), lane(500, cpus=4)], {"box": settings}, {})["box"]
    assert (demand.pilots, demand.slots) == (1000, 1)
