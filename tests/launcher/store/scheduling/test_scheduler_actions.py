import json
import math
import threading

import pytest

from launcher.job import LONGEST_BACKOFF_S, Terms
from launcher.states import Done, Failed, Lost, Outcome, ReasonCode, State, Stopped, Void
from launcher.store.queue import Store
from launcher.store.transitions import LOST_LIMIT, Requeue
from launcher.system.paths import Home
from tests.build import a_reason, a_seat, a_spec, claimed, endings, enqueue, job_row


def end(store: Store, job: int, outcome: Outcome, now: float = 3.0) -> State | None:
    """Claim a job and take in how its attempt ended."""
    return store.scheduling.finish(claimed(store, job), outcome, outputs={}, now=now)


def states(store: Store) -> list[State]:
    return [job.state for job in store.read.jobs()]


def ready(store: Store, each: int = 10) -> list[int]:
    return [job.id for job in store.scheduling.ready(each)]


# --- attempts


def test_a_job_is_claimed_once(home: Home, store: Store) -> None:
    jobs = enqueue(store, *(a_spec(name=f"command/{number}") for number in range(20)))
    won: list[int] = []

    def grab() -> None:
        mine = Store(home, durable=False)
        for job in jobs:
            claim = mine.scheduling.claim(job, a_seat(), reason="", now=1.0)
            won.extend([claim.job] if claim else [])
        mine.close()

    rivals = [threading.Thread(target=grab) for _ in range(3)]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()
    assert sorted(won) == jobs
    assert [len(store.read.attempts([job])) for job in jobs] == [1] * len(jobs)


