"""How many pilots there are, when they are submitted, and what becomes of them."""

import errno
import math
import os
import shutil
import threading
from pathlib import Path
from typing import NoReturn

import pytest

from launcher.queue.backends.pilot_folder import PilotFolder
from launcher.queue.backends.pilot_link import OTHER_VERSION
from launcher.queue.backends.pilot_messages import Drain
from launcher.queue.backends.pilot_status import read_pilot_status
from launcher.queue.backends.protocol import AllocationEndCause, AllocationState, Observation
from launcher.queue.backends.settings import Backends
from launcher.queue.workers.lease import is_abandoned
from launcher.system.errors import UsageError
from launcher.system.processes import boot_id
from tests.launcher.scheduler.remote.toy_cluster import World, waited_for


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_waiting_jobs_get_pilots_at_once_and_no_more_than_needed(world: World) -> None:
    world.need(3, slots=2)
    world.turn()
    assert len(world.cluster.submitted) == 2
    assert len(world.records()) == 2


def test_only_a_registered_pilot_gets_work(world: World) -> None:
    (token,) = world.submitted()
    assert not world.serving
    assert world.heard == [token]
    world.speak(token)
    world.turn()
    assert world.serving == [token]


def test_attempts_of_an_ended_pilot_are_lost_once_the_backend_confirms_the_end(
    world: World,
) -> None:
    tokens = world.serves(busy=2)
    world.cluster.end(tokens[0], cause=AllocationEndCause.NODE_FAILED)
    world.pass_time(10, speaking=tokens[1:])
    assert not world.lost  # it may still send a message
    world.pass_time(15, speaking=tokens[1:])
    assert world.lost == [tokens[0]]
    assert world.fleet.abandoned_pilots()[tokens[0]] == "node n1 is down"
    assert tokens[0] in world.cluster.cancelled
    assert is_abandoned(world.by_token[tokens[0]].folder.folder)  # processes that live there end
    world.busy = {}
    world.fleet.mark_reaped(tokens[0])
    world.turn()
    assert not world.lost
    assert world.records() == sorted(tokens[1:])


def test_no_attempt_is_lost_before_the_backend_ended_what_may_still_run(world: World) -> None:
    (token,) = world.serves(1, busy=1)
    world.cluster.end(token)
    world.cluster.keeps = "scancel: error: Kill job error"
    world.pass_time(100)
    assert not world.lost
    world.cluster.keeps = ""
    world.pass_time(70)
    assert world.lost == [token]


def test_messages_sent_to_an_earlier_scheduler_are_not_a_sign_of_life(world: World) -> None:
    _, alive = world.serves(2)
    world.cluster.mute = "timed out"
    world.new_fleet()
    world.turn()
    assert not world.serving
    world.pass_time(2, speaking=[alive])
    assert world.serving == [alive]
    world.cluster.mute = ""
    world.pass_time(20, speaking=[alive])
    assert world.serving == [alive]


def test_restarted_scheduler_finds_all_pilots(world: World) -> None:
    tokens = world.serves()
    world.new_fleet()
    assert {*world.heard} == {*tokens}
    world.need(100)
    world.pass_time(60, speaking=tokens)
    assert {*world.serving} == {*tokens}
    assert world.cluster.most_alive == 3


def test_backend_that_forgets_a_pilot_briefly_changes_nothing(world: World) -> None:
    (token,) = world.serves(1)
    world.cluster.hidden.add(token)
    world.pass_time(25)
    world.cluster.hidden.clear()
    world.pass_time(20)
    assert world.cluster.jobs[token] == Observation(stage=AllocationState.RUNNING, node="n1")
    assert not world.cluster.cancelled
    world.speak(token)
    world.turn()
    assert world.serving == [token]


# --- engines that fail


def test_unreachable_backend_changes_nothing_and_gets_no_pilot(world: World) -> None:
    tokens = world.serves(2, busy=1)
    world.cluster.mute = "squeue: error: Unable to contact slurm controller"
    world.need(100)
    world.pass_time(300)
    assert not world.lost
    assert len(world.cluster.submitted) == 2
    assert "Unable to contact" in world.reason
    assert "nothing is submitted" in world.reason
    world.cluster.mute = ""
    world.pass_time(80, speaking=tokens)
    assert len(world.cluster.submitted) == 3
    assert "Unable" not in world.reason


