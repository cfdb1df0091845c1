"""Who follows the queue hears of each change once, whatever else becomes of the job."""

from collections.abc import Iterator

import pytest

from launcher.states import Done, Failed, State
from launcher.store.feed import BUSY_S, QUIET_LOOKS, QUIET_S, Feed, FollowedJobs
from launcher.store.queue import Store
from launcher.system.paths import Home
from tests.build import a_spec, claimed, enqueue, job_row


@pytest.fixture
def other(home: Home, store: Store) -> Iterator[Store]:  # makes the home
    """What another process writes with."""
    other = Store(home, durable=False)
    yield other
    other.close()


def ended(store: Store, job: int, *, done: bool = True) -> None:
    claim = claimed(store, job)
    outcome = Done(at=2.0) if done else Failed(at=2.0, error="no", exit_code=1)
    store.scheduling.finish(claim, outcome, outputs={}, now=2.0)


def test_each_change_is_told_once_from_an_event_on(store: Store, other: Store) -> None:
    first, second = enqueue(store, a_spec(name="command/a"), a_spec(name="command/b"))
    feed, from_the_beginning = Feed(store), Feed(store, 0)
    assert feed.since() == []
    other.steering.hold([second], 3.0)
    assert [change[:3] for change in feed.since()] == [(3.0, second, State.HELD)]
    assert feed.since() == []
    assert [change.job for change in from_the_beginning.since()] == [first, second, second]


def test_the_queue_is_not_read_where_no_other_process_has_written(
    store: Store, other: Store
) -> None:
    enqueue(store, a_spec(name="command/a"))
    feed = Feed(store)
    assert feed.has_changed(), "nobody has looked before"
    assert not feed.has_changed()
    other.steering.hold([1], 3.0)
    assert feed.has_changed()
    assert not feed.has_changed()


def test_followed_jobs_are_as_they_are_now(home: Home, store: Store, other: Store) -> None:
    first, second, third = enqueue(store, *(a_spec(name=f"command/{name}") for name in "abc"))
    followed = FollowedJobs(home, store, store.read.jobs_by_id([first, second]))
    ended(other, first)
    other.steering.cancel([third], 3.0)
    assert [change.state for change in followed.changes()] == [State.RUNNING, State.DONE]
    assert {job: row.state for job, row in followed.rows.items()} == {
        first: State.DONE,
        second: State.QUEUED,
    }
    assert followed.open == {second}
    assert [row.id for row in followed.add([third])] == [third]
    followed.drop(second)
    assert not followed.open


def test_a_job_that_is_queued_again_is_open_again(home: Home, store: Store, other: Store) -> None:
    (job,) = enqueue(store, a_spec(name="command/a"))
    followed = FollowedJobs(home, store, [job_row(store, job)])
    ended(other, job, done=False)
    followed.changes()
    assert not followed.open
    other.steering.retry([job], 5.0)
    followed.changes()
    assert followed.open == {job}


def test_a_job_that_ended_and_was_cleaned_meanwhile_has_ended(
    home: Home, store: Store, other: Store
) -> None:
    (job,) = enqueue(store, a_spec(name="command/a"))
    followed = FollowedJobs(home, store, [job_row(store, job)])
    other.steering.hold([job], 1.0)
    followed.changes()
    other.steering.cancel([job], 2.0)
    other.database.execute("PRAGMA foreign_keys = OFF")  # as if it went after its events were read
    other.database.execute("DELETE FROM jobs WHERE id = ?", (job,))
    assert [change.state for change in followed.changes()] == [State.CANCELLED]
    assert followed.rows[job].state is State.CANCELLED
    assert not followed.open


def test_who_follows_all_keeps_only_what_something_happens_to(
    home: Home, store: Store, other: Store
) -> None:
    enqueue(store, *(a_spec(name=f"command/{name}") for name in "abc"))
    followed = FollowedJobs(home, store, None)
    for job in (2, 3):
        other.steering.hold([job], 3.0)
        assert [change.job for change in followed.changes()] == [job]
        assert list(followed.rows) == [job]


def test_looks_are_rarer_where_nothing_happens(home: Home, store: Store, other: Store) -> None:
    (job,) = enqueue(store, a_spec(name="command/a"))
    followed = FollowedJobs(home, store, [job_row(store, job)])
    for _ in range(QUIET_LOOKS):
        assert followed.pause_s == BUSY_S
        followed.changes()
    assert followed.pause_s == QUIET_S
    other.steering.hold([job], 3.0)
    followed.changes()
    assert followed.pause_s == BUSY_S


def test_who_waits_for_jobs_hears_of_each_end_and_comes_back_after_the_last(
    home: Home, store: Store, other: Store
) -> None:
    jobs = enqueue(store, *(a_spec(name=f"command/{name}") for name in "ab"))
    followed = FollowedJobs(home, store, store.read.jobs_by_id(jobs))
    heard = []
    for changes in followed.until_ended():
        heard += [(change.job, change.state) for change in changes]
        if followed.open:
            other.steering.cancel([min(followed.open)], 3.0)
    assert heard == [(job, State.CANCELLED) for job in jobs]
    assert [*followed.until_ended()] == [[]], "all have ended: one look, and no waiting"
