"""Attempts that cannot be started: for a lack of the machine's, or a passing trouble of the program's."""

import shutil
from pathlib import Path

import pytest

from launcher.states import State, Void
from launcher.store.queue import Store
from launcher.store.transitions import REQUEUE_LIMIT
from launcher.system.daemon_control import wake
from launcher.system.paths import Home
from launcher.workers.fork_server_pool import FIRST_PAUSE_S, LONGEST_PAUSE_S, PROOF_S, Outage
from tests.build import a_spec, claimed, endings, enqueue, in_state, job_row, until
from tests.chaos.nospawn import shimmed, starve

NEEDS_CC = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


def test_a_failed_start_is_tried_again_once_at_growing_intervals() -> None:
    outage, now, pauses = Outage(), 100.0, []
    assert outage.admits(now)
    assert outage.wait_s(now) == 0
    for _ in range(8):
        outage.tried(now)
        outage.failed("no process", now)
        outage.failed("no process", now)  # another of the same volley
        pauses.append(outage.wait_s(now))
        assert not outage.admits(now + pauses[-1] - 0.01)
        now += pauses[-1]
        assert outage.admits(now)
        assert outage.wait_s(now + 0.5) == 0
        outage.tried(now)
        assert not outage.admits(now), "one is tried, not two"
    assert pauses == [FIRST_PAUSE_S * 2**n for n in range(6)] + [LONGEST_PAUSE_S] * 2


def test_what_was_started_and_did_not_come_back_ends_the_outage() -> None:
    outage = Outage()
    outage.failed("no process", 100.0)
    assert "no process" in str(outage)
    outage.tried(101.0)
    assert not outage.admits(101.0 + PROOF_S / 2)
    assert outage.admits(101.0 + PROOF_S)
    outage.tried(102.0)
    assert outage.admits(102.0)
    outage.failed("no process", 102.0)
    assert outage.wait_s(102.0) == FIRST_PAUSE_S


def test_an_attempt_that_the_machine_cannot_start_leaves_nothing_on_record(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    void = Void(at=2.0, why="no process", whose="machine")
    for _ in range(3):
        state = store.scheduling.finish(claimed(store, job), void, outputs={}, now=2.0)
        assert state is State.QUEUED
    assert job_row(store, job).attempts == 0
    assert store.read.attempts([job]) == []
    assert [state for _, state, _ in store.read.events_of(job)] == ["queued", "queued"]
    assert store.scheduling.finish(claimed(store, job), void, outputs={}, now=2.0)


def test_a_job_that_is_cancelled_while_the_machine_cannot_start_it_is_cancelled(
    store: Store,
) -> None:
    (job,) = enqueue(store, a_spec())
    claim = claimed(store, job)
    store.steering.cancel([job], 1.0)
    void = Void(at=2.0, why="no process", whose="machine")
    assert store.scheduling.finish(claim, void, outputs={}, now=2.0) is State.CANCELLED


@NEEDS_CC
def test_while_no_process_can_be_made_nothing_piles_up_and_then_all_goes_on(
    home: Home, tmp_path: Path
) -> None:
    grown = starve(tmp_path, home, jobs=60, seconds=2.5)
    assert grown.rows <= 3
    assert grown.folders <= 1
    assert grown.log_bytes < 4000


@NEEDS_CC
def test_a_program_that_is_being_written_is_tried_again_and_holds_up_no_other(
    home: Home, tmp_path: Path
) -> None:
    flag, program = tmp_path / "busy", tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    flag.touch()
    store = Store(home, durable=False)
    with shimmed(tmp_path, home, BUSY=str(flag), BUSY_PROGRAM=str(program)):
        (busy,) = enqueue(store, a_spec(str(program)))
        (other,) = enqueue(store, a_spec(name="command/2"))
        wake(home)
        until(lambda: in_state(store, other, State.DONE), "the other is done")
        until(lambda: "Text file busy" in job_row(store, busy).reason, "it is told")
        flag.unlink()
        until(lambda: in_state(store, busy, State.DONE), "it is done")
        before = endings(store, busy)[:-1]
        assert set(before) == {"void"}
        assert len(before) < REQUEUE_LIMIT
    store.close()