def test_unreachable_backend_is_asked_less_and_less_often(world: World) -> None:
    world.serves(1)
    world.cluster.mute, world.cluster.questions = "timed out", 0
    world.pass_time(600)
    assert world.cluster.questions < 20


def test_backend_is_asked_once_per_poll_whatever_the_number_of_pilots(world: World) -> None:
    tokens = world.serves(3)
    world.cluster.questions = 0
    world.pass_time(100, speaking=tokens)
    assert 15 <= world.cluster.questions <= 20


def test_backend_without_pilots_is_not_asked(world: World) -> None:
    world.pass_time(100)
    assert not world.cluster.questions
    assert not world.made
    assert not world.fleet


def test_accepted_pilot_is_not_resubmitted_after_an_error_of_the_backend(
    world: World,
) -> None:
    world.cluster.refuses, world.cluster.takes_all_the_same = "Socket timed out", True
    world.submitted(2)
    assert len(world.cluster.submitted) == 2
    assert "Socket timed out" in world.reason
    world.pass_time(10)
    world.cluster.refuses = ""
    world.pass_time(300)
    assert len(world.cluster.submitted) == 2
    world.speak(*world.cluster.submitted)
    world.turn()
    assert len(world.fleet.links) == 2


def test_refused_submission_is_retried_with_growing_delays(world: World) -> None:
    world.cluster.refuses = "invalid partition specified: gpuu"
    world.need(1)
    world.pass_time(3600)
    assert not world.cluster.submitted
    assert "gpuu" in world.reason
    assert "tried again in" in world.reason
    assert len(world.records()) <= 3
    world.cluster.refuses = ""
    world.pass_time(700)
    assert len(world.cluster.submitted) == 1


def test_refused_pilots_count_until_the_backend_does_not_know_them(world: World) -> None:
    world.cluster.refuses, world.cluster.takes_all_the_same = "Socket timed out", True
    world.need(100)
    world.pass_time(400)
    assert world.cluster.most_alive <= 3
    world.cluster.refuses = ""
    world.pass_time(400)
    assert len(world.cluster.submitted) == world.cluster.most_alive == 3, "never more"


def test_hanging_call_blocks_no_turn_and_is_abandoned_after_two_minutes(
    world: World,
) -> None:
    (token,) = world.serves(1)
    held = world.cluster.hangs = threading.Event()
    for _ in range(100):
        world.clock.now += 1
        world.speak(token)
        world.fleet.run_cycle({}, {})
        if world.waits():
            waited_for(lambda: held in world.cluster.entered)
    assert "no response for" in world.reason
    assert world.serving == [token]
    world.cluster.hangs = None
    for _ in range(100):
        world.clock.now += 1
        world.speak(token)
        world.fleet.run_cycle({}, {})
    world.turn()
    assert len(world.made) == 2  # an engine of its own for the next thread
    assert world.cluster.jobs[token].stage is AllocationState.RUNNING
    held.set()


def test_backend_that_cannot_be_loaded_is_a_reason(world: World) -> None:
    world.lacks = "No module named 'ray'"
    world.need(1)
    world.pass_time(60)
    assert "No module named 'ray'" in world.reason


# --- pilots that do not start


def test_three_unregistered_pilots_are_followed_by_a_backoff_and_the_log_is_shown(
    world: World,
) -> None:
    world.cluster.logs = "module: command not found"
    world.need(100)
    for _ in range(600):
        world.pass_time(1)
        world.cluster.run(*world.cluster.alive())
        world.cluster.end(*world.cluster.alive())
        if "tried in" in world.reason:
            break
    assert len(world.cluster.submitted) == 3
    assert "module: command not found" in world.reason
    before = len(world.cluster.submitted)
    world.pass_time(50)
    assert len(world.cluster.submitted) == before
    world.pass_time(120)
    assert len(world.cluster.submitted) > before
    world.speak(world.cluster.submitted[-1])
    world.turn()
    assert "module" not in world.reason


