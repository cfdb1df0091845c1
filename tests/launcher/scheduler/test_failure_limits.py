"""`--max-failures`, and the rule for jobs without it: the rest of a sweep is held until it is released."""

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import FUNCTION, Spec, Terms
from launcher.queue.jobs.states import Done, Failed, Outcome, ReasonCode, State
from launcher.queue.store.job_selection import words_for_jobs
from launcher.queue.store.queue import NewJob, Store
from launcher.system.process_trees import send_signal
from launcher.system.processes import identity
from tests.build import a_context, a_spec, claimed, job_row, until
from tests.launcher.conftest import Launcher
from tests.shortened import QUICK_FAILURES, shortened

RELEASE = "To continue: launcher release run:r"
FAILED = Failed(at=0.0, error="exit code 7")


def states(store: Store) -> Counter[State]:
    return Counter(row.state for row in store.read.jobs())


def queue_together(
    store: Store, number: int, *, limit: int | None = None, at: float = 10.0, **changes: Any
) -> list[int]:
    """Queue jobs as one command does."""
    specs = [
        a_spec(name=f"command/{at}-{limit}-{n}", terms=Terms(max_failures=limit))._replace(
            **changes
        )
        for n in range(number)
    ]
    with store.database.writing():
        run = store.ensure_run(Path("/nowhere"), "r")
        return [*store.insert_new(run, a_context(), [NewJob(spec=spec) for spec in specs], at)]


def end(store: Store, job: int, outcome: Outcome = FAILED, now: float = 20.0) -> None:
    store.transitions.finish_attempt(claimed(store, job, now), outcome, outputs={}, now=now)


