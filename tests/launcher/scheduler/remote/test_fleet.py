"""How many pilots there are, when they are submitted, and what becomes of them."""

from pathlib import Path

import pytest

from launcher.backends.protocol import Cause, Observation, Stage
from tests.launcher.scheduler.remote.toy_cluster import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def start(world: World, jobs: int = 3) -> list[str]:
    """Have pilots that run, and speak."""
    world.need(jobs)
    world.turn()
    tokens = list(world.cluster.submitted)
    world.cluster.run(*tokens)
    for token in tokens:
        world.by_token[token].speak(world.clock.now)
    world.need(0)
    world.turn()
    return tokens


def test_work_that_waits_gets_pilots_at_once_and_no_more_than_it_needs(world: World) -> None:
    world.need(3, slots=2)
    world.turn()
    assert len(world.cluster.submitted) == 2
    assert len(world.records()) == 2


def test_never_more_pilots_than_the_configuration_allows(world: World) -> None:
    world.need(100)
    world.pass_time(120)
    assert len(world.cluster.submitted) == world.cluster.most_alive == 3


def test_only_a_pilot_that_has_spoken_gets_work(world: World) -> None:
    world.need(1)
    world.turn()
    (token,) = world.cluster.submitted
    assert not world.fleet.links()
    assert [link.folder.token for link in world.fleet.all_links()] == [token]
    world.by_token[token].speak(world.clock.now)
    world.turn()
    assert [link.folder.token for link in world.fleet.links()] == [token]


def test_what_runs_on_a_pilot_that_ended_is_given_up_after_the_engine_ended_it_for_sure(
    world: World,
) -> None:
    tokens = start(world)
    world.busy = {tokens[0]: 2}
    world.cluster.end(tokens[0], cause=Cause.NODE_FAILED)
    world.pass_time(10, speaking=tokens[1:])
    assert not world.fleet.given_up()  # it may speak yet
    world.pass_time(15, speaking=tokens[1:])
    assert list(world.fleet.given_up()) == [tokens[0]]
    assert "node failed" in world.fleet.given_up()[tokens[0]]
    assert tokens[0] in world.cluster.cancelled
    world.busy = {}
    world.fleet.buried(tokens[0])
    world.turn()
    assert not world.fleet.given_up()
    assert world.records() == sorted(tokens[1:])


def test_a_scheduler_that_begins_anew_finds_all_pilots(world: World) -> None:
    tokens = start(world)
    world.new_fleet()
    assert {link.folder.token for link in world.fleet.all_links()} == set(tokens)
    world.need(100)
    world.pass_time(60, speaking=tokens)
    assert {link.folder.token for link in world.fleet.links()} == set(tokens)
    assert world.cluster.most_alive == 3


def test_an_engine_that_forgot_a_pilot_for_a_moment_changes_nothing(world: World) -> None:
    (token,) = start(world, 1)
    world.cluster.hidden.add(token)
    world.pass_time(25)
    world.cluster.hidden.clear()
    world.pass_time(20)
    assert world.cluster.jobs[token] == Observation(stage=Stage.RUNNING, node="n1")
    assert not world.cluster.cancelled
    world.by_token[token].speak(world.clock.now)
    world.turn()
    assert [link.folder.token for link in world.fleet.links()] == [token]
