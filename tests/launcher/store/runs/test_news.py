import time
from pathlib import Path

import pytest

from launcher.job_options.notifications import AS_CONFIGURED, Event, RunNotify
from launcher.states import Done, Failed, OutOfMemory, ReasonCode, State
from launcher.store.news import MOST_FAILURES, PilotFault, RunNewsReader
from launcher.store.queue import Store
from launcher.store.rows import PILOT
from launcher.store.transitions import Requeue
from tests.build import a_reason, a_seat, a_spec, claimed, enqueue


@pytest.fixture
def reader(store: Store) -> RunNewsReader:
    return RunNewsReader(store.database)


def test_what_happened_after_an_event_is_told_by_run(store: Store, reader: RunNewsReader) -> None:
    assert reader.since(0).runs == ()
    first, second = enqueue(store, a_spec(name="a"), a_spec(name="b"), run="one")
    before = reader.newest()
    (third,) = enqueue(store, a_spec(name="a"), run="two")
    now = time.time()
    for job, outcome in (
        (first, Done(at=now)),
        (second, Failed(at=now, error="boom")),
        (third, OutOfMemory(at=now, error="too large", where="gpu")),
    ):
        store.scheduling.finish(claimed(store, job), outcome, outputs={}, now=now)
    news = reader.since(before)
    assert news.upto == reader.newest()
    first_run, second_run = news.runs
    assert (
        first_run.name,
        first_run.root,
        first_run.open,
        first_run.failed,
        first_run.out_of_memory,
    ) == (
        "one",
        "/nowhere",
        0,
        1,
        0,
    )
    assert first_run.totals == {State.DONE: 1, State.FAILED: 1}
    assert (second_run.failed, second_run.out_of_memory) == (1, 1)
    assert [(each.job, each.name, each.reason.code) for each in news.failures] == [
        (second, "b", ReasonCode.FAILED),
        (third, "a", ReasonCode.OUT_OF_MEMORY),
    ]
    assert reader.since(news.upto).runs == ()
    assert reader.ended_since(first_run.id, now) == {State.DONE: 1, State.FAILED: 1}
    assert reader.ended_since(first_run.id, now + 1) == {}


def test_of_many_failures_the_first_of_each_run_are_told(
    store: Store, reader: RunNewsReader
) -> None:
    many = enqueue(store, *(a_spec(name=str(number)) for number in range(30)), run="many")
    (single,) = enqueue(store, a_spec(), run="single")
    for job in (*many, single):
        store.scheduling.finish(
            claimed(store, job), Failed(at=2.0, error="boom"), outputs={}, now=2.0
        )
    news = reader.since(0)
    assert [each.job for each in news.failures] == [*many[:MOST_FAILURES], single]
    assert [run.failed for run in news.runs] == [30, 1]


def test_a_job_out_of_memory_is_told_behind_many_other_failures(
    store: Store, reader: RunNewsReader
) -> None:
    *others, short = enqueue(store, *(a_spec(name=str(number)) for number in range(30)))
    for job in others:
        store.scheduling.finish(
            claimed(store, job), Failed(at=2.0, error="boom"), outputs={}, now=2.0
        )
    too_large = OutOfMemory(at=3.0, error="too large", where="gpu")
    store.scheduling.finish(claimed(store, short), too_large, outputs={}, now=3.0)
    news = reader.since(0)
    assert [each.job for each in news.failures] == [*others[:MOST_FAILURES], short]


def test_what_a_run_says_of_its_messages_is_kept(store: Store, reader: RunNewsReader) -> None:
    enqueue(store, a_spec(), run="loud")
    enqueue(store, a_spec(), run="silent")
    wanted = RunNotify(events=(Event.RUN_ENDED,), to=("mail",))
    with store.writing():
        store.set_notify(store.run(Path("/nowhere"), "silent"), wanted)
    assert [run.notify for run in reader.since(0).runs] == [AS_CONFIGURED, wanted]
    with store.writing():
        store.set_notify(store.run(Path("/nowhere"), "silent"), AS_CONFIGURED)
    assert [run.notify for run in reader.since(0).runs] == [AS_CONFIGURED] * 2


def test_jobs_that_wait_for_others_are_not_counted_as_waiting(
    store: Store, reader: RunNewsReader
) -> None:
    _, held, _ = enqueue(
        store, a_spec(name="a"), a_spec(name="b"), a_spec(name="c"), needs={"c": ["a"]}
    )
    store.owning.hold([held], time.time())
    waiting = sorted((each.jobs, each.held) for _, each in reader.waiting())
    assert waiting == [(1, False), (1, True)]
    assert reader.gpus_in_use() == frozenset()


def test_who_begins_to_listen_hears_of_the_last_minutes(
    store: Store, reader: RunNewsReader
) -> None:
    enqueue(store, a_spec(name="a"))
    assert reader.beginning(time.time()) == 0
    assert reader.beginning(time.time() + 3600) == reader.newest()


def test_a_fault_of_a_pilots_gpu_is_told_with_its_pilot(
    store: Store, reader: RunNewsReader
) -> None:
    here, there = enqueue(store, a_spec(name="a"), a_spec(name="b"))
    reason = a_reason(
        "cuda:1 fell off the bus; queued again", ReasonCode.GPU_FAULT, fault="cuda:1 fell off"
    )
    for job, seat in ((here, a_seat()), (there, a_seat(boot=f"{PILOT}t0ken"))):
        claim = store.scheduling.claim(job, seat, reason="fits", now=1.0)
        assert claim is not None
        end = Failed(at=2.0, error="CUDA error")
        store.scheduling.finish(claim, end, outputs={}, now=2.0, requeue=Requeue(reason=reason))
    assert reader.since(0).pilot_faults == (
        PilotFault(at=2.0, job=there, name="b", pilot="t0ken", fault="cuda:1 fell off"),
    )
