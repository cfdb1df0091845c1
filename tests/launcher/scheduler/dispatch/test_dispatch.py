"""Which jobs go to which pilots, and why others wait."""

import pytest

from launcher.backends.channel import Run
from launcher.scheduler.turn import Reasons, Requests, TurnResult
from launcher.states import ReasonCode
from tests.build import a_spec
from tests.launcher.scheduler.dispatch.conftest import Office


def text(reasons: Reasons) -> str:
    (reason,) = [reason for reason in reasons.values() if reason is not None]
    return reason.text


def test_jobs_start_on_a_pilot_while_it_has_cores_and_the_rest_is_told_why_it_waits(
    office: Office,
) -> None:
    pilot = office.pilot()
    first, second, _ = office.queue("box", jobs=3)
    reasons = office.decide()
    assert pilot.orders() == [Run(attempt=f"{first}-1"), Run(attempt=f"{second}-1")]
    assert text(reasons) == "box: needs 1 core, 0 of 2 free"
    assert [claim.pilot for claim in office.store.scheduling.claims()] == ["lp-1", "lp-1"]
    assert text(office.decide()) == "box: all 2 cores of its pilot are busy"


def test_second_pilot_gets_what_the_first_one_cannot_take(office: Office) -> None:
    pilots = [office.pilot("lp-1"), office.pilot("lp-2")]
    office.queue("box", jobs=3)
    assert [*office.decide().values()] == [None]
    assert [len(pilot.orders()) for pilot in pilots] == [2, 1]


def test_job_runs_only_where_it_may(office: Office) -> None:
    office.pilot(backend="farm")
    office.queue("box")
    assert text(office.decide(here=9)) == "box: its first pilot is about to be submitted"
    assert not office.started_here


def test_backend_says_why_it_has_no_pilot(office: Office) -> None:
    office.fleet.why["box"] = "2 pilots wait in box: Resources"
    office.queue("box")
    reasons = office.decide()
    assert text(reasons) == "box: 2 pilots wait in box: Resources"
    assert [reason and reason.code for reason in reasons.values()] == [ReasonCode.NO_PILOT]


def test_place_that_is_named_first_is_asked_first(office: Office) -> None:
    pilot = office.pilot()
    (first,) = office.queue("local", "box")
    office.decide(here=1)
    assert (office.started_here, pilot.orders()) == ([first], [])


def test_what_finds_no_room_in_the_first_place_starts_in_the_next_one(office: Office) -> None:
    pilot = office.pilot()
    first, second = office.queue("local", "box", jobs=2)
    office.decide(here=1)
    assert office.started_here == [first]
    assert pilot.orders() == [Run(attempt=f"{second}-1")]


def test_job_that_may_run_in_two_places_is_told_of_both(office: Office) -> None:
    office.queue("box", "farm", spec=a_spec(cpus=3))
    assert text(office.decide()) == (
        "box: needs 3 cores, and a pilot of box has 2; raise `cpus` in [backends.box]; "
        "farm: its first pilot is about to be submitted"
    )


def test_backend_that_was_taken_out_of_the_configuration_is_named(office: Office) -> None:
    office.queue("gone")
    assert text(office.decide()) == (
        "gone: config.toml has no table [backends.gone] any more; add it, or cancel the job"
    )


def test_job_with_a_limit_that_ends_after_its_pilot_is_not_sent_there(office: Office) -> None:
    office.pilot(until=1000.0 + 60.0)
    office.queue("box", time_limit_s=61.0)
    assert text(office.decide()) == "box: may run for 1 m 1 s, and this pilot ends in 1 m"
    (job,) = office.queue("box", time_limit_s=60.0, retries=1)
    office.decide()
    assert [claim.job for claim in office.store.scheduling.claims()] == [job]


def test_job_gets_the_cores_that_it_asks_for_or_waits(office: Office) -> None:
    office.pilot(cpus=1)
    office.queue("box", spec=a_spec(cpus=2))
    assert text(office.decide()) == "box: needs 2 cores, and this pilot has 1"


def test_pilot_with_troubles_gets_nothing(office: Office) -> None:
    pilot = office.pilot(troubles=("/data is not seen",))
    office.queue("box")
    office.decide()
    assert pilot.orders() == []


def test_limit_of_a_group_holds_over_all_machines(office: Office) -> None:
    office.limits["few"] = 1
    pilots = [office.pilot("lp-1"), office.pilot("lp-2")]
    office.queue("box", jobs=3, group="few")
    assert text(office.decide()) == "box: group 'few' runs 1 of at most 1"
    assert text(office.decide()) == "box: group 'few' runs 1 of at most 1"
    assert [len(pilot.orders()) for pilot in pilots] == [1, 0]


def test_fleet_learns_how_much_work_waits_and_where_attempts_are(office: Office) -> None:
    office.pilot()
    office.queue("box", jobs=5)
    office.decide()
    office.dispatch.order_pilots(Requests(), TurnResult())
    demand, busy = office.fleet.turns[-1]
    assert (demand["box"].jobs, demand["box"].pilots) == (3, 2)
    assert demand["box"].paths == ("/",)  # the folder of a program
    assert busy == {"lp-1": 2}


@pytest.mark.parametrize(
    ("cwd", "paths"), [("", {"/", "/nowhere"}), ("/data", {"/data", "/nowhere"}), ("{job_folder}", {"/nowhere"})]
)  # fmt: skip
def test_a_node_must_see_the_project_of_a_program_with_a_folder_of_its_own(
    office: Office, cwd: str, paths: set[str]
) -> None:
    settings = {"cwd": cwd, "env": {"OUT": "{job_folder}"}}
    office.queue("box", spec=a_spec(settings=settings))
    office.decide()
    office.dispatch.order_pilots(Requests(), TurnResult())
    assert {*office.fleet.turns[-1][0]["box"].paths} == paths


def test_nothing_is_asked_of_anyone_for_jobs_of_this_machine(office: Office) -> None:
    office.queue()
    assert not office.dispatch.concerns(job.lane for job in office.store.scheduling.ready(9))
    assert not office.dispatch.hearing.hear()


def test_work_that_comes_right_after_a_count_is_counted_all_the_same(office: Office) -> None:
    office.dispatch.order_pilots(Requests(), TurnResult())
    office.queue("box")
    office.decide()
    office.dispatch.order_pilots(Requests(), TurnResult())
    demand, _ = office.fleet.turns[-1]
    assert demand["box"].jobs == 1
    office.queue("box", jobs=2, retries=1)  # of the same lane: it is looked at soon again
    office.decide()
    result = TurnResult()
    office.dispatch.order_pilots(Requests(), result)
    assert result.look_again_s <= 0.5


def test_work_that_has_found_its_place_asks_for_no_further_pilot(office: Office) -> None:
    office.queue("box")
    office.decide()
    office.dispatch.order_pilots(Requests(), TurnResult())
    office.pilot()
    office.decide()
    office.dispatch.order_pilots(Requests(), TurnResult())
    waiting = [
        {name: demand.jobs for name, demand in turn.items()} for turn, _ in office.fleet.turns
    ]
    assert waiting == [{"box": 1}, {}]