def test_changed_configuration_ends_a_backoff(world: World) -> None:
    world.need(1)
    for _ in range(100):
        world.pass_time(1)
        world.cluster.end(*world.cluster.alive())
    assert "tried in" in world.reason
    before = len(world.cluster.submitted)
    (settings,) = world.backends.by_name.values()
    world.backends = Backends(by_name={"toy": settings._replace(prologue="module load cuda")})
    world.pass_time(12)
    assert len(world.cluster.submitted) > before
    assert world.made[-1].prologue == "module load cuda"


def test_pilot_that_sees_no_data_is_ended_and_its_problem_is_the_reason(world: World) -> None:
    (token,) = world.running()
    world.by_token[token].speak(world.clock.now, "n1 does not see /data/runs")
    world.pass_time(2)
    assert token in world.cluster.cancelled
    assert not world.serving
    assert "n1 does not see /data/runs" in world.reason


def test_pilots_that_report_problems_and_exit_are_followed_by_a_backoff(world: World) -> None:
    world.need(1)
    for _ in range(200):
        for token in world.cluster.alive():
            world.cluster.run(token)
            link = world.by_token[token]
            if link.registration is None:  # it says both with one write
                link.speak(world.clock.now, "n1 does not see /data/runs")
                link.exit_reason = "n1 does not see /data/runs"
            world.turn()
            world.cluster.end(*world.cluster.alive())
        world.pass_time(1)
        if "tried in" in world.reason:
            break
    assert len(world.cluster.submitted) == 3
    assert "the last 3 pilots of toy failed: n1 does not see /data/runs" in world.reason


def test_running_pilot_that_never_registers_is_ended(world: World) -> None:
    (token,) = world.running()
    world.pass_time(620)
    assert token in world.cluster.cancelled
    assert "and reported nothing" in world.reason


@pytest.mark.parametrize("version", ["0.1", ""], ids=["other version", "messages not decoded"])
def test_pilot_of_another_version_finishes_its_work_and_gets_no_more(
    world: World, version: str
) -> None:
    (token,) = world.serves(1, busy=1)
    world.by_token[token].registration = None if version else OTHER_VERSION
    world.by_token[token].speak(world.clock.now, version=version)
    world.new_fleet()
    world.pass_time(30, speaking=[token])
    assert not world.serving
    assert world.by_token[token].is_draining
    assert not world.cluster.cancelled
    world.busy = {}
    world.pass_time(10, speaking=[token])
    assert token in world.cluster.cancelled


# --- pilots that go


def test_silent_node_is_waited_for_unless_a_lease_has_expired(tmp_path: Path) -> None:
    world = World(tmp_path, lease_s=60.0)
    first, second = world.serves(2)
    world.busy = {first: 1, second: 1}
    world.cluster.cancels = False
    world.pass_time(50, speaking=[second])
    assert not world.lost
    world.pass_time(30, speaking=[second])
    assert world.lost == [first]
    assert "lease" in world.fleet.abandoned_pilots()[first]


def test_idle_pilot_with_an_expired_lease_is_replaced(tmp_path: Path) -> None:
    world = World(tmp_path, lease_s=60.0, pilots=1)
    (frozen,) = world.serves(1)
    world.pass_time(60)
    assert not world.cluster.cancelled
    world.need(1)
    world.pass_time(30)
    assert world.cluster.cancelled == [frozen]
    assert len(world.cluster.submitted) == 2
    assert world.cluster.most_alive == 1


def test_silent_pilot_without_a_lease_is_waited_for_while_its_backend_lists_it(
    world: World,
) -> None:
    world.serves(1, busy=1)
    world.pass_time(2000)
    assert not world.lost
    assert not world.cluster.cancelled
    assert "silent for 33 m" in world.reason


def test_attempts_on_an_unreachable_node_are_not_restarted(world: World) -> None:
    (token,) = world.serves(1, busy=1)
    world.cluster.end(token, cause=AllocationEndCause.NODE_FAILED, node_answers=False)
    world.pass_time(1000)
    assert is_abandoned(
        world.by_token[token].folder.folder
    )  # a process that wakes there ends, and says so
    assert world.ending_s(token) == 0.0  # the time of its end is unknown
    assert "its node does not respond" in world.reason
    world.cluster.end(token, cause=AllocationEndCause.NODE_FAILED)  # the node is back
    world.pass_time(30)
    assert 20.0 < world.ending_s(token) <= 30.0


