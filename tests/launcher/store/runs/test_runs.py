"""Runs, events and ready jobs in the store; searching and listing jobs and runs."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.frontends.cli.job_selection import select
from launcher.frontends.screens.snapshots import QueueSnapshotReader
from launcher.queue.home.paths import Home
from launcher.queue.job_options.notifications import AS_CONFIGURED, NotifyEvent, RunNotify
from launcher.queue.jobs.accounts import FairShareAccount
from launcher.queue.jobs.states import (
    ENDED_STATES,
    Done,
    Failed,
    OomReport,
    OutOfMemory,
    ReasonCode,
    State,
)
from launcher.queue.store import feed
from launcher.queue.store import runs as module
from launcher.queue.store.feed import (
    BUSY_POLL_S,
    IDLE_POLL_S,
    IDLE_POLLS,
    EventCursor,
    JobTracker,
    queue_version,
)
from launcher.queue.store.listings import ListingFilter, ListingQueries
from launcher.queue.store.queue import Store
from launcher.queue.store.run_news import MOST_FAILURES, RunEventReader
from launcher.queue.store.runs import QueueHeads, count_jobs_before, open_runs
from launcher.queue.store.usage import MeasuredUsage
from launcher.system.errors import UsageError
from tests.build import a_spec, claimed, enqueue, job_row
from tests.launcher.queued import FAILED, end, one, put, ready, seated
from tests.launcher.web.made_runs import done


def accounts(store: Store) -> dict[str, FairShareAccount]:
    return {each.name: each for each, _, _ in open_runs(store.database.execute)}


@pytest.fixture
def two_runs(store: Store) -> tuple[int, int]:
    """Two runs of two jobs each; the first jobs."""
    return put(store, "12", run="a")[0], put(store, "12", run="b")[0]


def test_run_is_charged_for_its_attempts_divided_by_its_share(
    store: Store, two_runs: tuple[int, int]
) -> None:
    a, b = two_runs
    store.job_control.set_share("b", 4.0)
    for job in (a, b):
        claim = seated(store, job, 100.0, device="GPU-1,GPU-2", cpus=2)
        end(store, claim, Done(at=110.0), now=111.0)
    recorded = accounts(store)
    assert (recorded["a"].vtime, recorded["a"].used, recorded["a"].updated_at) == (
        20.0,
        20.0,
        110.0,
    )
    assert (recorded["b"].vtime, recorded["b"].used) == (5.0, 20.0)


def test_failed_attempt_is_charged_and_one_with_negative_duration_is_not(
    store: Store, two_runs: tuple[int, int]
) -> None:
    a, b = two_runs
    end(store, claimed(store, a, 100.0), Failed(at=116.0, error="x"), now=116.0)
    end(store, claimed(store, b, 100.0), Done(at=50.0), now=50.0)
    assert accounts(store)["a"].vtime == 1.0  # a core counts as a sixteenth of a GPU
    assert accounts(store)["b"] == FairShareAccount(run=accounts(store)["b"].run, name="b")


@pytest.mark.parametrize(
    ("ended", "elapsed_s", "vtime"),
    [(1e9, 32.0, 2.0), (50.0, 32.0, 2.0), (1e9, None, 0.0), (116.0, 1e9, 1.0)],
)
def test_clock_change_charges_no_run_for_years(
    store: Store,
    two_runs: tuple[int, int],
    ended: float,
    elapsed_s: float | None,
    vtime: float,
) -> None:
    claim = claimed(store, two_runs[0], 100.0)
    measured = MeasuredUsage(elapsed_s=elapsed_s)
    end(store, claim, Done(at=ended), now=ended, measured_usage=measured)
    assert accounts(store)["a"].vtime == vtime


def test_end_of_an_attempt_is_charged_once(store: Store, two_runs: tuple[int, int]) -> None:
    claim = claimed(store, two_runs[0], 100.0)
    for _ in range(2):
        end(store, claim, Done(at=116.0), now=116.0)
    assert accounts(store)["a"].vtime == 1.0


def test_runs_with_open_jobs_are_listed_with_how_many_run_and_wait(
    store: Store, two_runs: tuple[int, int]
) -> None:
    claimed(store, two_runs[0])
    enqueue(store, a_spec(), run="over")
    store.job_control.cancel([job.id for job in store.read.jobs_of_runs_named("over")], 1.0)
    listed = [(each.name, *counts) for each, *counts in open_runs(store.database.execute)]
    assert listed == [("a", 1, 1), ("b", 0, 2)]


def test_number_of_earlier_jobs_of_the_run_is_returned(store: Store) -> None:
    jobs = [one(store, str(n), cpus=1 + n % 2) for n in range(6)]
    jobs.append(one(store, "urgent", priority=1))
    one(store, priority=9, run="other")

    def before(job: int) -> int:
        return count_jobs_before(store.database.execute, job_row(store, job), {0, 1})

    assert [before(job) for job in jobs] == [1, 2, 3, 4, 5, 6, 0]
    store.job_control.cancel([jobs[0]], 1.0)
    assert before(jobs[1]) == 1


def test_a_share_stays_with_the_run_when_more_jobs_come(store: Store) -> None:
    one(store, run="a")
    store.job_control.set_share("a", 2.5)
    row = job_row(store, one(store, "2", run="a"))
    assert (row.share, row.state) == (2.5, "queued")


# --- news


@pytest.fixture
def event_reader(store: Store) -> RunEventReader:
    return RunEventReader(store.database)


def test_events_after_a_given_one_are_grouped_by_run(
    store: Store, event_reader: RunEventReader
) -> None:
    assert event_reader.read_since(0) == (0, [])
    first, second = enqueue(store, a_spec(name="a"), a_spec(name="b"), run="one")
    before = event_reader.newest()
    (third,) = enqueue(store, a_spec(name="a"), run="two")
    now = time.time()
    for job, outcome in (
        (first, Done(at=now)),
        (second, Failed(at=now, error="boom")),
        (third, OutOfMemory(at=now, error="too large", report=OomReport("gpu"))),
    ):
        end(store, job, outcome, now=now)
    upto, (first_run, second_run) = event_reader.read_since(before)
    assert upto == event_reader.newest()
    assert (first_run.name, first_run.root, first_run.open) == ("one", "/nowhere", 0)
    assert (first_run.after, first_run.happened) == (before, (NotifyEvent.FIRST_FAILURE,))
    assert first_run.totals == {State.DONE: 1, State.FAILED: 1}
    assert second_run.happened == (NotifyEvent.OUT_OF_MEMORY, NotifyEvent.FIRST_FAILURE)
    found = [(*event_reader.failures(run.id, before)[0][:2],) for run in (first_run, second_run)]
    assert found == [(second, "b"), (third, "a")]
    assert event_reader.read_since(upto) == (upto, [])
    assert event_reader.count_ended_since(first_run.id, now) == {State.DONE: 1, State.FAILED: 1}
    assert event_reader.count_ended_since(first_run.id, now + 1) == {}


def test_news_of_a_run_begin_when_it_last_had_no_open_job(
    store: Store, event_reader: RunEventReader
) -> None:
    for job in enqueue(store, a_spec(name="a"), a_spec(name="b"), run="one"):
        end(store, job, Done(at=2.0), now=2.0)
    idle = event_reader.newest()
    third, _ = enqueue(store, a_spec(name="c"), a_spec(name="d"), run="one")
    end(store, third, Done(at=2.0), now=2.0)
    before = event_reader.newest()
    enqueue(store, a_spec(name="e"), run="one")
    _, (run,) = event_reader.read_since(before)
    assert (run.after, event_reader.extend_to_idle_start(run).after) == (before, idle)
    _, (whole,) = event_reader.read_since(idle)
    assert event_reader.extend_to_idle_start(whole) == whole


def test_first_failure_and_number_of_memory_failures_are_reported(
    store: Store, event_reader: RunEventReader
) -> None:
    many = enqueue(store, *(a_spec(name=f"m{number}") for number in range(30)), run="many")
    (single,) = enqueue(store, a_spec(name="single"), run="single")
    for number, job in enumerate((*many, single)):
        short = OutOfMemory(at=2.0, error="too large", report=OomReport("gpu"))
        outcome = short if 5 <= number < 25 else Failed(at=2.0, error="boom")
        end(store, job, outcome, now=2.0)
    _, (first, second) = event_reader.read_since(0)
    assert first.happened == (NotifyEvent.OUT_OF_MEMORY, NotifyEvent.FIRST_FAILURE)
    assert second.happened == (NotifyEvent.FIRST_FAILURE,)
    told = event_reader.failures(first.id, 0)
    assert [each.job for each in told] == [many[0], *many[5 : 5 + MOST_FAILURES]]
    assert [each.similar_failures for each in told] == [10] + [20] * MOST_FAILURES
    codes = {each.reason.code for each in told[1:]}
    assert (told[0].reason.code, codes) == (ReasonCode.FAILED, {ReasonCode.OUT_OF_MEMORY})
    assert [each.job for each in event_reader.failures(second.id, 0)] == [single]
    assert event_reader.failures(first.id, event_reader.newest()) == ()


def test_notification_settings_of_a_run_are_stored(
    store: Store, event_reader: RunEventReader
) -> None:
    for run in ("loud", "silent"):
        one(store, run=run)
    for wanted in (RunNotify(events=(NotifyEvent.RUN_ENDED,), to=("mail",)), AS_CONFIGURED):
        with store.database.writing():
            store.set_notify(store.ensure_run(Path("/nowhere"), "silent"), wanted)
        assert [run.notify for run in event_reader.read_since(0)[1]] == [AS_CONFIGURED, wanted]


def test_the_last_event_before_a_time_is_found(store: Store, event_reader: RunEventReader) -> None:
    enqueue(store, a_spec(name="a"))
    assert event_reader.last_event_before(time.time() - 600) == 0
    assert event_reader.last_event_before(time.time() + 3600) == event_reader.newest()


# --- ready


READY = ("state", "waits", "priority", "run", "lane")


def runs_of(store: Store, each: int = 2) -> dict[str, int]:
    """How many jobs of each run are read."""
    return dict(Counter(job.account.name for job in store.ready_jobs.read_ready(each)))


def test_every_run_and_every_lane_of_it_is_read(store: Store) -> None:
    sweep = put(store, map(str, range(50)), run="sweep")
    other = put(store, "abcde", run="sweep", cpus=2)
    quick = put(store, "012", run="quick")
    assert ready(store, 2) == [*sweep[:2], *other[:2], *quick[:2]]


def test_first_jobs_of_each_priority_are_read(store: Store) -> None:
    plain = put(store, map(str, range(5)))
    urgent = one(store, "urgent", priority=1)
    looked = [(job.id, job.priority) for job in store.ready_jobs.read_ready(1)]
    assert looked == [(urgent, 1), (plain[0], 0)]


def test_ready_job_has_the_account_of_its_run(store: Store) -> None:
    first, _ = put(store, "ab")
    store.job_control.set_share("test", 3.0)
    claimed(store, first, 1.0)
    (ready,) = store.ready_jobs.read_ready(5)
    assert (ready.account.name, ready.account.share) == ("test", 3.0)
    assert ready.job_class == (0, ready.account.run, ready.lane_id)
    (claim,) = store.claims.open_claims()
    assert claim.run == ready.account.run == job_row(store, first).run_id


@pytest.mark.parametrize("share", [0.0, -1.0, float("inf")])
def test_invalid_share_in_a_damaged_row_counts_as_one(store: Store, share: float) -> None:
    enqueue(store, a_spec())
    store.database.execute("UPDATE runs SET share = ?1, vtime = -1, used = ?1", (share,))
    (ready,) = store.ready_jobs.read_ready(1)
    assert ready.account.share == 1.0
    assert ready.account.vtime == ready.account.used == 0.0


def test_with_many_runs_the_first_and_in_rotation_the_others_are_read(
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


def test_with_many_classes_fewer_jobs_of_each_are_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_JOBS", 30)
    for run in "abcd":
        put(store, map(str, range(20)), run=run)
    first_jobs = QueueHeads(store.database.execute)
    assert [len(flow.jobs) for flow in first_jobs.read_classes(20)] == [20] * 4
    assert [len(flow.jobs) for flow in first_jobs.read_classes(20)] == [7] * 4


@pytest.fixture
def few_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler reads three of many classes and two others."""
    monkeypatch.setattr(module, "LEAST_CLASSES", 3)
    monkeypatch.setattr(module, "OTHER_CLASSES", 2)


