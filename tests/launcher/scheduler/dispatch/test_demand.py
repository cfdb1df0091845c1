"""How many pilots the work could use that waits, for which of it a pilot has time, and pilots for one job each."""

import pytest

from launcher.backends.channel import Hello, Leave, Run
from launcher.backends.pilot_rules import Demand
from launcher.backends.settings import Backends, BackendSettings
from launcher.context import WorkerEnvironment
from launcher.job import Resources
from launcher.scheduler.dispatch import WaitingLane, demands
from launcher.scheduler.placement import unfit
from launcher.scheduler.policy.model import Waiting
from launcher.states import Done
from launcher.store.rows import Lane
from tests.build import a_spec
from tests.launcher.scheduler.dispatch.conftest import Office
from tests.launcher.scheduler.remote.toy_cluster import HELLO

# --- how many pilots the work could use that waits


BOX = BackendSettings(name="box", kind="local", cpus=4, gpus=2, pilots=3, time_s=3600.0)
FARM = BackendSettings(name="farm", kind="slurm", cpus=8, pilots=2)


def lane(
    jobs: int,
    *on: str,
    group: str = "",
    limit: float | None = None,
    paths: tuple[str, ...] = (),
    **asked: object,
) -> WaitingLane:
    resources = Resources(**{"device": "cpu", **asked})  # type: ignore[arg-type]
    wanted = Lane(
        group=group,
        resources=resources,
        environment=WorkerEnvironment(),
        on=on or ("box",),
        limit=limit,
    )
    return WaitingLane(lane=wanted, jobs=jobs, paths=paths)


def pilots(*lanes: WaitingLane, **left: int) -> dict[str, int]:
    wanted = demands(lanes, {"box": BOX, "farm": FARM}, left)
    return {name: demand.pilots for name, demand in wanted.items()}


def test_as_many_pilots_as_the_jobs_fill() -> None:
    assert pilots(lane(1)) == {"box": 1}
    assert pilots(lane(4)) == {"box": 1}
    assert pilots(lane(5)) == {"box": 2}
    assert pilots(lane(2, cpus=3)) == {"box": 2}


def test_gpus_count_as_cores_do() -> None:
    assert pilots(lane(4, device="cuda")) == {"box": 2}
    assert pilots(lane(2, device="cuda", gpus=2)) == {"box": 2}


def test_what_one_backend_cannot_run_at_once_is_work_for_the_next_one() -> None:
    assert pilots(lane(20, "box", "farm")) == {"box": 3, "farm": 1}
    assert pilots(lane(20, "farm", "box")) == {"farm": 2, "box": 1}


def test_job_that_no_pilot_can_hold_asks_for_none() -> None:
    assert pilots(lane(3, cpus=5)) == {}
    assert pilots(lane(3, gpus=3, device="cuda")) == {}
    assert pilots(lane(3, limit=7200.0)) == {}
    assert pilots(lane(3, "box", "farm", cpus=5)) == {"farm": 2}


def test_job_of_a_backend_that_is_not_configured_asks_for_none() -> None:
    assert pilots(lane(3, "elsewhere")) == {}
    assert pilots(lane(3, "local")) == {}


def test_group_that_is_full_asks_for_none() -> None:
    assert pilots(lane(9, group="few"), few=0) == {}
    assert pilots(lane(9, group="few"), lane(9, group="few", cpus=2), few=4) == {"box": 1}


def test_demand_tells_what_its_jobs_need_to_see_once() -> None:
    wanted = demands(
        [lane(1, paths=("/a", "/b")), lane(1, paths=("/a",), cpus=2)], {"box": BOX}, {}
    )
    assert wanted == {"box": Demand(jobs=2, slots=2, paths=("/a", "/b"))}


def test_paths_are_those_of_the_nodes() -> None:
    box = BOX._replace(paths={"/local": "/shared"})
    wanted = demands([lane(1, paths=("/local/lab", "/b"))], {"box": box}, {})
    assert wanted["box"].paths == ("/shared/lab", "/b")


def test_interpreter_that_is_to_be_seen_is_that_of_the_nodes() -> None:
    job = lane(1)._replace(interpreter="/local/bin/python")
    shared = BOX._replace(paths={"/local": "/shared"})
    for box, paths in [
        (BOX, ("/local/bin/python",)),
        (shared, ("/shared/bin/python",)),
        (shared._replace(python="/opt/bin/python"), ("/opt/bin/python",)),
        (shared._replace(python="python3"), ()),  # found on the node by its PATH
    ]:
        assert demands([job], {"box": box}, {})["box"].paths == paths


# --- which jobs a pilot has time for: limits are kept, guesses keep no job from every pilot there could be


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


# --- plain mode: a pilot for one job gets one, and is told to leave behind it


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
    asked, _ = office.ordered()
    assert asked["box"].pilots == 2  # at most, as the table says
    for number in range(3):
        office.pilot(f"lp-{number}", single=True)
    office.decide()
    asked, busy = office.ordered()
    assert not asked
    assert sorted(busy.values()) == [1, 1, 1]


def test_as_many_pilots_as_jobs_wait() -> None:
    settings = BOX._replace(pilot=False, pilots=1000)
    demand = demands([lane(700), lane(500, cpus=4)], {"box": settings}, {})["box"]
    assert (demand.pilots, demand.slots) == (1000, 1)
