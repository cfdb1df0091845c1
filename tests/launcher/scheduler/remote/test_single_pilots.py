"""Plain mode, `pilot = "off"`: pilots for one job each, as many in the engine's queue as jobs wait."""

from functools import partial
from pathlib import Path

import pytest

from launcher.backends.channel import Leave
from launcher.backends.fleet import NEXT_HEARD
from launcher.backends.pilot_rules import MOST_ELEMENTS, TRIES, Demand, Pace
from launcher.backends.protocol import Stage
from launcher.backends.settings import Backends
from tests.launcher.scheduler.remote.toy_cluster import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, pilot=False, pilots=100)


def serve(world: World, token: str) -> None:
    """Have a pilot speak, get its job, and be sent away behind it, as dispatch does."""
    world.cluster.run(token)
    world.by_token[token].speak(world.clock.now)
    world.by_token[token].send(Leave())


def test_as_many_pilots_wait_as_jobs_do_and_they_are_elements_of_one_array(world: World) -> None:
    world.need(12, slots=1)
    world.turn()
    name, _, _ = world.cluster.submitted[0].rpartition("_")
    assert world.cluster.submitted == [f"{name}_{number}" for number in range(12)]
    assert world.by_token[f"{name}_7"].spec.single
    assert world.records() == sorted(world.cluster.submitted)


def test_one_job_alone_gets_a_pilot_of_its_own(world: World) -> None:
    world.need(1)
    world.turn()
    (token,) = world.cluster.submitted
    assert "_" not in token


def test_an_array_is_one_submission_and_jobs_that_come_later_are_the_next_one(world: World) -> None:
    world.need(50)
    world.turn()
    world.need(70)
    world.turn()
    assert len(world.cluster.submitted) == 50
    world.pass_time(15)
    assert len(world.cluster.submitted) == 70
    assert len({token.rpartition("_")[0] for token in world.cluster.submitted}) == 2


def test_never_more_elements_than_an_array_or_the_configuration_allows(world: World) -> None:
    number = partial(Pace.number, demand=Demand(jobs=5000), now=60.0, per_minute=6, single=True)
    assert number(Pace(), held=0, unspoken=0, most=2000) == MOST_ELEMENTS
    assert number(Pace(newest=0.0, proven=True), held=1000, unspoken=0, most=1200) == 200
    world.need(5000)
    world.pass_time(15)
    assert len(world.cluster.submitted) == world.cluster.most_alive == 100


def test_until_one_has_spoken_there_is_no_second_array_of_a_thousand() -> None:
    number = partial(Pace(newest=0.0).number, Demand(jobs=5000), 60.0, held=1000, unspoken=1000)
    assert number(most=5000, per_minute=6, single=True) == 0


def test_a_pilot_that_has_spoken_and_has_no_job_yet_is_not_replaced(world: World) -> None:
    world.need(3)
    world.turn()
    tokens = list(world.cluster.submitted)
    world.cluster.run(*tokens)
    world.pass_time(15, speaking=tokens)
    assert world.cluster.submitted == tokens


def test_a_pilot_that_has_its_job_gets_no_other_one(world: World) -> None:
    world.need(3)
    world.turn()
    first, *others = world.cluster.submitted
    serve(world, first)
    world.need(2)
    world.turn()
    assert first not in [link.folder.token for link in world.fleet.links]
    assert world.cluster.submitted == [first, *others]


def test_the_record_of_a_pilot_with_a_job_survives_a_power_cut(world: World) -> None:
    world.need(2)
    world.turn()
    first, second = world.cluster.submitted
    serve(world, first)
    world.busy = {first: 1}
    world.turn()
    durable = {
        pilot.token: pilot.durable for group in world.fleet._groups.values() for pilot in group.all
    }
    assert durable == {first: True, second: False}


def test_of_hundreds_that_wait_only_the_next_ones_are_listened_to(world: World) -> None:
    world.need(60)
    world.turn()
    tokens = world.cluster.submitted
    world.pass_time(10)
    assert [link.folder.token for link in world.fleet.all_links] == tokens[:NEXT_HEARD]
    world.cluster.run(tokens[50])
    world.pass_time(10)
    heard = [link.folder.token for link in world.fleet.all_links]
    assert heard == [*tokens[:NEXT_HEARD], tokens[50]]


def test_after_three_that_could_not_work_the_others_are_taken_back(world: World) -> None:
    world.cluster.logs = "no module cuda/99"
    world.need(20)
    world.turn()
    tokens = list(world.cluster.submitted)
    world.cluster.end(*tokens[:TRIES])
    world.pass_time(20)
    assert sorted(world.cluster.cancelled) == sorted(tokens[TRIES:])
    assert world.cluster.alive() == []
    assert world.cluster.submitted == tokens
    assert "no module cuda/99" in world.reason
    world.pass_time(60)  # then one is tried
    assert len(world.cluster.submitted) == len(tokens) + 1


def test_pilots_whose_jobs_were_cancelled_are_taken_back(world: World) -> None:
    world.need(10)
    world.turn()
    world.need(4)
    world.pass_time(350)
    assert len(world.cluster.alive()) == 4


def test_a_scheduler_that_begins_anew_finds_all_elements(world: World) -> None:
    world.need(10)
    world.turn()
    tokens = list(world.cluster.submitted)
    world.new_fleet()
    world.pass_time(20)
    assert world.cluster.submitted == tokens
    world.cluster.run(tokens[3])
    world.pass_time(6)
    serve(world, tokens[3])
    world.turn()
    stages = {token: job.stage for token, job in world.cluster.jobs.items()}
    assert stages[tokens[3]] is Stage.RUNNING


def test_a_table_that_is_changed_to_plain_mode_holds_for_the_next_pilots(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.need(1)
    world.turn()
    settings = world.backends.by_name["toy"]._replace(pilot=False, pilots=20)
    world.backends = Backends(by_name={"toy": settings})
    world.need(5)
    world.pass_time(20)
    singles = [link.spec.single for link in world.by_token.values()]
    assert singles == [False, True, True, True, True]


def test_a_scheduler_that_begins_anew_listens_to_all_pilots_that_may_have_a_job(
    world: World,
) -> None:
    world.need(60)
    world.turn()
    tokens = list(world.cluster.submitted)
    world.cluster.run(*tokens)
    for link in world.by_token.values():  # what they say lies in their files, and is not read yet
        link.hello = link.beat = None
    world.new_fleet()
    assert {link.folder.token for link in world.fleet.all_links} == {*tokens}