@pytest.mark.parametrize("kind", ["priorities", "lanes", "runs"])
@pytest.mark.usefixtures("few_classes")
def test_of_many_classes_the_first_and_in_rotation_the_others_are_read(
    store: Store, kind: str
) -> None:
    jobs = []
    for n in range(10):
        ways: dict[str, dict[str, Any]] = {
            "priorities": {"priority": -n},
            "lanes": {"time_limit_s": 100.0 + n},
            "runs": {"run": f"run{n}"},
        }
        jobs.append(one(store, str(n), **ways[kind]))
    looks = [ready(store, 1) for _ in range(8)]
    assert all({*jobs[:3]} < {*look} and len(look) <= 5 for look in looks)
    assert {*looks[0]} != {*looks[1]}
    assert set().union(*looks) == {*jobs}
    assert store.ready_jobs.queue_heads.is_partial
    assert len(store.read.waiting_jobs(20)) == 10, "screens list all"


@pytest.mark.usefixtures("few_classes")
def test_rotation_stays_where_jobs_start(store: Store) -> None:
    """Jobs of a high priority wait for a GPU; those of a low one start whenever there is room."""
    for n in range(10):
        put(store, [f"{n}a", f"{n}b"], priority=-n)
    others = {*ready(store, 1)[3:]}
    assert len(others) == 2
    job = min(others)
    claimed(store, job)
    again = ready(store, 1)
    assert {*again} & others == others - {job}
    assert job + 1 in again, "the next job of its class"
    assert not {*ready(store, 1)} & others, "nothing has started, so it continues"


