import time
from pathlib import Path

import pytest

from launcher.job_options.notifications import AS_CONFIGURED, Event, RunNotify
from launcher.states import Done, Failed, OutOfMemory, ReasonCode, Shortage, State
from launcher.store.feed import MOST_FAILURES, RunNewsReader
from launcher.store.queue import Store
from tests.build import a_spec, claimed, enqueue


@pytest.fixture
def reader(store: Store) -> RunNewsReader:
    return RunNewsReader(store.database)


def test_what_happened_after_an_event_is_told_by_run(store: Store, reader: RunNewsReader) -> None:
    assert reader.since(0) == (0, [])
    first, second = enqueue(store, a_spec(name="a"), a_spec(name="b"), run="one")
    before = reader.newest()
    (third,) = enqueue(store, a_spec(name="a"), run="two")
    now = time.time()
    for job, outcome in (
        (first, Done(at=now)),
        (second, Failed(at=now, error="boom")),
        (third, OutOfMemory(at=now, error="too large", shortage=Shortage("gpu"))),
    ):
        store.scheduling.finish(claimed(store, job), outcome, outputs={}, now=now)
    upto, (first_run, second_run) = reader.since(before)
    assert upto == reader.newest()
    assert (first_run.name, first_run.root, first_run.open) == ("one", "/nowhere", 0)
    assert (first_run.after, first_run.happened) == (before, (Event.FIRST_FAILURE,))
    assert first_run.totals == {State.DONE: 1, State.FAILED: 1}
    assert second_run.happened == (Event.OUT_OF_MEMORY, Event.FIRST_FAILURE)
    found = [(*reader.failures(run.id, before)[0][:2],) for run in (first_run, second_run)]
    assert found == [(second, "b"), (third, "a")]
    assert reader.since(upto) == (upto, [])
    assert reader.ended_since(first_run.id, now) == {State.DONE: 1, State.FAILED: 1}
    assert reader.ended_since(first_run.id, now + 1) == {}


def test_of_many_failures_the_first_is_told_and_so_many_for_too_little_memory(
    store: Store, reader: RunNewsReader
) -> None:
    many = enqueue(store, *(a_spec(name=f"m{number}") for number in range(30)), run="many")
    (single,) = enqueue(store, a_spec(name="single"), run="single")
    for number, job in enumerate((*many, single)):
        short = OutOfMemory(at=2.0, error="too large", shortage=Shortage("gpu"))
        end = short if 5 <= number < 25 else Failed(at=2.0, error="boom")
        store.scheduling.finish(claimed(store, job), end, outputs={}, now=2.0)
    _, (first, second) = reader.since(0)
    assert first.happened == (Event.OUT_OF_MEMORY, Event.FIRST_FAILURE)
    assert second.happened == (Event.FIRST_FAILURE,)
    told = reader.failures(first.id, 0)
    assert [each.job for each in told] == [many[0], *many[5 : 5 + MOST_FAILURES]]
    assert [each.alike for each in told] == [10] + [20] * MOST_FAILURES
    codes = {each.reason.code for each in told[1:]}
    assert (told[0].reason.code, codes) == (ReasonCode.FAILED, {ReasonCode.OUT_OF_MEMORY})
    assert [each.job for each in reader.failures(second.id, 0)] == [single]
    assert reader.failures(first.id, reader.newest()) == ()


def test_what_a_run_says_of_its_messages_is_kept(store: Store, reader: RunNewsReader) -> None:
    enqueue(store, a_spec(), run="loud")
    enqueue(store, a_spec(), run="silent")
    wanted = RunNotify(events=(Event.RUN_ENDED,), to=("mail",))
    with store.writing():
        store.set_notify(store.run(Path("/nowhere"), "silent"), wanted)
    assert [run.notify for run in reader.since(0)[1]] == [AS_CONFIGURED, wanted]
    with store.writing():
        store.set_notify(store.run(Path("/nowhere"), "silent"), AS_CONFIGURED)
    assert [run.notify for run in reader.since(0)[1]] == [AS_CONFIGURED] * 2


def test_who_begins_to_listen_hears_of_the_last_minutes(
    store: Store, reader: RunNewsReader
) -> None:
    enqueue(store, a_spec(name="a"))
    assert reader.beginning(time.time()) == 0
    assert reader.beginning(time.time() + 3600) == reader.newest()
