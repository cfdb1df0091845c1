import json
import sqlite3
import stat
import tempfile
import threading
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from launcher.errors import StoreError
from launcher.paths import Home
from launcher.processes import boot_id
from launcher.states import NEXT, Done, Failed, Lost, Outcome, State, Stopped, Void
from launcher.store.migrations import STEPS, check_sqlite
from launcher.store.store import LOST_LIMIT, Store
from tests.build import a_context, a_spec, claimed, endings, enqueue, job_row


def end(store: Store, job: int, outcome: Outcome) -> State | None:
    """Claim a job and take in how its attempt ended."""
    return store.finish(claimed(store, job), outcome, outputs={}, now=3.0)


def states(store: Store) -> list[State]:
    return [job.state for job in store.read.jobs()]


# --- queueing


def test_a_job_is_remembered_with_its_surroundings(store: Store) -> None:
    spec = a_spec("printf", "a b", "", "ü\n\x1b[31m", name="command/odd", cpus=2)
    context = a_context("/tmp", umask=0o027, environment={"A": "1", "EMPTY": ""})
    (job,) = enqueue(store, spec, context=context)
    claim = claimed(store, job)
    assert claim.spec == spec
    assert claim.context == context


def test_jobs_start_by_priority_and_then_by_age(store: Store) -> None:
    specs = [
        a_spec(name=f"command/{letter}", priority=n)
        for letter, n in zip("abcd", [0, 5, 0, 5], strict=True)
    ]
    a, b, c, d = enqueue(store, *specs)
    assert [job.id for job in store.ready(10)] == [b, d, a, c]
    assert [job.id for job in store.ready(1)] == [b]


def test_a_job_waits_until_all_that_it_needs_is_done(store: Store) -> None:
    a, b, c = enqueue(
        store,
        *(a_spec(name=f"command/{letter}") for letter in "abc"),
        needs={"command/c": ["command/a", "command/b"]},
    )
    end(store, a, Done(at=2.0))
    assert [job.id for job in store.ready(10)] == [b]
    end(store, b, Done(at=2.0))
    assert [job.id for job in store.ready(10)] == [c]


def test_a_job_waits_again_when_what_it_needs_is_queued_anew(store: Store) -> None:
    specs = [a_spec(name=f"command/{letter}") for letter in "abc"]
    a, b, c = enqueue(store, *specs, needs={"command/c": ["command/a", "command/b"]})
    end(store, a, Done(at=2.0))
    assert enqueue(store, specs[0]) == [a]
    assert job_row(store, c).waits == 2
    end(store, a, Done(at=4.0))
    assert [job.id for job in store.ready(10)] == [b]