@pytest.mark.usefixtures("few_classes")
def test_few_classes_are_read_at_once(store: Store) -> None:
    jobs = [one(store, str(n), priority=-n) for n in range(2)]
    assert ready(store, 1) == jobs
    assert not store.ready_jobs.queue_heads.is_partial


def test_ready_jobs_are_read_from_one_index_without_sorting(store: Store) -> None:
    questions = {
        module._NEXT_PRIORITY: (0,),
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


def test_limit_of_a_group_applies_to_all_runs(store: Store) -> None:
    store.job_control.set_group_limit("night", 1)
    for run in "ab":
        one(store, run=run, group="night")
    assert len({job.lane_id for job in store.ready_jobs.read_ready(1)}) == 1


# --- the feed: each follower of the queue sees each change once, whatever happens to the job
# later


@pytest.fixture
def other(home: Home, store: Store) -> Iterator[Store]:  # creates the queue folder
    """A store of another process that writes."""
    other = Store(home, durable=False)
    yield other
    other.close()


def ended(store: Store, job: int, *, done: bool = True) -> None:
    claim = claimed(store, job)
    outcome = Done(at=2.0) if done else Failed(at=2.0, error="no", exit_code=1)
    end(store, claim, outcome)


def test_each_change_after_an_event_is_reported_once(store: Store, other: Store) -> None:
    first, second = put(store, "ab")
    feed, from_the_beginning = EventCursor(store), EventCursor(store, 0)
    assert feed.read_new() == []
    other.job_control.hold([second], 3.0)
    assert [change[:3] for change in feed.read_new()] == [(3.0, second, State.HELD)]
    assert feed.read_new() == []
    assert [change.job for change in from_the_beginning.read_new()] == [first, second, second]


def test_queue_is_not_read_if_no_other_process_has_written(store: Store, other: Store) -> None:
    enqueue(store, a_spec(name="command/a"))
    feed = EventCursor(store)
    assert feed.has_changed(), "nobody has looked before"
    assert not feed.has_changed()
    other.job_control.hold([1], 3.0)
    assert feed.has_changed()
    assert not feed.has_changed()


def test_a_replaced_database_has_another_version(home: Home, store: Store, other: Store) -> None:
    before = queue_version(store)
    assert queue_version(store) == before
    assert queue_version(other) != before, "the same content, but another database for its reader"
    other.job_control.change_tags(put(other, "a"), ["new"], [])
    assert queue_version(store) != before


def test_followed_jobs_have_their_current_state(home: Home, store: Store, other: Store) -> None:
    first, second, third = put(store, "abc")
    followed = JobTracker(home, store, store.read.jobs_by_id([first, second]))
    ended(other, first)
    other.job_control.cancel([third], 3.0)
    assert [change.state for change in followed.read_events()] == [State.RUNNING, State.DONE]
    assert {job: row.state for job, row in followed.rows.items()} == {
        first: State.DONE,
        second: State.QUEUED,
    }
    assert followed.open_jobs == {second}
    assert [row.id for row in followed.add([third])] == [third]
    followed.drop(second)
    assert not followed.open_jobs


def test_a_job_that_is_queued_again_is_open_again(home: Home, store: Store, other: Store) -> None:
    job = one(store, "a")
    followed = JobTracker(home, store, [job_row(store, job)])
    ended(other, job, done=False)
    followed.read_events()
    assert not followed.open_jobs
    other.job_control.retry([job], 5.0)
    followed.read_events()
    assert followed.open_jobs == {job}


def test_deleted_job_counts_as_ended(home: Home, store: Store, other: Store) -> None:
    job = one(store, "a")
    followed = JobTracker(home, store, [job_row(store, job)])
    other.job_control.hold([job], 1.0)
    followed.read_events()
    other.job_control.cancel([job], 2.0)
    other.database.execute("PRAGMA foreign_keys = OFF")  # as if it went after its events were read
    other.database.execute("DELETE FROM jobs WHERE id = ?", (job,))
    assert [change.state for change in followed.read_events()] == [State.CANCELLED]
    assert followed.rows[job].state is State.CANCELLED
    assert not followed.open_jobs


def test_job_deleted_with_its_events_counts_as_cancelled(
    home: Home, store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "CHECK_EVERY_S", 0.0)
    jobs = put(store, "abc")
    followed = JobTracker(home, store, store.read.jobs_by_id(jobs))
    other.job_control.cancel(jobs[:2], 2.0)
    assert other.job_control.delete_jobs(jobs[:1]) == jobs[:1]
    assert [(change.job, change.state) for change in followed.read_events()] == [
        (jobs[1], State.CANCELLED),
        (jobs[0], State.CANCELLED),
    ]
    assert followed.rows[jobs[0]].reason == feed.DELETED
    assert followed.open_jobs == {jobs[2]}
    assert followed.read_events() == []


def test_following_all_jobs_keeps_only_changed_jobs(home: Home, store: Store, other: Store) -> None:
    put(store, "abc")
    followed = JobTracker(home, store, None)
    for job in (2, 3):
        other.job_control.hold([job], 3.0)
        assert [change.job for change in followed.read_events()] == [job]
        assert list(followed.rows) == [job]


def test_polling_interval_grows_without_events(home: Home, store: Store, other: Store) -> None:
    job = one(store, "a")
    followed = JobTracker(home, store, [job_row(store, job)])
    for _ in range(IDLE_POLLS):
        assert followed.poll_interval_s == BUSY_POLL_S
        followed.read_events()
    assert followed.poll_interval_s == IDLE_POLL_S
    other.job_control.hold([job], 3.0)
    followed.read_events()
    assert followed.poll_interval_s == BUSY_POLL_S


def test_wait_reports_each_end_and_returns_after_the_last(
    home: Home, store: Store, other: Store
) -> None:
    jobs = put(store, "ab")
    followed = JobTracker(home, store, store.read.jobs_by_id(jobs))
    heard = []
    for changes in followed.events_until_ended():
        heard += [(change.job, change.state) for change in changes]
        if followed.open_jobs:
            other.job_control.cancel([min(followed.open_jobs)], 3.0)
    assert heard == [(job, State.CANCELLED) for job in jobs]
    assert [*followed.events_until_ended()] == [[]], "all have ended: one look, and no waiting"


# --- which jobs and runs are found and listed


EVERY = ListingFilter()


def enqueue_names(store: Store, *names: str, run: str = "test") -> list[int]:
    return enqueue(store, *(a_spec(name=name) for name in names), run=run)


def list_jobs(store: Store, text: str, *states: State, **page: int) -> list[int]:
    wanted = (
        ListingFilter(text=text, states=frozenset(states)) if states else ListingFilter(text=text)
    )
    return ListingQueries(store.database).jobs(wanted, 9, **page).numbers


def test_jobs_are_listed_page_by_page_in_both_directions(store: Store) -> None:
    put(store, map(str, range(1, 11)))
    listing = ListingQueries(store.database)
    assert listing.jobs(EVERY, 4) == ([10, 9, 8, 7], False, True), "there are older ones"
    newest, older = [10, 9, 8, 7], [6, 5, 4, 3]
    assert listing.jobs(EVERY, 4, older_than=7).numbers == older
    after = [listing.jobs(EVERY, 4, newer_than=number).numbers for number in (6, 2, 10)]
    assert after == [newest, older, []]


def test_jobs_are_filtered_by_state(store: Store) -> None:
    put(store, "1234")
    claimed(store, 2)
    store.job_control.hold([3], 1.0)
    assert list_jobs(store, "", State.RUNNING) == [2]
    assert list_jobs(store, "", State.QUEUED, State.HELD) == [4, 3, 1]


def test_jobs_that_match_a_text_are_listed_by_state_and_page(store: Store) -> None:
    enqueue_names(store, "train/gan2", "test/gan2", "train/vit")
    enqueue_names(store, "command/prep", run="gan2")
    store.job_control.change_tags([1, 3], ["gan2"], [])
    claimed(store, 1)
    assert list_jobs(store, "gan2") == [4, 2, 1]  # in the name of a job or of its run
    assert list_jobs(store, "gan2", State.QUEUED) == [4, 2]
    assert list_jobs(store, "gan2", State.QUEUED, older_than=4) == [2]
    assert list_jobs(store, "tag:gan2", State.RUNNING) == [1]
    assert list_jobs(store, "run:gan2", State.DONE) == []
    assert list_jobs(store, "pr*") == [4]  # a command's kind may be left out
    assert ListingQueries(store.database).jobs(ListingFilter(text="nothing"), 9) == (
        [],
        False,
        False,
    )


# --- run listing


def enqueue_runs(store: Store, *runs: str) -> None:
    for run in runs:
        put(store, "12", run=run)


def test_runs_are_listed_page_by_page_in_both_directions(store: Store) -> None:
    enqueue_runs(store, *(f"night{number}" for number in range(1, 7)))
    listing = ListingQueries(store.database)
    assert listing.runs(3) == ([6, 5, 4], False, True), "there are older ones"
    assert listing.runs(2, older_than=5, numbers=[1, 4, 6]) == ([4, 1], True, False)
    for page, numbers in (
        ({"older_than": 4}, [3, 2, 1]),
        ({"newer_than": 3}, [6, 5, 4]),
        ({"numbers": [2, 5]}, [5, 2]),
        ({"numbers": []}, []),
        ({"newer_than": 2, "numbers": [2, 5]}, [5]),
    ):
        assert listing.runs(3, **page).numbers == numbers


def test_run_summary_has_its_progress_and_start_time(store: Store) -> None:
    enqueue_runs(store, "night")
    (waiting,) = ListingQueries(store.database).run_records([1])
    assert (waiting.started, waiting.ended, waiting.jobs, waiting.open) == (None, None, 2, 2)
    claimed(store, 1, now=7.0)
    done(store, a_spec(name="command/3"), run="night", root=Path("/nowhere"))
    (record,) = ListingQueries(store.database).run_records([1, 77])
    assert record.counts == {State.RUNNING: 1, State.QUEUED: 1, State.DONE: 1}
    assert (record.jobs, record.open) == (3, 2)
    assert (record.started, record.ended) == (1.0, 2.0)
    assert (record.name, record.root, record.share) == ("night", "/nowhere", 1.0)


def test_records_are_in_the_requested_order(store: Store) -> None:
    enqueue_runs(store, "a", "b", "c")
    records = ListingQueries(store.database).run_records([2, 3, 1])
    assert [record.name for record in records] == ["b", "c", "a"]


def test_newest_run_of_a_name_is_found_for_every_results_folder(store: Store) -> None:
    for root in ("/one", "/two"):
        enqueue(store, a_spec(name="command/1"), run="night", root=Path(root))
    listing = ListingQueries(store.database)
    assert listing.newest_run_named("night") == 2
    assert listing.newest_run_named("nigh") is None
    assert listing.run_names() == {1: "night", 2: "night"}


def test_jobs_of_a_run_are_listed_by_state(store: Store) -> None:
    enqueue_runs(store, "night", "day")
    claimed(store, 3)
    listing = ListingQueries(store.database)
    assert listing.job_numbers(2) == [3, 4]
    assert listing.job_numbers_in_state(2, State.RUNNING, 9) == [3]
    assert listing.job_numbers_in_state(1, State.QUEUED, 1) == [2]
    assert listing.first_job(2) == 3
    assert listing.first_job(77) is None


# --- job queries


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("train/a", ["train/a"]),
        ("train/", ["train/a", "train/ab", "train/[x]"]),
        ("train/a*", ["train/a", "train/ab"]),
        ("*a", ["train/a"]),
        ("train/[x]", ["train/[x]"]),
        ("train/ab?", []),
        ("Train/", []),
        ("", []),
        ("zzz", []),
    ],
)
def test_jobs_are_matched_exactly_by_glob_or_by_prefix(
    store: Store, pattern: str, names: list[str]
) -> None:
    enqueue(store, *(a_spec(name=name) for name in ("train/a", "train/ab", "test/b", "train/[x]")))
    assert [job.name for job in store.read.select_by_pattern(pattern)] == names


