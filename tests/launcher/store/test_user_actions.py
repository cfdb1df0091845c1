"""What users do to jobs, and pauses as the queue records them."""

from itertools import pairwise
from pathlib import Path

import pytest

from launcher.job import Terms
from launcher.screens.format import pause_reason
from launcher.screens.job_details import job_records
from launcher.screens.job_view import job_view
from launcher.states import Done, Failed, Lost, Outcome, ReasonCode, State
from launcher.store.feed import Feed
from launcher.store.queue import NewJob, Store
from launcher.store.rows import AGEING_S
from launcher.store.usage import Measured
from launcher.system.paths import Home
from launcher.workers.progress.attempt_progress import Newest
from launcher.workers.progress.steps import Step
from tests.build import GIB, a_context, a_seat, a_spec, claimed, enqueue, job_row


def end(store: Store, job: int, outcome: Outcome) -> State | None:
    """Claim a job and take in how its attempt ended."""
    return store.scheduling.finish(claimed(store, job), outcome, outputs={}, now=3.0)


def states(store: Store) -> list[State]:
    return [job.state for job in store.read.jobs()]


def ready(store: Store) -> list[int]:
    return [job.id for job in store.scheduling.ready(10)]


def a_chain(store: Store, *letters: str) -> list[int]:
    """Jobs each of which needs the one before it."""
    names = [f"command/{letter}" for letter in letters]
    needs = {name: [before] for before, name in pairwise(names)}
    return enqueue(store, *(a_spec(name=name) for name in names), needs=needs)


# --- cancelling


def test_cancelling_skips_what_needs_the_job(store: Store) -> None:
    a, b, _ = enqueue(
        store,
        *(a_spec(name=f"command/{letter}") for letter in "abc"),
        needs={"command/b": ["command/a"]},
    )
    assert store.steering.cancel([a], 2.0) == [a]
    assert states(store) == [State.CANCELLED, State.SKIPPED, State.QUEUED]
    assert job_row(store, b).reason == "needs command/a, which was cancelled"


def test_a_job_that_is_cancelled_with_what_it_needs_is_cancelled_itself(store: Store) -> None:
    a, b = enqueue(
        store,
        *(a_spec(name=f"command/{letter}") for letter in "ab"),
        needs={"command/b": ["command/a"]},
    )
    assert store.steering.cancel([a, b], 2.0) == [a, b]
    assert states(store) == [State.CANCELLED, State.CANCELLED]


