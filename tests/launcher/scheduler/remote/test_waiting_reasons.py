"""What jobs that wait for pilots are told."""

import math
import re
import threading
import time
from pathlib import Path

import pytest

from launcher.backends.fleet import line
from launcher.backends.protocol import Cause, Observation, Stage
from tests.launcher.scheduler.remote.toy_cluster import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_pilots_in_the_queue_are_told_with_the_engines_reason_and_estimate(world: World) -> None:
    world.need(2)
    world.turn()
    world.pass_time(6)
    at = time.strftime("%H:%M", time.localtime(1.7e9))
    assert world.reason == f"2 pilots wait in toy: Resources, estimated {at}"


@pytest.mark.parametrize("starts_at", [math.nan, math.inf, -math.inf, 1e30])
def test_an_estimate_that_is_no_time_is_not_shown_as_one(world: World, starts_at: float) -> None:
    world.need(1)
    world.turn()
    for token, job in world.cluster.jobs.items():
        world.cluster.jobs[token] = job._replace(starts_at=starts_at)
    world.pass_time(10)
    assert world.reason.startswith("1 pilot waits in toy: Resources")


def test_pilots_that_start_are_told_with_their_nodes(world: World) -> None:
    world.need(2)
    world.turn()
    first, second = world.cluster.submitted
    world.cluster.run(first, node="n1")
    world.pass_time(10)
    assert "1 pilot waits in toy" in world.reason
    assert "1 pilot starts in toy on n1" in world.reason
    world.cluster.run(second, node="n2")
    world.pass_time(10)
    assert world.reason == "2 pilots start in toy on n1, n2"


def test_busy_pilots_are_told_with_the_limit(tmp_path: Path) -> None:
    world = World(tmp_path, pilots=1)
    world.need(5)
    world.turn()
    (token,) = world.cluster.submitted
    world.cluster.run(token)
    world.pass_time(10, speaking=[token])
    assert world.reason == (
        "the pilot of toy is busy, and no more may be there at once: [backends.toy] pilots = 1"
    )


def test_a_wait_for_a_limit_of_time_is_told(world: World) -> None:
    world.need(1)
    world.turn()
    (token,) = world.cluster.submitted
    world.cluster.run(token)
    world.by_token[token].speak(world.clock.now)
    world.turn()
    assert world.reason.startswith("the next pilot is submitted to toy in ")


def test_what_an_engine_says_cannot_steer_a_terminal(world: World) -> None:
    world.cluster.refuses = "sbatch:\n\x1b[31merror\x1b[0m: " + "x" * 10_000
    world.need(1)
    world.turn()
    assert world.reason.isprintable()
    assert len(world.reason) < 1000


def test_a_silent_node_is_told(world: World) -> None:
    world.need(1)
    world.turn()
    (token,) = world.cluster.submitted
    world.cluster.run(token)
    world.by_token[token].speak(world.clock.now)
    world.busy = {token: 1}
    world.pass_time(60)
    assert "pilot on n1 is silent for" in world.reason
    world.cluster.jobs[token] = Observation(
        stage=Stage.ENDED, cause=Cause.NODE_FAILED, node="n1", node_answers=False
    )
    world.pass_time(10)
    assert "its node does not answer" in world.reason


def test_an_engine_that_never_answered_is_told_at_once_with_since_when(world: World) -> None:
    held = world.cluster.hangs = threading.Event()
    world.need(1)
    world.clock.now += 1
    world.fleet.turn(world.demand, {})
    world.clock.now += 2
    world.fleet.turn(world.demand, {})
    assert re.fullmatch(r"it has not answered since [0-9 :-]+", world.reason)
    held.set()


def test_an_engine_that_does_not_answer_is_named_once_with_since_when(world: World) -> None:
    world.need(1)
    world.turn()
    world.cluster.mute = "squeue failed"
    world.pass_time(10)
    assert re.match(r"it does not answer since [0-9 :-]+ \(squeue failed\)", world.reason)
    before = world.reason
    world.pass_time(5)
    assert world.reason == before
    assert "toy" not in before.partition(";")[0]


def test_an_estimate_that_is_beyond_sense_is_not_shown(world: World) -> None:
    world.need(1)
    world.turn()
    for days, shown in ((365, "Resources"), (12, "Resources, estimated in 12 days")):
        at = world.wall + world.clock.now + days * 86_400
        for token, job in world.cluster.jobs.items():
            world.cluster.jobs[token] = job._replace(starts_at=at)
        world.pass_time(10)
        assert world.reason == f"1 pilot waits in toy: {shown}"


def test_what_is_said_over_lines_becomes_a_line() -> None:
    assert line(" a\n\tb  c ") == "a b c"
    assert line("x" * 1000).endswith("x…")


def a_pilot_fails(world: World, log: str) -> None:
    world.cluster.logs = log
    world.need(1)
    world.turn()
    world.cluster.run(*world.cluster.alive())
    world.cluster.end(*world.cluster.alive())
    world.pass_time(6)


def test_a_pilot_that_printed_nothing_may_not_have_seen_its_folder(world: World) -> None:
    a_pilot_fails(world, "")
    folder = world.home.folder / "pilots"
    assert f"it printed nothing: do the nodes see {folder}?" in world.reason


def test_what_the_log_says_already_is_not_said_twice(world: World) -> None:
    a_pilot_fails(world, "no module cuda\nthe pilot of toy on n1 failed")
    assert world.reason.count("the pilot of toy on n1 failed") == 1
    assert "its log ends" not in world.reason