def fail(store: Store, jobs: list[int], now: float = 20.0) -> None:
    for job in jobs:
        end(store, job, now=now)


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Programs that fail have ended sooner."""
    with shortened(QUICK_FAILURES):
        yield


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def other(home: Home, store: Store) -> Iterator[Store]:
    """The queue as another scheduler opened it."""
    other = Store(store.home, durable=False)
    yield other
    other.close()


def add(
    launcher: Launcher,
    *options: str,
    script: str = "exit 7 # {n}",
    run: str = "r",
    jobs: int = 12,
) -> None:
    """Queue a sweep whose jobs run one after another."""
    launcher.well("group", f"of-{run}", "--limit", "1")
    words = ("add", "--run", run, "--group", f"of-{run}", *options, "--sweep", f"n=1..{jobs}")
    launcher.well(*words, "--", "sh", "-c", script)


def test_rest_of_a_sweep_is_held_and_continues_after_release(
    launcher: Launcher, store: Store
) -> None:
    add(launcher, "--max-failures", "3")
    answer = launcher("wait", "run:r")
    assert answer.code == 1
    what = "held after 3 failures (most recent: ended with exit code 7)"
    assert f"note: 9 jobs are {what}. {RELEASE}\n" in answer.err
    assert states(store) == {State.FAILED: 3, State.HELD: 9}
    assert what in launcher("status", "run:r").out
    assert f"held: {what}\nTo continue: launcher release 5\n" in launcher("show", "5").out
    launcher.well("release", "run:r")
    launcher("wait", "run:r")
    assert states(store) == {State.FAILED: 6, State.HELD: 6}  # counted anew


@pytest.mark.parametrize(
    ("run", "jobs", "words"),
    [
        ("tour", {7: "a@x=1", 8: "a@x=2"}, "run:tour"),
        ("my tour", {7: "a@x=1"}, "'run:my tour'"),
        ("add", {9: "command/b@x=2", 7: "command/a@x=1"}, "7 9"),
        ("add", {job: f"command/a@x={job}" for job in range(10, 22, 2)}, "'command/a@*'"),
        ("add", {job: f"command/a@x={job}" for job in range(10, 16)}, "$(seq 10 15)"),
        ("add", {job: f"command/{job}" for job in range(10, 16)}, "$(seq 10 15)"),
        ("add", {job: f"command/{job}" for job in range(10, 22, 2)}, "10 12 14 16 18 20"),
        ("add", {job: f"command/{'ab'[job % 2]}@x={job}" for job in range(9, 16)}, "$(seq 9 15)"),
    ],
)
def test_words_select_only_jobs_of_the_command(run: str, jobs: dict[int, str], words: str) -> None:
    assert words_for_jobs(run, jobs) == words


def test_hint_does_not_release_other_programs(launcher: Launcher, store: Store) -> None:
    earlier = ("--name", "fit", "--hold", "--sweep", "n=10..11")
    launcher.well("add", *earlier, "--", "sh", "-c", "exit 7 # {n}")
    launcher.well("group", "one", "--limit", "1")
    words = ("add", "--group", "one", "--name", "fit", "--max-failures", "2", "--sweep", "n=1..9")
    answer = launcher(*words, "--wait", "--", "sh", "-c", "exit 7 # {n}")
    assert "To continue: launcher release $(seq 5 11)\n" in answer.err
    launcher.well("release", *map(str, range(5, 12)))
    assert [job_row(store, job).state for job in (1, 2)] == [State.HELD, State.HELD]


def test_first_five_failures_with_one_cause_hold_the_rest_once(
    launcher: Launcher, store: Store
) -> None:
    add(launcher)
    assert "held after 5 failures with one cause (ended with" in launcher("wait", "run:r").err
    assert states(store) == {State.FAILED: 5, State.HELD: 7}
    launcher.well("release", "run:r")
    launcher("wait", "run:r")
    assert states(store) == {State.FAILED: 12}


def test_other_failures_hold_nothing(launcher: Launcher, store: Store) -> None:
    add(launcher, "--max-failures", "none", run="unlimited", jobs=7)
    add(launcher, script="exit {n}", run="causes", jobs=7)
    add(launcher, script="[ {n} = 2 ] || exit 7", run="done", jobs=7)
    launcher("wait", "run:unlimited", "run:causes", "run:done")
    assert states(store) == {State.FAILED: 20, State.DONE: 1}


def test_failures_are_counted_across_a_killed_scheduler(
    launcher: Launcher, store: Store, home: Home
) -> None:
    add(launcher, "--max-failures", "3", script="until [ -e go{n} ]; do sleep 0.01; done; exit 7")
    for name in ("go1", "go2"):
        Path(name).touch()
    until(lambda: states(store)[State.FAILED] == 2, "two jobs have failed")
    until(lambda: states(store)[State.RUNNING] == 1, "the third one runs")
    pid = scheduler_pid(home)
    assert pid is not None
    scheduler = identity(pid)
    send_signal(pid, signal.SIGKILL)
    until(lambda: identity(pid) != scheduler, "the scheduler is dead")
    for n in range(3, 13):
        Path(f"go{n}").touch()
    assert launcher("wait", "run:r").code == 1
    assert states(store) == {State.FAILED: 3, State.HELD: 9}


def test_run_of_a_task_file_stops_and_repeating_it_continues(
    launcher: Launcher, store: Store, home: Home
) -> None:
    launcher.well("group", "one", "--limit", "1")
    Path("r.yaml").write_text(
        "name: r\nresources: {group: one, max_failures: 2}\ncommand:\n"
        "  - {argv: [sh, -c, 'test -e fixed # {n}'], name: t, matrix: {n: [1, 2, 3, 4, 5]}}\n"
    )
    answer = launcher("run", "r.yaml")
    assert answer.code == 1
    # once when it happens, and once at the end
    assert answer.err.count("3 jobs are held after 2 failures (most recent: ended with exit") == 2
    assert f". {RELEASE}\n" in answer.err
    assert states(store) == {State.FAILED: 2, State.HELD: 3}
    Path("fixed").touch()
    launcher.well("run", "r.yaml")
    assert states(store) == {State.DONE: 5}


def test_option_of_run_overrides_the_file(launcher: Launcher, store: Store) -> None:
    launcher.well("group", "one", "--limit", "1")
    Path("r.yaml").write_text(
        "name: r\nresources: {group: one, max_failures: none}\ncommand:\n"
        "  - {argv: [sh, -c, 'exit 7 # {n}'], name: t, matrix: {n: [1, 2, 3, 4, 5]}}\n"
    )
    launcher("run", "r.yaml", "--max-failures", "1")
    assert states(store) == {State.FAILED: 1, State.HELD: 4}


@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5", "", "1000001"])
def test_invalid_limit_is_refused(launcher: Launcher, value: str) -> None:
    sweep = ("--sweep", "n=1,2", "--", "go", "{n}")
    expected = "error: --max-failures: expected a whole number from 1 to 1,000,000, or none"
    assert expected in launcher.refused("add", "--max-failures", value, *sweep)
    Path("r.yaml").write_text("name: r\ncommand: [{argv: ['true']}]\n")
    assert expected in launcher.refused("run", "r.yaml", "--dry-run", "--max-failures", value)


def test_limit_of_one_program_is_refused(launcher: Launcher) -> None:
    text = launcher.refused("add", "--max-failures", "3", "--", "true")
    assert "counts the jobs that one command queues. Add --sweep, --sweep-flag or --from" in text


# --- in the database


def test_two_schedulers_count_each_failure_once(store: Store, other: Store) -> None:
    jobs = queue_together(store, 6, limit=3)
    claims = [claimed(store, job, 20.0) for job in jobs[:3]]
    for claim in claims[:2]:
        for scheduler in (store, other):
            scheduler.transitions.finish_attempt(claim, FAILED, outputs={}, now=21.0)
    assert states(store)[State.HELD] == 0
    for scheduler in (other, store):
        scheduler.transitions.finish_attempt(claims[2], FAILED, outputs={}, now=22.0)
    assert states(store) == {State.FAILED: 3, State.HELD: 3}
    reason = job_row(store, jobs[-1]).state_reason
    assert reason.code is ReasonCode.FAILURE_LIMIT
    assert dict(reason.data) == {"failures": 3, "job": jobs[2], "cause": "failed"}
    events = [state for _, state, _ in store.read.events_of(jobs[-1])]
    assert events == [State.QUEUED, State.HELD]


def test_failure_and_hold_are_one_transaction(store: Store) -> None:
    jobs = queue_together(store, 3, limit=1)
    with contextlib.suppress(RuntimeError), store.database.writing():
        end(store, jobs[0])
        assert states(store)[State.HELD] == 2
        raise RuntimeError  # as if the scheduler was killed before the commit
    assert states(store) == {State.QUEUED: 3}


def test_only_jobs_of_the_same_command_and_limit_are_held(store: Store) -> None:
    jobs = queue_together(store, 3, limit=1)
    others = queue_together(store, 3, limit=1, at=11.0)
    unlimited = queue_together(store, 3, at=10.0, settings={"n": 1})
    end(store, jobs[0])
    for job in (*others, *unlimited):
        assert job_row(store, job).state is State.QUEUED
    assert [job_row(store, job).state for job in jobs[1:]] == [State.HELD] * 2


def test_retries_are_no_failures(store: Store) -> None:
    terms = Terms(max_failures=1, retries=1, backoff_s=0.0)
    jobs = queue_together(store, 2, terms=terms)
    end(store, jobs[0])
    assert states(store) == {State.QUEUED: 2}
    store.ready_jobs.release_due_timers(time.time())
    end(store, jobs[0], now=21.0)
    assert states(store) == {State.FAILED: 1, State.HELD: 1}


def test_calls_of_functions_are_held_only_with_a_limit(store: Store) -> None:
    jobs = queue_together(store, 7, kind=FUNCTION, entry="m:f")
    fail(store, jobs[:6])
    assert State.HELD not in states(store)


def test_numbers_in_errors_are_no_other_cause(store: Store) -> None:
    jobs = queue_together(store, 7)
    for job in jobs[:5]:
        end(store, job, Failed(at=0.0, error=f"ValueError: line {job} is odd"))
    assert states(store) == {State.FAILED: 5, State.HELD: 2}


def test_a_done_job_among_the_first_keeps_the_rest_queued(store: Store) -> None:
    jobs = queue_together(store, 12)
    end(store, jobs[0], Done(at=0.0))
    fail(store, jobs[1:9])
    assert State.HELD not in states(store)


def test_damaged_spec_of_another_job_is_no_obstacle(store: Store) -> None:
    jobs = queue_together(store, 7)
    store.database.execute("UPDATE jobs SET spec = '{' WHERE id = ?", (jobs[-1],))
    fail(store, jobs[:5])
    assert job_row(store, jobs[5]).state is State.HELD


def test_skipped_job_that_was_held_is_queued_by_a_retry(store: Store) -> None:
    jobs = queue_together(store, 2, limit=1)
    with store.database.writing():
        run = store.ensure_run(Path("/nowhere"), "r")
        spec = Spec(**{**a_spec(name="command/x")._asdict(), "terms": Terms(max_failures=1)})
        store.insert_new(run, a_context(), [NewJob(spec=spec, dependencies=[jobs[1]])], 10.0)
    end(store, jobs[0])
    assert states(store) == {State.FAILED: 1, State.HELD: 2}
    store.job_control.cancel([jobs[1]], 30.0)
    store.job_control.retry([jobs[1]], 31.0)
    assert states(store) == {State.FAILED: 1, State.QUEUED: 2}