def test_attempts_on_a_node_that_never_answers_again_are_lost_when_cancelled(
    world: World,
) -> None:
    (token,) = world.serves(1)
    world.busy, link = {token: 2}, world.by_token[token]
    link.track_attempt("1-1")
    link.track_attempt("2-1")
    world.cluster.end(token, cause=AllocationEndCause.NODE_FAILED, node_answers=False)
    world.pass_time(60)
    assert "launcher cancel, then launcher retry" in world.reason
    link.stop("1-1")
    world.pass_time(10)
    assert world.ending_s(token) == 0.0
    link.stop("2-1")
    world.pass_time(10)
    assert world.ending_s(token) > 50.0  # since it was given up
    assert world.fleet.abandoned_pilots() == {token: "node n1 is down"}


def test_backend_that_forgets_a_pilot_does_not_confirm_its_node(world: World) -> None:
    (token,) = world.serves(1, busy=1)
    forgotten = Observation(stage=AllocationState.UNKNOWN, node="n1", node_answers=False)
    world.cluster.jobs[token] = forgotten
    world.pass_time(1000)
    assert world.ending_s(token) == 0.0
    world.cluster.jobs[token] = forgotten._replace(node_answers=True)
    world.pass_time(10)
    assert world.lost == [token]
    assert world.ending_s(token) > 0.0


def lost(world: World, **observed: object) -> str:
    """Have a pilot with an attempt that its engine has ended, and that was given up."""
    (token,) = world.serves(1, busy=1)
    world.cluster.end(token)
    world.cluster.jobs[token] = world.cluster.jobs[token]._replace(**observed)  # type: ignore[arg-type]
    world.pass_time(25)
    assert world.lost == [token]
    return token


def test_pilot_ended_by_its_backend_is_waited_for_unless_all_ended_or_it_deregistered(
    world: World,
) -> None:
    token = lost(world)  # its report on a pilot says nothing of the processes that this has started
    assert 0.0 < world.ending_s(token) < 25.0
    world.by_token[token].exit_reason = "the scheduler has given it up"
    world.turn()
    assert world.ending_s(token) == math.inf


def test_nothing_is_waited_for_if_the_backend_ends_all_processes_of_a_pilot(world: World) -> None:
    assert world.ending_s(lost(world, emptied=True)) == math.inf


def test_nothing_is_waited_for_after_a_lease_expired(tmp_path: Path) -> None:
    world = World(tmp_path, lease_s=60.0)
    token = lost(world)
    assert world.ending_s(token) < 60.0
    world.pass_time(60)
    assert world.ending_s(token) == math.inf


def test_abandoned_pilot_that_sends_a_message_is_alive(world: World) -> None:
    token = lost(world)
    world.pass_time(
        100, speaking=[token]
    )  # it was frozen; its attempts now have their grace period
    assert world.ending_s(token) == 0.0
    assert token in world.heard
    assert not world.serving
    world.pass_time(40)
    assert 0.0 < world.ending_s(token) < 40.0


def test_next_scheduler_restarts_the_timeout(world: World) -> None:
    token = lost(world)
    world.pass_time(100)
    assert world.ending_s(token) > 100.0
    world.new_fleet()
    world.turn()
    assert world.lost == [token]
    assert world.ending_s(token) == 0.0
    world.pass_time(20)
    assert 0.0 < world.ending_s(token) < 20.0


def test_pilot_is_not_lost_until_it_can_be_marked_as_abandoned(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: PilotFolder) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (token,) = world.serves(1, busy=1)
    world.cluster.end(token)
    with monkeypatch.context() as patched:
        patched.setattr(PilotFolder, "mark_abandoned", full)
        world.pass_time(60)
        assert not world.lost
    world.pass_time(3)
    assert world.lost == [token]


@pytest.mark.parametrize("boot", ["boot", boot_id()])
def test_pilots_of_a_removed_cluster_are_gone_when_their_processes_are(
    world: World, boot: str
) -> None:
    first, second = world.serves(2)
    link = world.by_token[first]
    assert link.registration is not None
    link.registration = link.registration._replace(boot=boot)
    world.busy = {first: 1}
    world.cluster.mute = "there is no such cluster"
    world.pass_time(100)
    here = boot == boot_id()
    assert world.lost == ([first] if here else [])
    assert (world.ending_s(first) > 60.0) == here
    world.busy = {}
    if here:
        world.fleet.mark_reaped(first)
    world.pass_time(100)
    assert world.records() == sorted([second] if here else [first, second])