def test_waiting_jobs_are_listed_in_start_order(store: Store) -> None:
    a, b, c, d, e = enqueue(
        store,
        a_spec(name="command/a"),
        a_spec(name="command/b", priority=5, cpus=2),
        a_spec(name="command/c"),
        a_spec(name="command/d", priority=9),
        a_spec(name="command/e", priority=1),
        needs={"command/d": ["command/a"]},
    )
    store.job_control.hold([c], 1.0)
    assert [job.id for job in store.read.waiting_jobs(10)] == [b, e, a, d, c]
    assert [job.id for job in store.read.waiting_jobs(2)] == [b, e]
    assert store.read.waiting_jobs(0) == []


def test_last_ended_jobs_are_ordered_by_end_time(store: Store) -> None:
    a, b, c = put(store, "abc")
    for job, now in ((c, 10.0), (a, 20.0), (b, 30.0)):
        end(store, job, now=now)
    assert [job.id for job in store.read.recently_ended(2)] == [a, b]


def test_jobs_that_ended_before_a_time_are_filtered_by_state(store: Store) -> None:
    a, b, c = put(store, "abc")
    end(store, a, now=10.0)
    end(store, b, now=20.0)
    end(store, c, FAILED, now=5.0)
    assert {job.id for job in store.read.ended_before(15.0, ENDED_STATES)} == {a, c}
    assert [job.id for job in store.read.ended_before(15.0, [State.FAILED])] == [c]


