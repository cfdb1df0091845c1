import json
import stat
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import read_context
from launcher.queue.jobs.job import Terms
from launcher.queue.jobs.states import (
    ENDED_STATES,
    LEGAL_TRANSITIONS,
    Outcome,
    Reason,
    ReasonCode,
    State,
)
from launcher.queue.store.lanes import read_lane
from launcher.queue.store.queue import NewJob, Store
from launcher.queue.store.schema import check_sqlite
from launcher.queue.store.steering import HELD_REASON, AcceptedFiles
from launcher.system.errors import StoreError
from tests.build import a_context, a_reason, a_seat, a_spec, claimed, enqueue, job_row
from tests.launcher.queued import DONE, FAILED, LOST, STOPPED, VOID, end, one, put, ready, states

# --- queueing


def test_job_is_stored_with_its_context(store: Store) -> None:
    spec = a_spec("printf", "a b", "", "ü\n\x1b[31m", name="command/odd", cpus=2)
    context = a_context("/tmp", umask=0o027, environment={"A": "1", "EMPTY": ""})
    (job,) = enqueue(store, spec, context=context)
    claim = claimed(store, job)
    assert claim.spec == spec
    assert read_context(json.loads(claim.context_text)) == context


def test_jobs_start_by_priority_and_then_by_age(store: Store) -> None:
    a, b, c, d = (
        one(store, name, priority=n) for name, n in zip("abcd", [0, 5, 0, 5], strict=True)
    )
    assert ready(store) == [b, d, a, c]
    assert ready(store, 1) == [b, a]  # the first job of each priority


def test_jobs_with_other_backends_or_limits_are_in_other_lanes(store: Store) -> None:
    places = [(), ("slurm",), ("slurm", "local")]
    terms = [*(Terms(on=on) for on in places), Terms(time_limit_s=5.0)]
    specs = [a_spec(name=f"command/{n}")._replace(terms=each) for n, each in enumerate(terms)]
    enqueue(store, *specs)
    lanes = [job.lane for job in store.ready_jobs.read_ready(9)]
    assert [lane.on for lane in lanes] == [("local",), *places[1:], ("local",)]
    assert [lane.limit for lane in lanes] == [None, None, None, 5.0]
    assert [read_lane(lane.key) for lane in lanes] == lanes


def test_job_waits_for_all_dependencies_and_again_after_they_are_requeued(
    store: Store,
) -> None:
    a, b, c = put(store, "abc", needs={"c": "ab"})
    end(store, a)
    assert ready(store) == [b]
    assert one(store, "a") == a
    assert job_row(store, c).waits == 2
    end(store, a)
    end(store, b)
    assert ready(store) == [c]


def test_a_running_job_cannot_be_replaced(store: Store) -> None:
    job = one(store)
    claimed(store, job)
    with pytest.raises(StoreError, match="has just started"):
        enqueue(store, a_spec("false"))
    assert job_row(store, job).spec == a_spec()


def test_failed_transaction_is_rolled_back(store: Store) -> None:
    with pytest.raises(StoreError):
        put(store, "12", needs={"2": "11"})
    assert states(store) == ""
    assert store.read.counts() == {}


def test_bulk_insert_equals_single_inserts(store: Store) -> None:
    failed, done = put(store, ["failed", "done"])
    end(store, failed, FAILED)
    end(store, done)
    later, changed = Terms(not_before=5.0), a_reason("lr 1 → 2", ReasonCode.CHANGED, key="lr")

    def jobs(first: int) -> list[NewJob]:
        return [
            NewJob(spec=a_spec(name="command/a", priority=2), dependencies=[done]),
            NewJob(
                spec=a_spec(name="command/b", terms=later), dependencies=[first], reason=changed
            ),
            NewJob(spec=a_spec(name="command/c"), dependencies=[first + 1, failed]),
            NewJob(spec=a_spec(name="command/d"), dependencies=[first + 2]),
            NewJob(spec=a_spec(name="command/e", cpus=2), state=State.HELD, reason=HELD_REASON),
            NewJob(spec=a_spec(name="command/f", terms=later._replace(group="g"))),
        ]

    with store.database.writing():
        run = store.ensure_run(Path("/nowhere"), "quick")
        quick = store.insert_new(run, a_context(), jobs(store.next_job_number()), 7.0)
    with store.database.writing():
        run = store.ensure_run(Path("/nowhere"), "slow")
        first = store.next_job_number()
        slow = [store.insert_or_replace(run, a_context(), new, 7.0) for new in jobs(first)]

    def told(numbers: list[int]) -> list[object]:
        rows = store.read.jobs_by_id(numbers)

        def placed(text: str) -> str:
            for place, number in enumerate(numbers):
                text = text.replace(f"job {number} ", f"job {place} of these ")
            return text

        def happened(event: tuple[float, State, Reason]) -> tuple[State, ReasonCode, str, set[str]]:
            _, state, reason = event
            return state, reason.code, placed(reason.text), {*reason.data}

        return (
            [
                (row.name, row.state, row.priority, row.waits, placed(row.reason), row.starts_at)
                for row in rows
            ]
            + [row.spec for row in rows]
            + [
                (
                    store.read.dependency_names(row.id),
                    [happened(one) for one in store.read.events_of(row.id)],
                )
                for row in rows
            ]
        )

    assert told(quick) == told(slow)
    told_of_quick = " ".join(job_row(store, job).state for job in quick)
    assert told_of_quick == "queued queued skipped skipped held queued"
    lanes = {job.id: job.lane_id for job in store.ready_jobs.read_ready(10)}
    assert lanes[quick[0]] == lanes[slow[0]]