def test_a_running_job_cannot_be_replaced(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    claimed(store, job)
    with pytest.raises(StoreError, match="started to run meanwhile"):
        enqueue(store, a_spec("false"))
    assert job_row(store, job).spec == a_spec()


def test_what_fails_inside_a_transaction_leaves_nothing(store: Store) -> None:
    with pytest.raises(StoreError):
        enqueue(store, a_spec(), a_spec(name="command/2"), needs={"command/2": ["command/2"] * 2})
    assert states(store) == []
    assert store.read.counts() == {}


def test_the_same_surroundings_are_stored_once(store: Store) -> None:
    with store.writing():
        first = store.context(a_context("/tmp"))
        assert store.context(a_context("/tmp")) == first
        assert store.context(a_context("/")) != first


# --- attempts


def test_a_job_is_claimed_once(home: Home, store: Store) -> None:
    jobs = enqueue(store, *(a_spec(name=f"command/{number}") for number in range(20)))
    won: list[int] = []

    def grab() -> None:
        mine = Store(home, durable=False)
        for job in jobs:
            claim = mine.claim(job, boot=boot_id(), device="cpu", cpus=1, reason="", now=1.0)
            won.extend([claim.job] if claim else [])
        mine.close()

    rivals = [threading.Thread(target=grab) for _ in range(3)]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()
    assert sorted(won) == jobs
    assert [len(store.read.attempts_of(job)) for job in jobs] == [1] * len(jobs)


def test_a_job_that_was_cancelled_meanwhile_is_not_claimed(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    store.cancel([job], 1.0)
    assert store.claim(job, boot="b", device="cpu", cpus=1, reason="", now=2.0) is None


def test_an_end_is_taken_in_once(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    claim = claimed(store, job)
    assert store.finish(claim, Done(at=2.0), outputs={}, now=2.0) is State.DONE
    assert store.finish(claim, Failed(at=3.0, error="no"), outputs={}, now=3.0) is None
    assert endings(store, job) == ["done"]
    assert job_row(store, job).state is State.DONE


def test_a_done_job_has_its_result_and_the_stamps_of_its_files(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    done = Done(at=2.0, result={"auc": 0.97})
    store.finish(claimed(store, job), done, outputs={"/m.pt": (10, 20)}, now=2.0)
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
        store.cancel([job], 1.5)
    assert store.finish(claim, outcome, outputs={}, now=2.0) is state
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


def test_a_number_is_never_given_twice(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    assert store.next_number() == job + 1
    with store.writing():
        store._db.execute("DELETE FROM jobs")
    assert enqueue(store, a_spec()) == [job + 1]


# --- cancelling


def test_cancelling_skips_what_needs_the_job(store: Store) -> None:
    a, b, _ = enqueue(
        store,
        *(a_spec(name=f"command/{letter}") for letter in "abc"),
        needs={"command/b": ["command/a"]},
    )
    assert store.cancel([a], 2.0) == [a]
    assert states(store) == [State.CANCELLED, State.SKIPPED, State.QUEUED]
    assert job_row(store, b).reason == "needs command/a, which was cancelled"


def test_a_job_that_is_cancelled_with_what_it_needs_is_cancelled_itself(store: Store) -> None:
    a, b = enqueue(
        store,
        *(a_spec(name=f"command/{letter}") for letter in "ab"),
        needs={"command/b": ["command/a"]},
    )
    assert store.cancel([a, b], 2.0) == [a, b]
    assert states(store) == [State.CANCELLED, State.CANCELLED]


def test_a_running_job_is_asked_to_end_and_stays_until_it_has(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    claimed(store, job)
    assert store.cancel([job], 2.0) == [job]
    assert job_row(store, job).state is State.RUNNING
    (claim,) = store.claims()
    assert claim.wish == "cancel"


def test_what_has_ended_cannot_be_cancelled(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    end(store, job, Done(at=2.0))
    assert store.cancel([job], 3.0) == []
    assert job_row(store, job).state is State.DONE


# --- the file


def test_the_queue_is_readable_by_its_owner_alone(home: Home, store: Store) -> None:
    enqueue(store, a_spec())
    files = [file for file in home.folder.iterdir() if file.is_file()]
    assert files
    assert {stat.S_IMODE(file.stat().st_mode) & 0o077 for file in files} == {0}
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o700


def test_a_queue_of_a_newer_launcher_is_refused(home: Home, store: Store) -> None:
    store._db.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    with pytest.raises(StoreError, match="newer launcher"):
        Store(home)


@pytest.mark.parametrize("version", [0, 1])
def test_another_programs_database_is_refused_and_left_as_it_is(home: Home, version: int) -> None:
    with sqlite3.connect(home.database) as theirs:
        theirs.execute("CREATE TABLE jobs (secret TEXT)")
        theirs.execute("INSERT INTO jobs VALUES ('kept')")
        theirs.execute(f"PRAGMA user_version = {version}")
    theirs.close()
    with pytest.raises(StoreError):
        Store(home)
    with sqlite3.connect(home.database) as theirs:
        assert theirs.execute("SELECT * FROM jobs").fetchall() == [("kept",)]
    theirs.close()


def test_a_file_that_is_no_database_is_named(home: Home) -> None:
    home.database.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(StoreError, match=r"queue\.sqlite"):
        Store(home)


def test_an_old_sqlite_is_refused_with_both_versions() -> None:
    with pytest.raises(StoreError, match=r"SQLite 3\.36\.0, launcher needs 3\.37\.0"):
        check_sqlite((3, 36, 0))


def test_a_store_that_is_opened_twice_at_once_is_made_once(home: Home) -> None:
    failures: list[BaseException] = []

    def open_it() -> None:
        try:
            Store(home, durable=False).close()
        except StoreError as error:
            failures.append(error)

    rivals = [threading.Thread(target=open_it) for _ in range(6)]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()
    assert failures == []


# --- any sequence of operations

NAMES = [f"command/{number}" for number in range(5)]  # a job needs only those before it
OUTCOMES: list[Outcome] = [
    Done(at=2.0),
    Failed(at=2.0, error="no"),
    Stopped(at=2.0),
    Lost(at=2.0, why="?"),
    Void(at=2.0),
]


class AnyLife(RuleBasedStateMachine):
    """Jobs that are queued, queued again, claimed, ended and cancelled in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(Home(Path(self.folder.name)), durable=False)
        self.jobs: dict[str, int] = {}

    @initialize()
    def begin(self) -> None:
        self.put(0, [])

    @rule(number=st.integers(0, len(NAMES) - 1), wanted=st.lists(st.sampled_from(NAMES)))
    def put(self, number: int, wanted: list[str]) -> None:
        name = NAMES[number]
        needs = {self.jobs[need] for need in wanted if need in self.jobs and need < name}
        if name in self.jobs and job_row(self.store, self.jobs[name]).state is State.RUNNING:
            return
        with self.store.writing():
            run, context = self.store.run(Path("/r"), "r"), self.store.context(a_context())
            job = self.store.put(
                run, context, a_spec(name=name), state=State.QUEUED, reason="new", now=1.0
            )
            self.store.set_needs(job, sorted(needs))
        self.jobs[name] = job

    @precondition(lambda self: self.store.ready(1))
    @rule()
    def claim(self) -> None:
        (job,) = self.store.ready(1)
        claimed(self.store, job.id)

    @precondition(lambda self: self.store.claims())
    @rule(outcome=st.sampled_from(OUTCOMES))
    def finish(self, outcome: Outcome) -> None:
        claim = self.store.claims()[-1]
        self.store.finish(claim, outcome, outputs={}, now=2.0)
        assert self.store.finish(claim, outcome, outputs={}, now=2.0) is None

    @rule(chosen=st.sets(st.sampled_from(NAMES), min_size=1))
    def cancel(self, chosen: set[str]) -> None:
        self.store.cancel([self.jobs[name] for name in sorted(chosen) if name in self.jobs], 2.0)

    @invariant()
    def counters_are_what_counting_gives(self) -> None:
        counts = {state: n for state, n in self.store.read.counts().items() if n}
        assert counts == Counter(states(self.store))

    @invariant()
    def waits_are_the_needs_that_are_not_done(self) -> None:
        rows = self.store._db.execute(
            "SELECT jobs.waits, (SELECT count(*) FROM needs JOIN jobs AS needed"
            " ON needed.id = needs.need WHERE needs.job = jobs.id AND needed.state <> 'done')"
            " AS open FROM jobs"
        ).fetchall()
        assert all(row["waits"] == row["open"] for row in rows)

    @invariant()
    def an_open_attempt_is_a_running_job(self) -> None:
        running = [job.id for job in self.store.read.jobs("jobs.state = 'running'")]
        assert [claim.job for claim in self.store.claims()] == running

    @invariant()
    def only_legal_transitions_happened(self) -> None:
        for job in self.jobs.values():
            told = [state for _, state, _ in self.store.read.events_of(job)]
            assert told[0] is State.QUEUED
            for before, after in pairwise(told):
                replaced = after is State.QUEUED and before is not State.RUNNING
                assert after in NEXT[before] or replaced
            assert told[-1] is job_row(self.store, job).state

    @invariant()
    def every_attempt_is_accounted_for(self) -> None:
        for job in self.jobs.values():
            numbers = [one["number"] for one in self.store.read.attempts_of(job)]
            assert numbers == list(range(1, job_row(self.store, job).attempts + 1))

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


AnyLife.TestCase.settings = settings(max_examples=12, stateful_step_count=18, deadline=None)
TestAnyLife = AnyLife.TestCase


def test_an_outcome_in_the_database_is_the_one_that_was_told(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    end(store, job, Failed(at=2.0, error="ended with exit code 3", exit_code=3))
    (attempt,) = store.read.attempts_of(job)
    assert attempt["outcome"]["exit_code"] == 3
    assert json.loads(json.dumps(attempt)) == attempt