def test_a_job_that_was_cancelled_meanwhile_is_not_claimed(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    store.steering.cancel([job], 1.0)
    assert store.scheduling.claim(job, a_seat(), reason="", now=2.0) is None


def test_an_end_is_taken_in_once(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    claim = claimed(store, job)
    assert store.scheduling.finish(claim, Done(at=2.0), outputs={}, now=2.0) is State.DONE
    assert store.scheduling.finish(claim, Failed(at=3.0, error="no"), outputs={}, now=3.0) is None
    assert endings(store, job) == ["done"]
    assert job_row(store, job).state is State.DONE


def test_a_done_job_has_its_result_and_the_stamps_of_its_files(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    done = Done(at=2.0, result={"auc": 0.97})
    store.scheduling.finish(claimed(store, job), done, outputs={"/m.pt": (10, 20)}, now=2.0)
    assert store.read.result_of(job) == {"auc": 0.97}
    assert job_row(store, job).outputs == {"/m.pt": (10, 20)}


@pytest.mark.parametrize(
    ("outcome", "wish", "state"),
    [
        (Done(at=2.0), "", State.DONE),
        (Done(at=2.0), "cancel", State.DONE),
        (Failed(at=2.0, error="no"), "", State.FAILED),
        (Stopped(at=2.0), "", State.QUEUED),
        (Stopped(at=2.0), "cancel", State.CANCELLED),
        (Void(at=2.0), "", State.QUEUED),
        (Void(at=2.0), "cancel", State.CANCELLED),
        (Lost(at=2.0, why="?"), "", State.QUEUED),
        (Lost(at=2.0, why="?"), "cancel", State.CANCELLED),
    ],
)
def test_what_follows_from_an_end(store: Store, outcome: Outcome, wish: str, state: State) -> None:
    (job,) = enqueue(store, a_spec())
    claim = claimed(store, job)
    if wish:
        store.steering.cancel([job], 1.5)
    assert store.scheduling.finish(claim, outcome, outputs={}, now=2.0) is state
    row = job_row(store, job)
    assert row.state is state
    assert row.wish == ""
    assert row.reason
    assert (row.ended is None) is (state is State.QUEUED)


def test_a_job_that_is_lost_again_and_again_fails_in_the_end(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    seen = [end(store, job, Lost(at=2.0, why="it was killed")) for _ in range(LOST_LIMIT)]
    assert seen == [State.QUEUED] * (LOST_LIMIT - 1) + [State.FAILED]
    assert job_row(store, job).reason == f"lost {LOST_LIMIT} times, the last time: it was killed"


def test_a_result_that_speaks_of_lost_is_not_a_lost_attempt(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    for _ in range(LOST_LIMIT):
        end(store, job, Done(at=2.0, result={"lost": 1, "ending": "lost"}))
        enqueue(store, a_spec())
    assert end(store, job, Lost(at=2.0, why="?")) is State.QUEUED


def test_all_that_needs_a_failed_job_is_skipped(store: Store) -> None:
    chain = [a_spec(name=f"command/{letter}") for letter in "abcd"]
    needs = {"command/b": ["command/a"], "command/c": ["command/b"]}
    a, _, c, _ = enqueue(store, *chain, needs=needs)
    end(store, a, Failed(at=2.0, error="no"))
    assert states(store) == [State.FAILED, State.SKIPPED, State.SKIPPED, State.QUEUED]
    assert job_row(store, c).reason == "needs command/a, which failed"


@pytest.mark.parametrize("text", ["\ud800", "a\x00b", "\x1b[31m", "line\nline", "x" * 100_000])
def test_any_last_words_of_a_program_can_be_taken_in(store: Store, text: str) -> None:
    (job,) = enqueue(store, a_spec())
    assert end(store, job, Failed(at=2.0, error=text)) is State.FAILED
    assert job_row(store, job).state is State.FAILED


def test_an_outcome_in_the_database_is_the_one_that_was_told(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    end(store, job, Failed(at=2.0, error="ended with exit code 3", exit_code=3))
    (attempt,) = store.read.attempts([job])
    assert (attempt.outcome or {})["exit_code"] == 3
    record = attempt.record()
    assert json.loads(json.dumps(record)) == record


# --- lanes


def test_no_lane_hides_another(store: Store) -> None:
    many = [a_spec(name=f"command/{number}", priority=9, cpus=4) for number in range(50)]
    *_, small = enqueue(store, *many, a_spec(name="command/small"))
    assert small in ready(store, 1)
    assert len(ready(store, 3)) == 4


def test_what_could_start_is_in_one_order_whatever_its_lane(store: Store) -> None:
    late, first, second, urgent = enqueue(
        store,
        a_spec(name="command/late", cpus=2, priority=-1),
        a_spec(name="command/first"),
        a_spec(name="command/second", cpus=2),
        a_spec(name="command/urgent", cpus=3, priority=1),
    )
    assert ready(store) == [urgent, first, second, late]


def test_what_could_start_can_be_asked_inside_and_outside_of_a_transaction(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    assert ready(store) == [job]
    with store.writing():  # the question before left none open
        store.steering.hold([job], 1.0)
        assert ready(store) == []
        store.steering.release([job], 2.0)
    assert ready(store) == [job]


def test_jobs_that_ask_for_the_same_share_a_lane(store: Store) -> None:
    a, b, c, d = enqueue(
        store,
        a_spec("true", name="command/a"),
        a_spec("false", name="command/b", priority=3),
        a_spec(name="command/c", cpus=2),
        a_spec(name="command/d", terms=Terms(group="downloads")),
    )
    lanes = {job.id: job.lane_id for job in store.scheduling.ready(10)}
    assert lanes[a] == lanes[b]
    assert len({lanes[a], lanes[c], lanes[d]}) == 3
    assert {job.id: job.lane.group for job in store.scheduling.ready(10)}[d] == "downloads"


def test_why_a_lane_waits_is_told_with_each_of_its_jobs(store: Store) -> None:
    a, b = enqueue(store, a_spec(name="command/a", cpus=4), a_spec(name="command/b"))
    lanes = {job.id: job.lane_id for job in store.scheduling.ready(1)}
    full = a_reason("needs 4 cores, 1 of 8 free", ReasonCode.NO_ROOM)
    store.scheduling.explain({lanes[a]: full, lanes[b]: None})
    assert job_row(store, a).lane_waits == full
    assert job_row(store, a).hindrance == "needs 4 cores, 1 of 8 free"
    assert job_row(store, b).hindrance == ""
    store.scheduling.explain({lanes[a]: None})
    assert job_row(store, a).hindrance == ""


# --- times


def test_a_job_does_not_start_before_its_time(store: Store) -> None:
    (job,) = enqueue(store, a_spec(terms=Terms(not_before=100.0)))
    assert ready(store) == []
    assert store.scheduling.let_go(99.9) == 100.0
    assert ready(store) == []
    assert store.scheduling.let_go(100.0) is None
    assert ready(store) == [job]


def test_a_job_with_a_time_and_needs_waits_for_both(store: Store) -> None:
    a, b = enqueue(
        store,
        a_spec(name="command/a"),
        a_spec(name="command/b", terms=Terms(not_before=100.0)),
        needs={"command/b": ["command/a"]},
    )
    assert job_row(store, b).waits == 2
    store.scheduling.let_go(200.0)
    assert ready(store) == [a]
    end(store, a, Done(at=201.0))
    assert ready(store) == [b]


def test_the_next_time_is_told(store: Store) -> None:
    assert store.scheduling.let_go(1.0) is None
    times = {"a": 30.0, "b": 10.0, "c": 20.0}
    enqueue(
        store,
        *(a_spec(name=f"command/{name}", terms=Terms(not_before=at)) for name, at in times.items()),
    )
    assert [store.scheduling.let_go(now) for now in (5.0, 15.0, 25.0, 35.0)] == [
        10.0,
        20.0,
        30.0,
        None,
    ]


# --- running again


def test_a_job_that_failed_runs_again_after_pauses_that_double(store: Store) -> None:
    (job,) = enqueue(store, a_spec(terms=Terms(retries=2, backoff_s=10.0)))
    failed = Failed(at=2.0, error="no network")
    assert end(store, job, failed, now=100.0) is State.QUEUED
    row = job_row(store, job)
    assert (row.starts_at, row.failures) == (110.0, 1)
    assert row.reason == "retry 1 of 2 after 10 s: no network"
    assert ready(store) == []
    store.scheduling.let_go(110.0)
    assert end(store, job, failed, now=200.0) is State.QUEUED
    assert job_row(store, job).starts_at == 220.0
    store.scheduling.let_go(220.0)
    assert end(store, job, failed, now=300.0) is State.FAILED
    row = job_row(store, job)
    assert (row.reason, row.attempts, row.starts_at) == ("no network", 3, None)


def test_no_pause_is_longer_than_an_hour(store: Store) -> None:
    (job,) = enqueue(store, a_spec(terms=Terms(retries=1000, backoff_s=3000.0)))
    for _ in range(3):
        end(store, job, Failed(at=2.0, error="no"), now=100.0)
        pause_s = (job_row(store, job).starts_at or 0.0) - 100.0
        assert pause_s <= LONGEST_BACKOFF_S
        store.scheduling.let_go(1e9)


def test_a_clock_that_was_set_back_prolongs_no_pause(store: Store) -> None:
    (job,) = enqueue(store, a_spec(terms=Terms(retries=1)))
    end(store, job, Failed(at=2.0, error="no"), now=1_000_000.0)
    store.scheduling.let_go(50.0)
    assert ready(store) == [job]


def test_a_clock_that_was_set_back_changes_no_time_that_was_named(store: Store) -> None:
    enqueue(store, a_spec(terms=Terms(not_before=1_000_000.0)))
    store.scheduling.let_go(50.0)
    assert ready(store) == []


def test_what_waits_for_a_job_waits_for_its_retries_too(store: Store) -> None:
    a, b = enqueue(
        store,
        a_spec(name="command/a", terms=Terms(retries=1)),
        a_spec(name="command/b"),
        needs={"command/b": ["command/a"]},
    )
    end(store, a, Failed(at=2.0, error="no"))
    assert job_row(store, b).state is State.QUEUED
    store.scheduling.let_go(1e9)
    end(store, a, Failed(at=2.0, error="no"))
    assert job_row(store, b).state is State.SKIPPED


def test_lost_attempts_are_counted_apart_from_failures(store: Store) -> None:
    (job,) = enqueue(store, a_spec(terms=Terms(retries=1)))
    end(store, job, Lost(at=2.0, why="power cut"))
    end(store, job, Failed(at=2.0, error="no"))
    store.scheduling.let_go(1e9)
    row = job_row(store, job)
    assert (row.state, row.lost, row.failures) == (State.QUEUED, 1, 1)


def test_a_job_that_must_never_run_twice_fails_when_it_is_lost(store: Store) -> None:
    a, b = enqueue(
        store,
        a_spec(name="command/a", terms=Terms(rerun="never", retries=5)),
        a_spec(name="command/b"),
        needs={"command/b": ["command/a"]},
    )
    assert end(store, a, Lost(at=2.0, why="power cut")) is State.FAILED
    assert job_row(store, a).reason == "lost (power cut), and it must never run twice"
    assert job_row(store, b).state is State.SKIPPED


def test_a_job_that_never_started_was_not_lost(store: Store) -> None:
    (job,) = enqueue(store, a_spec(terms=Terms(rerun="never")))
    assert end(store, job, Void(at=2.0)) is State.QUEUED
    assert (job_row(store, job).lost, ready(store)) == (0, [job])


def test_what_cannot_be_started_again_and_again_is_tried_once_a_second(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    for now, pause in ((10.0, False), (11.0, True)):
        claim = claimed(store, job, now)
        store.scheduling.finish(claim, Void(at=now), outputs={}, now=now)
        assert bool(store.scheduling.ready(1)) is not pause
    assert store.scheduling.let_go(11.5) == 12.0
    store.scheduling.let_go(12.0)
    assert store.scheduling.ready(1)


def test_a_job_that_is_cancelled_in_its_pause_waits_for_nothing_any_more(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    for now in (10.0, 11.0):
        store.scheduling.finish(claimed(store, job, now), Void(at=now), outputs={}, now=now)
    assert job_row(store, job).waits == 1
    store.steering.cancel([job], 11.5)
    assert job_row(store, job).waits == 0


def test_a_job_that_an_older_command_line_put_in_gets_its_lane(store: Store) -> None:
    old, new = enqueue(store, a_spec(name="command/a", cpus=2), a_spec(name="command/b"))
    store._db.execute("UPDATE jobs SET lane = 0, rank = 0 WHERE id = ?", (old,))
    assert [one.id for one in store.scheduling.ready(5)] == [new]
    assert store.scheduling.mend(1.0)
    ready = store.scheduling.ready(5)
    assert sorted(one.id for one in ready) == [old, new]
    assert not store.scheduling.mend(1.0)
    assert {one.id: one.lane.resources.cpus for one in ready} == {old: 2, new: 1}


def test_a_running_job_that_an_older_command_line_put_in_ends_with_an_excuse(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    claim = claimed(store, job)
    store._db.execute("UPDATE jobs SET lane = 0 WHERE id = ?", (job,))
    requeue, short = (
        Requeue(reason=a_reason("full"), vram_request=1 << 30),
        Failed(at=2.0, error="boom"),
    )
    state = store.scheduling.finish(claim, short, outputs={}, now=2.0, requeue=requeue)
    assert state is State.QUEUED
    store.scheduling.ready(1)
    assert store.scheduling.mend(3.0)
    assert [one.id for one in store.scheduling.ready(1)] == [job]


def test_a_number_without_end_in_a_result_is_no_trouble_later(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    claim = claimed(store, job, 1.0)
    store.scheduling.finish(claim, Done(at=1.0, result={"loss": math.nan}), outputs={}, now=1.0)
    store.steering.retry([job], 2.0)
    for now in (3.0, 4.0):
        claim = claimed(store, job, now)
        state = store.scheduling.finish(claim, Void(at=now), outputs={}, now=now)
        assert state is State.QUEUED