@pytest.mark.parametrize(
    ("outcome", "wish", "why"),
    [
        (FAILED, "", "skipped: job 1 command/a failed"),
        (STOPPED, "cancel", "skipped: job 1 command/a was cancelled"),
    ],
)
def test_job_with_a_failed_dependency_is_skipped_at_once(
    store: Store, outcome: Outcome, wish: str, why: str
) -> None:
    a = one(store, "a")
    claim = claimed(store, a)
    if wish:
        store.job_control.cancel([a], 1.5)
    end(store, claim, outcome)
    with store.database.writing():
        run = store.ensure_run(Path("/nowhere"), "test")
        new = NewJob(spec=a_spec(name="command/b"), dependencies=[a])
        job = store.insert_or_replace(run, a_context(), new, 3.0)
    row = job_row(store, job)
    assert (row.state, row.reason) == (State.SKIPPED, why)
    assert [state for _, state, _ in store.read.events_of(job)] == [State.QUEUED, State.SKIPPED]


def test_replaced_job_has_counters_at_zero(store: Store) -> None:
    job = one(store, retries=1, backoff_s=100.0)
    end(store, job, FAILED)
    assert job_row(store, job).starts_at is not None
    one(store, retries=1, backoff_s=100.0)
    row = job_row(store, job)
    assert (row.failures, row.lost, row.waits, row.starts_at) == (0, 0, 0, None)


def test_equal_contexts_are_stored_once(store: Store) -> None:
    with store.database.writing():
        first = store.ensure_context(a_context("/tmp"))
        assert store.ensure_context(a_context("/tmp")) == first
        assert store.ensure_context(a_context("/")) != first


def test_job_id_is_never_reused(store: Store) -> None:
    job = one(store)
    assert store.next_job_number() == job + 1
    with store.database.writing():
        store.database.execute("DELETE FROM jobs")
    assert one(store) == job + 1


# --- the file


def test_queue_is_readable_only_by_its_owner(home: Home, store: Store) -> None:
    enqueue(store, a_spec())
    files = [file for file in home.folder.iterdir() if file.is_file()]
    assert files
    assert {stat.S_IMODE(file.stat().st_mode) & 0o077 for file in files} == {0}
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o700


def test_an_old_sqlite_is_refused_with_both_versions() -> None:
    with pytest.raises(StoreError, match=r"SQLite 3\.36\.0, but launcher needs 3\.37\.0"):
        check_sqlite((3, 36, 0))


# --- any sequence of operations

NAMES = [f"command/{number}" for number in range(5)]  # a job needs only those before it
VERBS = ["hold", "release", "retry", "forget"]
OUTCOMES: list[Outcome] = [DONE, FAILED, STOPPED, LOST, VOID]


