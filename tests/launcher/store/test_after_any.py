"""Jobs that wait for the end of another, however it ends."""

import pytest

from launcher.states import Done, Failed, Lost, Outcome, ReasonCode, State, Stopped
from launcher.store.queue import NewJob, Store
from tests.build import a_context, a_seat, a_spec, claimed, enqueue, job_row


def end(store: Store, job: int, outcome: Outcome) -> None:
    store.scheduling.finish(claimed(store, job), outcome, outputs={}, now=3.0)


def ready(store: Store) -> list[int]:
    return [job.id for job in store.scheduling.ready(10)]


def states(store: Store) -> list[State]:
    return [job.state for job in store.read.jobs()]


def two(store: Store) -> tuple[int, int]:
    """A job, and one that starts after its end."""
    first, second = enqueue(
        store,
        a_spec(name="command/first"),
        a_spec(name="command/second"),
        after_any={"command/second": ["command/first"]},
    )
    return first, second


@pytest.mark.parametrize("outcome", [Done(at=2.0), Failed(at=2.0, error="no")])
def test_a_job_starts_after_the_end_of_another_done_or_not(store: Store, outcome: Outcome) -> None:
    first, second = two(store)
    assert ready(store) == [first]
    end(store, first, outcome)
    assert ready(store) == [second]
    assert (job_row(store, second).state, job_row(store, second).waits) == (State.QUEUED, 0)


@pytest.mark.parametrize("outcome", [Stopped(at=2.0), Lost(at=2.0, why="a crash")])
def test_an_attempt_that_is_followed_by_another_is_no_end(store: Store, outcome: Outcome) -> None:
    first, second = two(store)
    end(store, first, outcome)
    assert (ready(store), job_row(store, second).waits) == ([first], 1)


@pytest.mark.parametrize("runs", [False, True])
def test_a_cancelled_job_holds_nothing_up(store: Store, runs: bool) -> None:
    first, second = two(store)
    if runs:
        claim = claimed(store, first)
        store.steering.cancel([first], 2.0)
        assert ready(store) == []
        store.scheduling.finish(claim, Stopped(at=2.5), outputs={}, now=3.0)
    else:
        store.steering.cancel([first], 2.0)
    assert states(store) == [State.CANCELLED, State.QUEUED]
    assert ready(store) == [second]


def test_a_skipped_job_holds_nothing_up(store: Store) -> None:
    names = [f"command/{letter}" for letter in "abc"]
    a, _, c = enqueue(
        store,
        *(a_spec(name=name) for name in names),
        needs={"command/b": ["command/a"]},
        after_any={"command/c": ["command/b"]},
    )
    end(store, a, Failed(at=2.0, error="no"))
    assert states(store) == [State.FAILED, State.SKIPPED, State.QUEUED]
    assert ready(store) == [c]


def test_a_new_job_that_is_skipped_at_once_holds_nothing_up(store: Store) -> None:
    failed, first, second, third = enqueue(
        store,
        *(a_spec(name=f"command/{name}") for name in ("failed", "first", "second", "third")),
        needs={"command/third": ["command/first"]},
        after_any={"command/second": ["command/first"]},
    )
    end(store, failed, Failed(at=2.0, error="no"))
    with store.writing():
        store.set_needs(first, [failed], 3.0)
        run, number = store.run(store.read.jobs()[0].spec.run_folder, "other"), store.next_number()
        new = [
            NewJob(spec=a_spec(name="command/1"), needs=[failed]),
            NewJob(spec=a_spec(name="command/2"), after_any=[number]),
        ]
        _, awaiting = store.put_new(run, a_context(), new, 3.0)
    assert [job_row(store, job).state for job in (first, number, third)] == [State.SKIPPED] * 3
    assert sorted(ready(store)) == [second, awaiting]