def test_indirect_dependents_are_found(store: Store) -> None:
    a, b, c, _ = enqueue(
        store,
        *(a_spec(name=f"command/{letter}") for letter in "abcd"),
        needs={"command/b": ["command/a"], "command/c": ["command/b"]},
    )
    assert [job.id for job in store.read.dependents_of([a])] == [b, c]
    assert [job.id for job in store.read.dependents_of([a, b])] == [c]
    assert store.read.dependents_of([]) == []


def test_names_of_the_newest_jobs_are_first(store: Store) -> None:
    put(store, "ab")
    assert store.read.sample_names() == ["command/b", "command/a"]


def test_job_queued_during_the_search_is_found(home: Home, store: Store) -> None:
    asked: list[str] = []
    other = Store(home, durable=False)

    def queue_it_between(query: str) -> None:
        asked.append(query)
        if len(asked) == 2:
            enqueue(other, a_spec(name="command/1"))

    store.database.set_trace_callback(queue_it_between)
    assert [job.name for job in store.read.select_by_pattern("command/1")] == ["command/1"]
    other.close()


# --- selection


NAMES = ("command/grid-1", "command/grid-2", "command/grid-20", "train/grid", "train/[x]", "12")


@pytest.fixture
def store_with_jobs(store: Store) -> Store:
    """A queue with jobs of two runs, one of them tagged."""
    enqueue(store, *(a_spec(name=name) for name in NAMES), run="night")
    enqueue(store, a_spec(name="train/grid"), run="nights")
    store.job_control.change_tags([2, 7], ["paper"], [])
    return store


