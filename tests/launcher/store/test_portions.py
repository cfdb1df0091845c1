"""Changes of many jobs are made in portions: others write in between, and an interrupted one can be repeated."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import ReasonCode, State
from launcher.queue.store import connection, queue
from launcher.queue.store.queue import NewJob, Store
from tests.build import a_context, a_spec, claimed, job_row
from tests.launcher.queued import FAILED, end, one, put, states

MANY = "abcdefg"
Change = Callable[[Store, list[int]], object]
CHANGES: dict[str, Change] = {
    "cancel": lambda store, jobs: store.job_control.cancel(jobs, 2.0),
    "hold": lambda store, jobs: store.job_control.hold(jobs, 2.0),
    "release": lambda store, jobs: store.job_control.release(jobs, 2.0),
    "priority": lambda store, jobs: store.job_control.set_priority(jobs, 3),
    "tags": lambda store, jobs: store.job_control.change_tags(jobs, ["x"], []),
    "note": lambda store, jobs: store.job_control.set_note(jobs, "x"),
}


@pytest.fixture
def in_between(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], object]]]:
    """What happens between portions of three jobs, the next one first; more pauses do nothing."""
    steps: list[Callable[[], object]] = []
    for module in (connection, queue):
        monkeypatch.setattr(module, "PORTION", 3)
    monkeypatch.setattr(
        "launcher.queue.store.connection.time.sleep", lambda _: steps.pop(0)() if steps else None
    )
    yield steps
    assert not steps, "there were fewer pauses"


def interrupt() -> None:
    raise KeyboardInterrupt


def insert_many(store: Store, names: str = MANY, **fields: Any) -> list[int]:
    """Queue jobs as `launcher add --from` does."""
    jobs = [NewJob(a_spec(name=f"command/{name}"), **fields) for name in names]
    with store.database.writing():
        run = store.ensure_run(Path("/"), "test")
        first = store.next_job_number()
        assert store.reserve_numbers(jobs)
    return store.insert_in_portions(run, a_context(), jobs, 1.0, first)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_others_write_between_two_portions(
    store: Store, home: Home, in_between: list[Callable[[], object]], change: Change
) -> None:
    jobs, other = put(store, MANY), Store(home, durable=False)
    other.database.execute("PRAGMA busy_timeout = 0")
    noted = one(store, "z")
    in_between[:] = [lambda: other.job_control.set_note([noted], "written")] * 2
    change(store, jobs)
    assert job_row(store, noted).owner_note == "written"
    other.close()


def test_interrupted_cancel_is_completed_by_the_next(
    store: Store, in_between: list[Callable[[], object]]
) -> None:
    jobs = put(store, MANY, needs={"g": "a"})
    in_between.append(interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.job_control.cancel(jobs, 2.0)
    assert states(store) == "queued queued queued queued cancelled cancelled cancelled"
    store.job_control.cancel(jobs, 2.0)
    assert states(store) == " ".join(["cancelled"] * len(jobs))


def test_retried_job_is_skipped_again_if_its_need_has_failed_between_the_portions(
    store: Store, home: Home, in_between: list[Callable[[], object]]
) -> None:
    first, *others = put(store, MANY, needs={"f": "a", "g": "f"})
    store.job_control.cancel([first, *others], 2.0)
    other = Store(home, durable=False)
    in_between.append(lambda: end(other, claimed(other, first), FAILED))
    store.job_control.retry([first, *others], 3.0)
    assert states(store) == "failed queued queued queued queued skipped skipped"
    assert job_row(store, others[-2]).reason == f"skipped: job {first} command/a failed"
    other.close()


def test_interrupted_retry_is_completed_by_the_next(
    store: Store, in_between: list[Callable[[], object]]
) -> None:
    jobs = put(store, MANY, needs={"g": "a"})
    store.job_control.cancel(jobs, 2.0)
    in_between.append(interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.job_control.retry(jobs, 3.0)
    assert states(store).split().count("queued") == 3
    store.job_control.retry(jobs, 3.0)
    assert states(store) == " ".join(["queued"] * len(jobs))
    assert job_row(store, jobs[-1]).waits == 1


def test_many_new_jobs_start_when_all_of_them_are_queued(
    store: Store, home: Home, in_between: list[Callable[[], object]]
) -> None:
    need, other = one(store, "y"), Store(home, durable=False)
    seen: list[str] = []
    in_between += [lambda: seen.append(states(other)), lambda: seen.append(str(one(other, "z")))]
    jobs = insert_many(store, dependencies=[need])
    assert seen == ["queued held held held", str(jobs[-1] + 1)]
    rows = store.read.jobs_by_id(jobs)
    assert [(row.name, row.state, row.waits) for row in rows] == [
        (f"command/{name}", State.QUEUED, 1) for name in MANY
    ]
    assert {row.state_reason.code for row in rows} == {ReasonCode.NEW}
    events = "SELECT count(*) FROM events WHERE job = ?"
    assert store.database.execute(events, (jobs[-1] + 1,)).fetchone()[0] == 1
    other.close()


def test_first_jobs_of_a_queue_may_be_many(
    store: Store, in_between: list[Callable[[], object]]
) -> None:
    del in_between[:]
    assert insert_many(store) == [1, 2, 3, 4, 5, 6, 7]
    assert one(store, "z") == 8


def test_many_new_jobs_can_be_held(store: Store, in_between: list[Callable[[], object]]) -> None:
    del in_between[:]
    jobs = insert_many(store, state=State.HELD)
    assert {row.state for row in store.read.jobs_by_id(jobs)} == {State.HELD}


def test_interrupted_insertion_leaves_nothing(
    store: Store, in_between: list[Callable[[], object]]
) -> None:
    need = one(store, "y")
    in_between.append(interrupt)
    with pytest.raises(KeyboardInterrupt):
        insert_many(store, after_any=[need])
    assert states(store) == "queued"
    jobs = insert_many(store, after_any=[need])
    assert [row.name for row in store.read.jobs_by_id(jobs)] == [f"command/{n}" for n in MANY]


def test_many_dependencies_are_written_in_smaller_portions(store: Store) -> None:
    new = NewJob(a_spec(), after_any=range(1, 2001))
    with store.database.writing():
        assert store.reserve_numbers([new] * 1000)
        assert not store.reserve_numbers([NewJob(a_spec())] * 1000)


def test_transaction_waits_longer_than_one_try(
    store: Store, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, holds, let_go = one(store), threading.Event(), threading.Event()
    store.database.execute("PRAGMA busy_timeout = 1")
    monkeypatch.setattr(connection, "LOCK_TRIES", 10**6)

    def hold_the_lock() -> None:
        with sqlite3.connect(home.database, isolation_level=None) as database:
            database.execute("BEGIN IMMEDIATE")
            holds.set()
            let_go.wait(0.2)
            database.execute("COMMIT")
        database.close()

    holder = threading.Thread(target=hold_the_lock)
    holder.start()
    assert holds.wait(20)
    store.job_control.set_note([job], "written")
    holder.join()
    assert job_row(store, job).owner_note == "written"
