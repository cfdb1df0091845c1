"""Pauses as the queue records them: how long each attempt was paused, and what follows from that."""

from pathlib import Path

import pytest

from launcher.screens.format import pause_reason
from launcher.screens.job_details import job_records
from launcher.screens.job_view import job_view
from launcher.states import Done, Failed, Outcome, ReasonCode, State
from launcher.store.queue import Store
from launcher.store.usage import Measured
from launcher.system.paths import Home
from launcher.workers.progress.attempt_progress import Newest
from launcher.workers.progress.steps import Step
from tests.build import GIB, a_seat, a_spec, claimed, enqueue, job_row

SEAT = {"device": "GPU-0", "reservation": 10 * GIB}


def paused_at(store: Store, job: int, now: float) -> list[int]:
    return store.steering.pause({job: pause_reason("cpu", None, now)}, now)


def test_only_what_runs_and_is_not_about_to_end_is_paused(store: Store) -> None:
    waiting, running, ending = enqueue(store, *(a_spec(name=f"command/{n}") for n in (1, 2, 3)))
    claimed(store, running)
    claimed(store, ending)
    store.steering.cancel([ending], 2.0)
    assert paused_at(store, waiting, 5.0) == []
    assert paused_at(store, running, 5.0) == [running]
    assert paused_at(store, running, 6.0) == []
    assert paused_at(store, ending, 5.0) == []
    assert store.scheduling.paused() == {running}
    assert store.steering.resume([waiting, ending], 7.0) == []


@pytest.mark.parametrize("outcome", [Done(at=100.0), Failed(at=100.0, error="no")])
def test_an_attempt_s_time_is_that_without_its_pauses(
    store: Store, home: Home, outcome: Outcome
) -> None:
    (job,) = enqueue(store, a_spec())
    claim = claimed(store, job, now=10.0)
    paused_at(store, job, 20.0)
    store.steering.resume([job], 25.0)
    paused_at(store, job, 90.0)  # and ends so
    store.scheduling.finish(claim, outcome, outputs={}, now=100.0)
    assert store.read.newest_attempts([job])[job].seconds == 100 - 10 - 5 - 10
    (record,) = job_records(home, store, [job_row(store, job)])
    assert (record["seconds"], record["paused"]) == (75, None)
    assert store.scheduling.paused() == frozenset()


def test_a_pause_teaches_nothing_about_how_long_a_job_takes(store: Store) -> None:
    (job,) = enqueue(store, a_spec(signature="train 1"))
    claim = store.scheduling.claim(job, a_seat(**SEAT), reason="fits", now=10.0)
    assert claim is not None
    paused_at(store, job, 20.0)
    store.steering.resume([job], 60.0)
    measured = Measured(elapsed_s=90.0, shared_s=30.0, slowdown=2.0)
    store.scheduling.finish(claim, Done(at=100.0), outputs={}, now=100.0, measured=measured)
    assert store.scheduling.usage("train 1").seconds == (50.0,)
    assert store.read.account(Path("/nowhere"), "test").used == 50.0


def test_a_list_says_that_a_job_is_paused_and_what_stays_reserved(store: Store, home: Home) -> None:
    (job,) = enqueue(store, a_spec())
    claimed(store, job)
    before = job_view(job_row(store, job))
    store.steering.pause({job: pause_reason("GPU-0,GPU-1", 10 * GIB, 50.0)}, 50.0)
    line = job_view(job_row(store, job), Newest(Step(at=50.0, step=3, total=10, metrics={})))
    assert line.note.endswith("; 10 GiB on each of its 2 GPUs stay reserved")
    assert line.code is ReasonCode.PAUSED
    (record,) = job_records(home, store, [job_row(store, job)])
    assert record["paused"] == "1970-01-01T00:00:50Z"
    store.steering.resume([job], 60.0)
    assert job_view(job_row(store, job)) == before
    assert pause_reason("GPU-0", None, 1.0).text.endswith("; its GPU stays reserved")
    assert ";" not in pause_reason("cpu", None, 1.0).text


def test_events_of_a_pause_are_no_attempts(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    claim = claimed(store, job, now=10.0)
    paused_at(store, job, 20.0)
    store.steering.resume([job], 30.0)
    store.scheduling.finish(claim, Failed(at=40.0, error="no"), outputs={}, now=40.0)
    (ending,) = store.read.happened(5)
    assert (ending.state, ending.seconds) == (State.FAILED, 20.0)
