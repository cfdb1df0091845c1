"""What `launcher pause` refuses; what it does to processes is in tests/e2e/test_steering.py."""

from launcher.states import State
from launcher.store.queue import Store
from launcher.store.rows import PILOT
from tests.build import a_seat, a_spec, claimed, enqueue, job_row
from tests.launcher.conftest import Launcher


def test_what_runs_on_a_node_of_a_cluster_is_not_paused(launcher: Launcher, store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    seat = a_seat(boot=f"{PILOT}0123456789abcdef")
    assert store.scheduling.claim(job, seat, reason="fits", now=1.0) is not None
    answer = launcher("pause", str(job))
    assert (answer.code, "a pilot cannot pause a program" in answer.err) == (2, True), answer
    assert job_row(store, job).paused is None


def test_only_what_runs_can_be_paused_and_only_what_is_paused_goes_on(
    launcher: Launcher, store: Store
) -> None:
    waiting, running = enqueue(store, a_spec(name="command/a"), a_spec(name="command/b"))
    claimed(store, running)
    answer = launcher("pause", str(waiting))
    assert (answer.code, "nothing to pause: queued: command/a" in answer.err) == (2, True), answer
    answer = launcher("resume", str(running))
    assert (answer.code, "command/b is not paused" in answer.err) == (2, True), answer
    assert launcher("pause", str(running), "--dry-run").out.endswith("would be paused\n")
    assert job_row(store, running).state is State.RUNNING
    assert job_row(store, running).paused is None
