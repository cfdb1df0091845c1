"""What an engine refuses for good: nothing is left of it, and a change of config.toml is tried soon."""

from pathlib import Path

import pytest

from launcher.backends.backend_pilots import CHANGED_S
from launcher.backends.settings import Backends
from tests.launcher.scheduler.remote.toy_cluster import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, pilots=1)
    world.cluster.refuses, world.cluster.for_good = "invalid partition specified: gpus", True
    world.need(1)
    world.turn()
    return world


def folders(world: World) -> list[Path]:
    return list((world.home.folder / "pilots").glob("launcher-*"))


def test_a_refused_pilot_keeps_nobodys_place_and_leaves_nothing(world: World) -> None:
    assert "took no pilot: invalid partition specified: gpus" in world.reason
    assert folders(world) == []
    assert not world.fleet.all_links


def test_after_the_configuration_was_mended_the_next_one_is_submitted_at_once(
    world: World,
) -> None:
    assert world.fleet.due_s() <= CHANGED_S
    world.cluster.refuses = ""
    settings = world.backends.by_name["toy"]._replace(partition="main")
    world.backends = Backends(by_name={"toy": settings})
    world.pass_time(CHANGED_S)
    assert len(world.cluster.submitted) == 1
    assert "took no pilot" not in world.reason


def test_a_pilot_that_may_have_been_taken_all_the_same_keeps_its_place(world: World) -> None:
    world.cluster.for_good, world.cluster.takes_all_the_same = False, True
    world.pass_time(60)
    assert len(world.cluster.submitted) == 1