def test_deregistered_pilot_of_a_removed_cluster_is_gone(world: World) -> None:
    first, second = world.serves(2)
    world.by_token[first].exit_reason = "without work for 5 m"
    world.cluster.mute = "there is no such cluster"
    world.pass_time(300)
    assert world.records() == [second]


def test_node_of_a_pilot_is_the_one_it_reports_also_for_the_next_scheduler(
    world: World,
) -> None:
    (token,) = world.serves(1, busy=1)
    world.cluster.run(token, node="n2")
    world.pass_time(60)
    assert world.cluster.nodes == {token: "n1"}
    assert "pilot on n1" in world.reason
    world.cluster.jobs.clear()  # Slurm forgets
    world.cluster.nodes = {}
    world.new_fleet()
    world.pass_time(10)
    assert world.cluster.nodes == {token: "n1"}


def test_pilots_are_kept_while_their_file_system_is_not_mounted(tmp_path: Path) -> None:
    shared, away = tmp_path / "shared", tmp_path / "away"
    world = World(tmp_path, folder=shared)
    (token,) = world.serves(1, busy=1)
    world.cluster.end(token)
    shared.rename(away)
    shared.mkdir()  # the mount point
    world.new_fleet()
    world.pass_time(60)
    assert world.records() == [token]
    assert not world.lost
    shared.rmdir()
    away.rename(shared)
    world.pass_time(10)
    assert world.lost == [token]


def test_cancelled_attempt_ends_also_if_the_folder_of_its_pilot_was_deleted(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, folder=tmp_path / "shared")
    (token,) = world.serves(1, busy=1)
    world.by_token[token].track_attempt("1-1")
    world.cluster.end(token)
    shutil.rmtree(tmp_path / "shared")
    world.pass_time(60)
    assert not world.lost
    world.by_token[token].stop("1-1")
    world.pass_time(10)
    assert world.lost == [token]


@pytest.mark.parametrize("answers", [True, False])
def test_pilot_without_a_known_end_gets_work_once_its_backend_reports_it_or_never_does(
    world: World, answers: bool
) -> None:
    (token,) = world.submitted()
    link = world.by_token[token]
    link.speak(world.clock.now)
    assert link.registration is not None
    link.registration = link.registration._replace(limited=True)
    world.pass_time(3, speaking=[token])
    assert not world.serving
    if answers:
        world.cluster.jobs[token] = Observation(
            stage=AllocationState.RUNNING, node="n1", ends_at=5000.0
        )
        world.pass_time(5, speaking=[token])
        assert link.end_time == 5000.0
    else:
        world.cluster.mute = "Socket timed out"
        world.pass_time(30, speaking=[token])
    assert world.fleet.links == [link]
    assert world.cluster.submitted == [token]


def test_lost_pilot_is_abandoned_once_even_if_its_backend_lists_it_again(world: World) -> None:
    (token,) = world.serves(1, busy=1)
    world.cluster.hidden.add(token)
    world.pass_time(60)
    assert world.lost == [token]
    world.cluster.hidden.clear()
    world.new_fleet()  # the old one died before the attempts were ended in the queue
    world.pass_time(10, speaking=[token])
    assert world.lost == [token]
    world.busy = {}
    world.fleet.mark_reaped(token)
    world.pass_time(30, speaking=[token])
    assert not world.serving
    assert token in world.cluster.cancelled
    assert not world.cluster.alive()


def test_idle_pilot_forgotten_for_minutes_is_alive_when_it_is_listed_again(
    world: World,
) -> None:
    (token,) = world.serves(1)
    world.cluster.hidden.add(token)
    world.pass_time(120)
    assert not world.fleet
    world.cluster.hidden.clear()
    world.pass_time(10, speaking=[token])
    assert world.serving == [token]
    assert not world.cluster.cancelled