def search_jobs(home: Home, store: Store, text: str) -> tuple[set[int], set[int]]:
    """Return the jobs that `top` and the page list for a text."""
    found = QueueSnapshotReader(home, store).read_snapshot(search_text=text).found or ()
    listed = ListingQueries(store.database).jobs(ListingFilter(text=text), 100).numbers
    return {job.id for job in found}, set(listed)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("grid*", {1, 2, 3}),
        ("grid-?", {1, 2}),
        ("grid-2", {2}),
        ("grid-", {1, 2, 3}),
        ("command/grid-2", {2}),
        ("*/grid", {4, 7}),
        ("train/", {4, 5, 7}),
        ("train/[x]", {5}),
        ("3", {3}),
        ("run:night", {1, 2, 3, 4, 5, 6}),
        ("run:night*", {1, 2, 3, 4, 5, 6, 7}),
        ("run:[!n]*", set()),
        ("tag:paper", {2, 7}),
        ("tag:p*", {2, 7}),
        ("tag:pap", set()),
        ("9", set()),
        ("\udcff", set()),
        ("train/gird", set()),
    ],
)
def test_text_matches_the_same_jobs_in_commands_top_and_web_page(
    home: Home, store_with_jobs: Store, text: str, numbers: set[int]
) -> None:
    if numbers:
        assert {job.id for job in select(store_with_jobs, [text])} == numbers
    else:
        with pytest.raises(UsageError, match=r"does not exist|no job"):
            select(store_with_jobs, [text])
    assert search_jobs(home, store_with_jobs, text) == (numbers, numbers)


def test_text_that_matches_no_job_is_searched_within_names_of_jobs_and_runs(
    home: Home, store_with_jobs: Store
) -> None:
    assert search_jobs(home, store_with_jobs, "rid-2") == ({2, 3}, {2, 3})
    assert search_jobs(home, store_with_jobs, "ights") == ({7}, {7})
    assert search_jobs(home, store_with_jobs, "*hts") == ({7}, {7})