def test_a_job_waits_for_all_of_both_sorts(store: Store) -> None:
    names = [f"command/{letter}" for letter in "abc"]
    a, b, c = enqueue(
        store,
        *(a_spec(name=name) for name in names),
        needs={"command/c": ["command/a"]},
        after_any={"command/c": ["command/b", "command/a"]},
    )
    assert job_row(store, c).waits == 2, "the end of what must be done is not counted besides"
    end(store, b, Failed(at=2.0, error="no"))
    assert (ready(store), job_row(store, c).waits) == ([a], 1)
    assert [job.id for job in store.read.needed_by(c)] == [a]
    assert [job.id for job in store.read.awaited_by(c)] == [b]
    end(store, a, Failed(at=2.0, error="no"))
    assert job_row(store, c).state is State.SKIPPED


def test_a_job_that_is_retried_is_waited_for_again(store: Store) -> None:
    first, second = two(store)
    end(store, first, Failed(at=2.0, error="no"))
    store.steering.retry([first], 3.0)
    assert (ready(store), job_row(store, second).waits) == ([first], 1)
    end(store, first, Done(at=4.0))
    assert ready(store) == [second]


def test_retrying_a_job_does_not_take_along_one_of_which_only_the_end_counts(store: Store) -> None:
    first, second = two(store)
    end(store, first, Failed(at=2.0, error="no"))
    end(store, second, Failed(at=2.0, error="no"))
    assert store.steering.again([second]) == [second]


def test_an_ended_job_may_be_forgotten_though_others_waited_for_its_end(store: Store) -> None:
    first, second = two(store)
    assert store.steering.forget([first]) == [], "it is open"
    end(store, first, Failed(at=2.0, error="no"))
    assert store.steering.forget([first]) == [first]
    assert ready(store) == [second]


def test_who_waits_for_an_end_is_told_apart_from_who_needs_the_job(store: Store) -> None:
    first, second = two(store)
    assert store.read.dependants_of([first]) == []
    assert [job.id for job in store.read.awaiting(first)] == [second]
    assert store.read.needs([second])[second].name == "command/first"
    end(store, first, Failed(at=2.0, error="no"))
    assert store.read.needs([second]) == {}


def test_new_jobs_wait_for_ends_whether_put_in_at_once_or_one_by_one(store: Store) -> None:
    (failed,) = enqueue(store, a_spec(name="command/failed"))
    end(store, failed, Failed(at=2.0, error="no"))
    (open_one,) = enqueue(store, a_spec(name="command/open"))
    with store.writing():
        run, first = store.run(store.read.jobs()[0].spec.run_folder, "other"), store.next_number()
        new = [
            NewJob(spec=a_spec(name="command/1"), after_any=[failed]),
            NewJob(spec=a_spec(name="command/2"), after_any=[failed, open_one]),
            NewJob(spec=a_spec(name="command/3"), after_any=[first]),
        ]
        numbers = store.put_new(run, a_context(), new, 1.0)
    assert [job_row(store, number).waits for number in numbers] == [0, 1, 1]
    before = [job_row(store, number).waits for number in numbers]
    store.database.execute("UPDATE jobs SET waits = 9 WHERE id >= ?", (first,))
    with store.writing():
        for number, each in zip(numbers, new, strict=True):
            store.set_needs(number, each.needs, 2.0, after_any=each.after_any)
    assert [job_row(store, number).waits for number in numbers] == before


def test_a_job_that_is_set_aside_has_ended(store: Store) -> None:
    first, second = two(store)
    store.database.execute("UPDATE jobs SET spec = '{' WHERE id = ?", (first,))
    store.scheduling.ready(10)
    assert store.scheduling.claim(first, a_seat(), reason="", now=1.0) is None
    assert job_row(store, first).why.code is ReasonCode.UNREADABLE
    assert ready(store) == [second]


def test_of_many_needs_those_that_are_not_done_are_listed_first(store: Store) -> None:
    names = [f"command/{letter}" for letter in "abcd"]
    a, b, c, d = enqueue(
        store, *(a_spec(name=name) for name in names), needs={"command/d": names[:3]}
    )
    end(store, a, Done(at=2.0))
    assert [job.id for job in store.read.first_needed_by(d, 2)] == [b, c]
    assert [job.id for job in store.read.first_needed_by(d, 9)] == [b, c, a]