def test_forgotten_pilot_is_ended_before_another_replaces_it(tmp_path: Path) -> None:
    world = World(tmp_path, pilots=1)
    (token,) = world.serves(1)
    world.cluster.hidden.add(token)
    world.need(1)
    world.pass_time(90)
    assert world.cluster.cancelled[0] == token
    assert len(world.cluster.submitted) == 2
    assert world.cluster.most_alive == 1


def test_late_submission_is_ended_when_another_replaced_it(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, pilots=1)
    world.cluster.refuses = "Socket timed out"
    world.submitted()
    (token,) = world.records()
    world.cluster.refuses = ""
    world.pass_time(100)
    assert len(world.cluster.submitted) == 1
    world.cluster.jobs[token] = Observation(stage=AllocationState.RUNNING)
    world.pass_time(20)
    assert token not in world.cluster.alive()


def test_attempts_on_a_pilot_without_a_record_are_lost(world: World) -> None:
    world.busy = {"launcher-00000000000000000000": 1}
    world.turn()
    assert world.lost == list(world.busy)


def test_attempts_on_a_pilot_with_an_unreadable_record_are_kept(world: World) -> None:
    (token,) = world.serves(1, busy=1)
    record = world.home.folder / "pilots" / f"{token}.json"
    record.write_text('{"schema": 99}')  # a newer launcher's
    world.new_fleet()
    world.pass_time(30)
    assert world.fleet.is_unreadable(token)
    assert not world.lost
    record.unlink()
    world.pass_time(3)
    assert world.lost == [token]


def test_unneeded_pilot_is_removed_from_the_queue(tmp_path: Path) -> None:
    world = World(tmp_path, idle_s=30.0)
    world.submitted(2)
    world.need(1)
    world.pass_time(25)
    assert not world.cluster.cancelled
    world.pass_time(10)
    assert world.cluster.cancelled == world.cluster.submitted[1:]
    world.pass_time(30)
    assert len(world.records()) == 1


def test_ended_pilot_leaves_only_its_attempts(world: World) -> None:
    first, second = world.serves(2)
    kept = world.home.folder / "pilots" / first / "attempts" / "1-1"
    kept.mkdir()
    for token in (first, second):
        world.by_token[token].exit_reason = "idle"
        world.cluster.end(token, cause=AllocationEndCause.COMPLETED)
    world.pass_time(10)
    assert not world.records()
    assert kept.exists()
    assert not (world.home.folder / "pilots" / second).exists()
    assert not world.fleet


# --- clocks, configurations, hosts


def test_clock_jump_changes_nothing(world: World) -> None:
    tokens = world.serves(2, busy=1)
    for jump in (1e9, -2e9, 5e8):
        world.wall += jump
        world.pass_time(10, speaking=tokens)
        world.new_fleet()
        world.pass_time(10, speaking=tokens)
    assert {*world.serving} == {*tokens}
    assert not world.lost


def test_pilots_of_a_removed_backend_end_when_idle(
    world: World,
) -> None:
    first, second = world.serves(2)
    world.need(3)
    world.pass_time(30, speaking=[first, second])
    third = world.cluster.submitted[2]
    world.busy = {first: 1}
    world.backends = Backends()
    world.pass_time(5, speaking=[first, second])
    assert not world.serving
    assert world.by_token[first].orders == [Drain()]
    assert world.by_token[second].orders == [Drain()]
    assert world.cluster.cancelled == [third]
    world.new_fleet()  # the same if only the records know the backend
    world.pass_time(20, speaking=[first, second])
    assert not world.serving
    for token in (first, second):
        world.by_token[token].exit_reason = "told to leave"
        world.cluster.end(token, cause=AllocationEndCause.COMPLETED)
    world.busy = {}
    world.pass_time(30)
    assert not world.records()


def test_damaged_configuration_changes_nothing(world: World) -> None:
    tokens = world.serves(1)

    def damaged() -> NoReturn:
        raise UsageError("config.toml:3: expected a table")

    world.fleet._backends = damaged
    world.pass_time(30, speaking=tokens)
    assert len(world.fleet.links) == 1


def test_folder_of_another_queue_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    other, world = tmp_path / "other", tmp_path / "own"
    other.mkdir()
    world.mkdir()
    theirs, ours = World(other, folder=shared), World(world, folder=shared)
    theirs.need(1)
    theirs.turn()
    ours.need(1)
    ours.pass_time(60)
    assert len(theirs.cluster.submitted) == 1
    assert not ours.cluster.submitted
    assert not ours.records()
    assert f"belongs to the queue {theirs.home.folder}" in ours.reason
    assert "owner.json" in ours.reason