def test_a_running_job_is_asked_to_end_and_stays_until_it_has(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    claimed(store, job)
    assert store.steering.cancel([job], 2.0) == [job]
    assert job_row(store, job).state is State.RUNNING
    assert store.scheduling.wishes() == {job: "cancel"}


def test_what_has_ended_cannot_be_cancelled(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    end(store, job, Done(at=2.0))
    assert store.steering.cancel([job], 3.0) == []
    assert job_row(store, job).state is State.DONE


def test_cancelling_ends_a_pause(store: Store) -> None:
    (job,) = enqueue(store, a_spec(terms=Terms(not_before=100.0)))
    store.steering.cancel([job], 2.0)
    assert store.scheduling.let_go(50.0) is None


# --- holding


def test_a_held_job_does_not_start_until_it_is_released(store: Store) -> None:
    a, b = enqueue(store, a_spec(name="command/a"), a_spec(name="command/b"))
    assert store.steering.hold([a], 2.0) == [a]
    assert ready(store) == [b]
    assert store.steering.hold([a], 2.0) == [], "it is held already"
    assert store.steering.release([a, b], 3.0) == [a]
    assert ready(store) == [a, b]


@pytest.mark.parametrize("verb", ["hold", "release"])
def test_what_runs_or_has_ended_is_neither_held_nor_released(store: Store, verb: str) -> None:
    running, done = enqueue(store, a_spec(name="command/a"), a_spec(name="command/b"))
    end(store, done, Done(at=2.0))
    claimed(store, running)
    assert getattr(store.steering, verb)([running, done], 3.0) == []
    assert states(store) == [State.RUNNING, State.DONE]


def test_a_held_job_is_skipped_when_what_it_needs_fails(store: Store) -> None:
    a, b = a_chain(store, "a", "b")
    store.steering.hold([b], 1.0)
    end(store, a, Failed(at=2.0, error="no"))
    assert job_row(store, b).state is State.SKIPPED


# --- priority


def test_waiting_a_day_is_worth_a_point_of_priority(store: Store) -> None:
    def put(name: str, priority: int, at: float) -> int:
        with store.writing():
            run = store.run(Path("/nowhere"), "test")
            new = NewJob(spec=a_spec(name=name, priority=priority))
            return store.put(run, a_context(), new, at)

    old = put("command/old", 0, 0.0)
    urgent = put("command/urgent", 1, 0.9 * AGEING_S)
    late = put("command/late", 1, 1.1 * AGEING_S)
    assert ready(store) == [urgent, old, late]


def test_priority_is_given_to_what_waits(store: Store) -> None:
    a, b, c = enqueue(store, *(a_spec(name=f"command/{letter}") for letter in "abc"))
    end(store, a, Done(at=2.0))
    assert store.steering.prioritise([a, b, c], -2) == [b, c]
    assert store.steering.prioritise([c], 5) == [c]
    assert ready(store) == [c, b]
    assert [job.priority for job in store.read.jobs()] == [0, -2, 5]


# --- running again


def test_retrying_takes_along_what_is_needed_and_what_was_skipped(store: Store) -> None:
    a, b, c = a_chain(store, "a", "b", "c")
    end(store, a, Failed(at=2.0, error="no"))
    assert states(store) == [State.FAILED, State.SKIPPED, State.SKIPPED]
    assert store.steering.again([c]) == [a, b, c]
    assert store.steering.retry([c], 4.0) == [a, b, c]
    assert [job.waits for job in store.read.jobs()] == [0, 1, 1]
    assert ready(store) == [a]


def test_retrying_leaves_what_is_done_and_what_has_nothing_to_do_with_it(store: Store) -> None:
    a, b, other = [*a_chain(store, "a", "b"), *enqueue(store, a_spec(name="command/other"))]
    end(store, a, Done(at=2.0))
    end(store, b, Failed(at=2.0, error="no"))
    end(store, other, Failed(at=2.0, error="no"))
    assert store.steering.retry([b], 4.0) == [b]
    assert states(store) == [State.DONE, State.QUEUED, State.FAILED]
    assert ready(store) == [b]


def test_a_done_job_that_runs_again_keeps_others_waiting(store: Store) -> None:
    a, b = a_chain(store, "a", "b")
    end(store, a, Done(at=2.0))
    assert store.steering.retry([a], 4.0) == [a]
    assert job_row(store, b).waits == 1
    assert ready(store) == [a]


def test_an_open_job_is_not_retried(store: Store) -> None:
    a, b = enqueue(store, a_spec(name="command/a"), a_spec(name="command/b"))
    claimed(store, b)
    assert store.steering.retry([a, b], 4.0) == []
    assert states(store) == [State.QUEUED, State.RUNNING]


def test_retrying_counts_from_zero(store: Store) -> None:
    (job,) = enqueue(store, a_spec(terms=Terms(retries=1, rerun="never")))
    end(store, job, Failed(at=2.0, error="no"))
    store.scheduling.let_go(1e9)
    end(store, job, Lost(at=2.0, why="?"))
    store.steering.retry([job], 4.0)
    row = job_row(store, job)
    assert (row.failures, row.lost, row.ended) == (0, 0, None)
    assert end(store, job, Failed(at=5.0, error="no")) is State.QUEUED, "it has its retry again"


# --- forgetting


def test_a_forgotten_job_leaves_nothing(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    end(store, job, Done(at=2.0, result={"auc": 1.0}))
    assert store.steering.forget([job]) == [job]
    assert store.read.jobs() == []
    assert store.read.attempts([job]) == []
    assert store.read.events_of(job) == []
    assert store.read.result_of(job) is None
    assert not any(store.read.counts().values())
    assert enqueue(store, a_spec()) == [job + 1], "its number is not given again"


def test_what_is_open_or_needed_is_not_forgotten(store: Store) -> None:
    a, b, c = a_chain(store, "a", "b", "c")
    end(store, a, Done(at=2.0))
    assert store.steering.forget([a, b, c]) == []
    store.steering.cancel([b], 3.0)
    assert store.steering.forget([a]) == [a], "only ended jobs need it now"
    assert store.read.needs_of(b) == []


def test_what_failed_is_not_forgotten_while_a_job_may_be_run_again_that_needs_it(
    store: Store,
) -> None:
    a, b = a_chain(store, "a", "b")
    store.steering.cancel([a], 2.0)
    assert store.steering.forget([a]) == []
    assert store.steering.forgettable([a, b]) == {a, b}
    assert store.steering.forget([a, b]) == [a, b]


def test_jobs_that_are_gone_are_nobodys_trouble(store: Store) -> None:
    assert store.steering.again([99]) == []
    assert store.steering.forget([99]) == []


def test_environments_are_forgotten_with_the_last_job_that_had_them(store: Store) -> None:
    secret = a_context(environment={"TOKEN": "s3cret"})
    (gone,) = enqueue(store, a_spec(name="command/a"), context=secret)
    (kept,) = enqueue(store, a_spec(name="command/b"))
    store.steering.cancel([gone], 2.0)
    store.steering.forget([gone])
    store.steering.forget_contexts()
    bodies = [row[0] for row in store._db.execute("SELECT body FROM contexts")]
    assert not any("s3cret" in body for body in bodies)
    assert claimed(store, kept).context_text
    (again,) = enqueue(store, a_spec(name="command/c"), context=secret)
    assert "s3cret" in claimed(store, again).context_text


def test_the_number_of_an_event_is_never_given_again(store: Store) -> None:
    first, second = enqueue(store, a_spec(name="command/a"), a_spec(name="command/b"))
    store.steering.cancel([second], 2.0)
    last = store.read.last_event()
    store.steering.forget([second])
    store.steering.hold([first], 3.0)
    assert [change.job for change in Feed(store, last).since()] == [first]


# --- groups


def test_a_groups_limit_is_set_changed_and_forgotten(store: Store) -> None:
    store.steering.limit("downloads", 2)
    store.steering.limit("downloads", 3)
    store.steering.limit("uploads", 1)
    assert [(group.name, group.slots) for group in store.read.groups()] == [
        ("downloads", 3),
        ("uploads", 1),
    ]
    store.steering.limit("downloads", None)
    assert [group.name for group in store.read.groups()] == ["uploads"]


# --- pauses as the queue records them: how long each attempt was paused, and what follows from that


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
