"""What the store says of runs, of what is new and to whom, and of what is ready."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.accounts import Account
from launcher.job_options.notifications import AS_CONFIGURED, Event, RunNotify
from launcher.states import Done, Failed, OutOfMemory, ReasonCode, Shortage, State
from launcher.store import runs as module
from launcher.store.feed import (
    BUSY_S,
    MOST_FAILURES,
    QUIET_LOOKS,
    QUIET_S,
    Feed,
    FollowedJobs,
    RunNewsReader,
)
from launcher.store.queue import Store
from launcher.store.runs import FirstJobs, jobs_before, open_runs
from launcher.store.usage import Measured
from launcher.system.paths import Home
from tests.build import a_spec, claimed, enqueue, job_row
from tests.launcher.queued import end, one, put, ready, seated


def accounts(store: Store) -> dict[str, Account]:
    return {each.name: each for each, _, _ in open_runs(store.database.execute)}


@pytest.fixture
def two_runs(store: Store) -> tuple[int, int]:
    """Two runs of two jobs each; the first jobs."""
    return put(store, "12", run="a")[0], put(store, "12", run="b")[0]


def test_a_run_is_charged_for_what_its_attempts_had_for_its_share(
    store: Store, two_runs: tuple[int, int]
) -> None:
    a, b = two_runs
    store.steering.share("b", 4.0)
    for job in (a, b):
        claim = seated(store, job, 100.0, device="GPU-1,GPU-2", cpus=2)
        end(store, claim, Done(at=110.0), now=111.0)
    recorded = accounts(store)
    assert (recorded["a"].vtime, recorded["a"].used, recorded["a"].at) == (20.0, 20.0, 110.0)
    assert (recorded["b"].vtime, recorded["b"].used) == (5.0, 20.0)


def test_a_failed_attempt_counts_and_one_that_ended_before_it_began_does_not(
    store: Store, two_runs: tuple[int, int]
) -> None:
    a, b = two_runs
    end(store, claimed(store, a, 100.0), Failed(at=116.0, error="x"), now=116.0)
    end(store, claimed(store, b, 100.0), Done(at=50.0), now=50.0)
    assert accounts(store)["a"].vtime == 1.0  # a core is a sixteenth of a card
    assert accounts(store)["b"] == Account(run=accounts(store)["b"].run, name="b")


@pytest.mark.parametrize(
    ("ended", "elapsed_s", "vtime"),
    [(1e9, 32.0, 2.0), (50.0, 32.0, 2.0), (1e9, None, 0.0), (116.0, 1e9, 1.0)],
)
def test_a_clock_that_is_set_charges_no_run_for_years(
    store: Store,
    two_runs: tuple[int, int],
    ended: float,
    elapsed_s: float | None,
    vtime: float,
) -> None:
    claim = claimed(store, two_runs[0], 100.0)
    measured = Measured(elapsed_s=elapsed_s)
    end(store, claim, Done(at=ended), now=ended, measured=measured)
    assert accounts(store)["a"].vtime == vtime


def test_an_end_is_charged_once(store: Store, two_runs: tuple[int, int]) -> None:
    claim = claimed(store, two_runs[0], 100.0)
    for _ in range(2):
        end(store, claim, Done(at=116.0), now=116.0)
    assert accounts(store)["a"].vtime == 1.0


def test_runs_with_open_jobs_are_listed_with_how_many_run_and_wait(
    store: Store, two_runs: tuple[int, int]
) -> None:
    claimed(store, two_runs[0])
    enqueue(store, a_spec(), run="over")
    store.steering.cancel([job.id for job in store.read.of_run("over")], 1.0)
    listed = [(each.name, *counts) for each, *counts in open_runs(store.database.execute)]
    assert listed == [("a", 1, 1), ("b", 0, 2)]


def test_how_many_jobs_of_its_run_come_before_one(store: Store) -> None:
    jobs = [one(store, str(n), cpus=1 + n % 2) for n in range(6)]
    jobs.append(one(store, "urgent", priority=1))
    one(store, priority=9, run="other")

    def before(job: int) -> int:
        return jobs_before(store.database.execute, job_row(store, job), {0, 1})

    assert [before(job) for job in jobs] == [1, 2, 3, 4, 5, 6, 0]
    store.steering.cancel([jobs[0]], 1.0)
    assert before(jobs[1]) == 1


def test_a_share_stays_with_the_run_when_more_jobs_come(store: Store) -> None:
    one(store, run="a")
    store.steering.share("a", 2.5)
    row = job_row(store, one(store, "2", run="a"))
    assert (row.share, row.state) == (2.5, "queued")


# --- news


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
        end(store, job, outcome, now=now)
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
        outcome = short if 5 <= number < 25 else Failed(at=2.0, error="boom")
        end(store, job, outcome, now=2.0)
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
    for run in ("loud", "silent"):
        one(store, run=run)
    for wanted in (RunNotify(events=(Event.RUN_ENDED,), to=("mail",)), AS_CONFIGURED):
        with store.writing():
            store.set_notify(store.run(Path("/nowhere"), "silent"), wanted)
        assert [run.notify for run in reader.since(0)[1]] == [AS_CONFIGURED, wanted]


def test_who_begins_to_listen_hears_of_the_last_minutes(
    store: Store, reader: RunNewsReader
) -> None:
    enqueue(store, a_spec(name="a"))
    assert reader.beginning(time.time()) == 0
    assert reader.beginning(time.time() + 3600) == reader.newest()


# --- ready


READY = ("state", "waits", "priority", "run", "lane")


def runs_of(store: Store, each: int = 2) -> dict[str, int]:
    """How many jobs of each run are looked at."""
    return dict(Counter(job.account.name for job in store.scheduling.ready(each)))


def test_a_run_hides_no_other_and_a_lane_hides_none_in_it(store: Store) -> None:
    sweep = put(store, map(str, range(50)), run="sweep")
    other = put(store, "abcde", run="sweep", cpus=2)
    quick = put(store, "012", run="quick")
    assert ready(store, 2) == [*sweep[:2], *other[:2], *quick[:2]]


def test_of_each_priority_the_first_are_looked_at(store: Store) -> None:
    plain = put(store, map(str, range(5)))
    urgent = one(store, "urgent", priority=1)
    looked = [(job.id, job.priority) for job in store.scheduling.ready(1)]
    assert looked == [(urgent, 1), (plain[0], 0)]


def test_a_job_comes_with_the_account_of_its_run(store: Store) -> None:
    first, _ = put(store, "ab")
    store.steering.share("test", 3.0)
    claimed(store, first, 1.0)
    (ready,) = store.scheduling.ready(5)
    assert (ready.account.name, ready.account.share) == ("test", 3.0)
    assert ready.flow == (0, ready.account.run, ready.lane_id)
    (claim,) = store.scheduling.claims()
    assert claim.run == ready.account.run == job_row(store, first).run_id


@pytest.mark.parametrize("share", [0.0, -1.0, float("inf")])
def test_a_share_that_makes_no_sense_in_a_damaged_row_counts_as_one(
    store: Store, share: float
) -> None:
    enqueue(store, a_spec())
    store.database.execute("UPDATE runs SET share = ?1, vtime = -1, used = ?1", (share,))
    (ready,) = store.scheduling.ready(1)
    assert ready.account.share == 1.0
    assert ready.account.vtime == ready.account.used == 0.0


def test_of_very_many_runs_those_whose_turn_comes_and_by_turns_the_others_are_looked_at(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_RUNS", 3)
    monkeypatch.setattr(module, "MOST_OTHERS", 2)
    for n in range(10):
        one(store, str(n), run=f"run{n}")
    store.database.execute("UPDATE runs SET vtime = 10 - id")
    soonest = {"run9", "run8", "run7"}
    looks = [set(runs_of(store)) for _ in range(4)]
    assert all(soonest < look and len(look) == 5 for look in looks)
    assert set.union(*looks) == {f"run{n}" for n in range(10)}


def test_where_there_are_very_many_flows_fewer_jobs_of_each_are_looked_at(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_JOBS", 30)
    for run in "abcd":
        put(store, map(str, range(20)), run=run)
    first_jobs = FirstJobs(store.database.execute)
    assert [len(flow.jobs) for flow in first_jobs.flows(20)] == [20] * 4
    assert [len(flow.jobs) for flow in first_jobs.flows(20)] == [7] * 4


def test_what_is_looked_at_is_found_by_one_index_without_sorting(store: Store) -> None:
    questions = {
        module._PRIORITIES: (),
        module._RUNS: (0,),
        module._NEXT_LANE: (0, 1, -1, 8),
    }
    for question, values in questions.items():
        plan = [
            row["detail"]
            for row in store.database.execute(f"EXPLAIN QUERY PLAN {question}", values)
        ]
        steps = [step for step in plan if "jobs" in step]
        assert steps
        assert all("USING COVERING INDEX jobs_ready" in step for step in steps), plan
        assert not any("TEMP B-TREE" in step for step in plan), plan


def test_a_limit_of_a_group_holds_for_all_runs(store: Store) -> None:
    store.steering.limit("night", 1)
    for run in "ab":
        one(store, run=run, group="night")
    assert len({job.lane_id for job in store.scheduling.ready(1)}) == 1


# --- the feed: who follows the queue hears of each change once, whatever else becomes of the job


@pytest.fixture
def other(home: Home, store: Store) -> Iterator[Store]:  # makes the home
    """What another process writes with."""
    other = Store(home, durable=False)
    yield other
    other.close()


def ended(store: Store, job: int, *, done: bool = True) -> None:
    claim = claimed(store, job)
    outcome = Done(at=2.0) if done else Failed(at=2.0, error="no", exit_code=1)
    end(store, claim, outcome)


def test_each_change_is_told_once_from_an_event_on(store: Store, other: Store) -> None:
    first, second = put(store, "ab")
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
    first, second, third = put(store, "abc")
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
    job = one(store, "a")
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
    job = one(store, "a")
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
    put(store, "abc")
    followed = FollowedJobs(home, store, None)
    for job in (2, 3):
        other.steering.hold([job], 3.0)
        assert [change.job for change in followed.changes()] == [job]
        assert list(followed.rows) == [job]


def test_looks_are_rarer_where_nothing_happens(home: Home, store: Store, other: Store) -> None:
    job = one(store, "a")
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
    jobs = put(store, "ab")
    followed = FollowedJobs(home, store, store.read.jobs_by_id(jobs))
    heard = []
    for changes in followed.until_ended():
        heard += [(change.job, change.state) for change in changes]
        if followed.open:
            other.steering.cancel([min(followed.open)], 3.0)
    assert heard == [(job, State.CANCELLED) for job in jobs]
    assert [*followed.until_ended()] == [[]], "all have ended: one look, and no waiting"