def test_full_disk_is_a_reason_and_no_pilot_is_submitted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("launcher.queue.backends.pilot_records.write_json", full)
        world.need(1)
        world.pass_time(20)
    assert not world.cluster.submitted
    assert "No space left" in world.reason
    with monkeypatch.context() as patch:
        patch.setattr("launcher.queue.backends.pilot_folder.write_json", full)
        world.pass_time(60)
    assert not world.cluster.submitted
    assert not world.records()
    assert "No space left" in world.reason
    world.pass_time(120)
    assert len(world.cluster.submitted) == 1


# --- launcher stop


def test_stopped_queue_lets_pilots_finish_their_attempts(world: World) -> None:
    first, second = world.serves(2)
    world.need(3)
    world.pass_time(15, speaking=[first, second])
    world.busy = {first: 1}
    world.need(0)
    for _ in range(3):
        world.fleet.drain(now=False)
        world.pass_time(5, speaking=[first, second])
    assert world.by_token[second].orders == [Drain()]
    assert world.cluster.cancelled == world.cluster.submitted[2:]
    assert world.fleet
    world.busy = {}
    world.pass_time(1, speaking=[first])
    world.fleet.drain(now=False)
    assert world.by_token[first].orders == [Drain()]
    for token in (first, second):
        world.by_token[token].exit_reason = "told to leave"
    world.pass_time(3)
    assert world.fleet  # for as long as they should take to end
    for token in (first, second):
        world.cluster.end(token, cause=AllocationEndCause.COMPLETED)
    world.pass_time(6)
    assert not world.fleet
    assert not world.records()


def test_pilot_with_a_running_job_continues_when_the_queue_resumes(world: World) -> None:
    first, second = world.serves(2, busy=1)
    world.turn()
    world.fleet.drain(now=False)
    world.pass_time(5, speaking=[first, second])
    world.need(5)  # the queue was started again, long before that job ends
    world.pass_time(2, speaking=[first, second])
    assert world.serving == [first]


def test_scheduler_does_not_wait_for_a_backend_that_is_silent_about_exited_pilots(
    world: World,
) -> None:
    (token,) = world.serves(1)
    world.cluster.mute = "timed out"
    world.fleet.drain(now=False)
    world.by_token[token].exit_reason = "told to leave"
    world.pass_time(12)
    assert not world.fleet
    assert world.records() == [token]
    world.fleet.close()
    assert [(row.token, row.stage) for row in read_pilot_status(world.home).pilots] == [
        (token, "leaving")
    ]


def test_queue_stopped_now_ends_pilots_that_do_not_exit(world: World) -> None:
    first, second = world.serves(2)
    world.busy = {first: 1, second: 1}
    world.fleet.drain(now=True)
    world.pass_time(5, speaking=[first])
    assert world.by_token[first].orders == [Drain(now=True)]
    assert not world.cluster.cancelled
    for _ in range(130):
        world.fleet.drain(now=True)
        world.pass_time(1, speaking=[first])
        if world.cluster.cancelled == [second]:
            break
    else:
        pytest.fail("the silent one is ended first")
    for _ in range(130):
        world.fleet.drain(now=True)
        world.pass_time(1)
    assert not world.cluster.alive()
    assert sorted(world.fleet.abandoned_pilots()) == sorted([first, second])


# --- what it costs


def test_turn_without_work_polls_no_pilot(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.serves(3)
    world.turn()

    def looked(*_: object) -> NoReturn:
        raise AssertionError("it looked")

    monkeypatch.setattr("launcher.queue.backends.backend_pilots.BackendPilots.run_cycle", looked)
    for _ in range(10):
        world.fleet.run_cycle({}, {})


def test_scheduler_sleeps_until_a_rate_limit_has_passed(world: World) -> None:
    assert world.fleet.next_cycle_s() > 60
    world.cluster.refuses = "no"
    world.need(1)
    world.pass_time(400)
    assert 0 < world.fleet.next_cycle_s() <= 600