class AnyLife(RuleBasedStateMachine):
    """Jobs to which everything happens that can, in any order."""

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
        with self.store.database.writing():
            run = self.store.ensure_run(Path("/r"), "r")
            new = NewJob(spec=a_spec(name=name), dependencies=sorted(needs))
            job = self.store.insert_or_replace(run, a_context(), new, 1.0)
        self.jobs[name] = job

    @precondition(lambda self: bool(ready(self.store, 1)))
    @rule()
    def claim(self) -> None:
        (job,) = ready(self.store, 1)
        claimed(self.store, job)

    @precondition(lambda self: self.store.claims.open_claims())
    @rule(outcome=st.sampled_from(OUTCOMES))
    def finish(self, outcome: Outcome) -> None:
        claim = self.store.claims.open_claims()[-1]
        end(self.store, claim, outcome)
        assert end(self.store, claim, outcome) is None

    @rule(chosen=st.sets(st.sampled_from(NAMES), min_size=1))
    def cancel(self, chosen: set[str]) -> None:
        self.store.job_control.cancel(
            [self.jobs[name] for name in sorted(chosen) if name in self.jobs], 2.0
        )

    @rule(chosen=st.sets(st.sampled_from(NAMES), min_size=1))
    def touch(self, chosen: set[str]) -> None:
        rows = [job_row(self.store, self.jobs[name]) for name in chosen if name in self.jobs]
        accepted = [AcceptedFiles(row, {}, {}) for row in rows if row.state in ENDED_STATES]
        self.store.job_control.accept_files(accepted, 2.0)

    @rule(chosen=st.sets(st.sampled_from(NAMES), min_size=1), verb=st.sampled_from(VERBS))
    def own(self, chosen: set[str], verb: str) -> None:
        jobs = [self.jobs[name] for name in sorted(chosen) if name in self.jobs]
        if verb != "forget":
            getattr(self.store.job_control, verb)(jobs, 2.0)
            return
        gone = set(self.store.job_control.delete_jobs(jobs))
        self.jobs = {name: job for name, job in self.jobs.items() if job not in gone}

    @invariant()
    def a_forgotten_job_is_gone(self) -> None:
        assert {job.id for job in self.store.read.jobs()} == set(self.jobs.values())

    @invariant()
    def counters_are_what_counting_gives(self) -> None:
        counts = {state: n for state, n in self.store.read.counts().items() if n}
        assert counts == Counter(states(self.store).split())

    @invariant()
    def waits_are_the_needs_that_are_not_done(self) -> None:
        rows = self.store.database.execute(
            "SELECT jobs.waits, (SELECT count(*) FROM needs JOIN jobs AS needed"
            " ON needed.id = needs.need WHERE needs.job = jobs.id AND needed.state <> 'done')"
            # two attempts in a row that were not started make a pause, and that counts as well
            " + (SELECT count(*) FROM timers WHERE timers.job = jobs.id) AS open FROM jobs"
        ).fetchall()
        assert all(row["waits"] == row["open"] for row in rows)

    @invariant()
    def an_open_attempt_is_a_running_job(self) -> None:
        running = [job.id for job in self.store.read.jobs_in_state(State.RUNNING)]
        assert [claim.job for claim in self.store.claims.open_claims()] == running

    @invariant()
    def only_legal_transitions_happened(self) -> None:
        for job in self.jobs.values():
            told = [state for _, state, _ in self.store.read.events_of(job)]
            assert told[0] is State.QUEUED
            for before, after in pairwise(told):
                replaced = after is State.QUEUED and before is not State.RUNNING
                # it is being ended, or its files are accepted once more
                noted = after is before and after in {State.RUNNING, State.DONE}
                assert after in LEGAL_TRANSITIONS[before] or replaced or noted
            assert told[-1] is job_row(self.store, job).state

    @invariant()
    def every_attempt_is_accounted_for(self) -> None:
        for job in self.jobs.values():
            numbers = [one.number for one in self.store.read.attempts([job])]
            assert numbers == list(range(1, job_row(self.store, job).attempts + 1))

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


AnyLife.TestCase.settings = settings(max_examples=12, stateful_step_count=18, deadline=None)
TestAnyLife = AnyLife.TestCase


# --- the digests of modules that jobs share


def test_jobs_with_the_same_modules_keep_their_digests_once_and_are_read_with_them(
    store: Store,
) -> None:
    sources = {"lab.jobs": "0123", "lab.data": "4567"}
    specs = [a_spec("true", name=f"command/{n}", sources=sources) for n in range(3)]
    rows = store.read.jobs_by_id(enqueue(store, *specs))
    assert [row.spec.sources for row in rows] == [sources] * 3
    assert all("lab.jobs" not in row.spec_text for row in rows)
    assert store.database.execute("SELECT count(*) FROM sources").fetchone()[0] == 1


def test_replaced_job_has_the_digests_of_its_new_modules(store: Store) -> None:
    before, now = (a_spec("true", sources={"lab": digest}) for digest in ("0123", "89ab"))
    (job,) = enqueue(store, before)
    assert enqueue(store, now) == [job]
    claim = claimed(store, job)
    assert claim.spec == now
    assert store.claims.open_claims() == [claim]


def test_job_with_damaged_digests_fails(store: Store) -> None:
    job = one(store, sources={"lab": "0123"})
    store.database.execute("UPDATE sources SET body = '{'")
    assert store.claims.claim(job, a_seat(), reason="fits", now=3.0) is None
    assert job_row(store, job).state is State.FAILED
    assert job_row(store, job).state_reason.code is ReasonCode.UNREADABLE
