"""No statement of the queue reads all jobs where it looks for those of one job."""

from pathlib import Path
from typing import Any

import pytest

from launcher.frontends.screens.code_notes import code_change_notes, code_record
from launcher.queue.home.paths import Home, make_home
from launcher.queue.job_options.notifications import RunNotify
from launcher.queue.jobs.job import Resources, Terms
from launcher.queue.jobs.states import (
    ENDED_STATES,
    OPEN_STATES,
    Done,
    NeverStarted,
    ReasonCode,
    State,
)
from launcher.queue.store.adoption import AdoptedJob, adopt_done_jobs
from launcher.queue.store.completion_queries import open_completion_queries
from launcher.queue.store.failure_limits import FIRST_FAILURES
from launcher.queue.store.feed import EventCursor
from launcher.queue.store.gpu_numbers import assign_gpus
from launcher.queue.store.history import HistoryQueries
from launcher.queue.store.inspection import probe_database
from launcher.queue.store.job_names import newest_by_superseded, superseded_name
from launcher.queue.store.job_repair import fail_unreadable_lanes
from launcher.queue.store.listings import ListingFilter, ListingQueries
from launcher.queue.store.output_conflicts import find_writer, wait_for_writer
from launcher.queue.store.queue import NewJob, Store
from launcher.queue.store.queued_code import (
    CodeChange,
    CodeRecord,
    CodeRecording,
    QueuedCode,
    has_unrecorded_code,
)
from launcher.queue.store.replacement import replace_equal_jobs, replace_waiting
from launcher.queue.store.rows import GroupLimit
from launcher.queue.store.run_news import RunEventReader
from launcher.queue.store.runs import (
    count_jobs_before,
    find_run_origin,
    open_runs,
    read_fair_share_account,
)
from launcher.queue.store.runs import running_placements as running_places
from launcher.queue.store.searches import NewTrial, SearchState, TrialChanges
from launcher.queue.store.steering import AcceptedFiles, ChangedJob
from launcher.queue.store.transitions import RequeueDecision
from launcher.queue.store.usage import MeasuredUsage
from tests.build import GIB, a_context, a_reason, a_seat, a_spec, claimed, enqueue, job_row
from tests.launcher.queued import DONE, FAILED, LOST, STOPPED, end, one, put, ready
from tests.launcher.store.statements import Recorder, Statement, places, record_statements

# part of a statement → why it may read all rows of a table, or all jobs of a state
MAY_READ_MANY = {
    "state = 'running'": "as many jobs run as the machine has room for",
    "INSERT INTO contexts": "SQLite plans a check of foreign keys; the number never changes",
    "INSERT INTO sources": "as the one before",
    "SELECT max(priority)": "max and min of an index read one entry",
    "WITH RECURSIVE waiting(run)": "as the one before",
    "events.reason_code = 'released' AND": "reads the index of releases, the newest first, up to that of the sweep",
    "LIMIT ?) WHERE": "reads as many rows as the limit says",
    "SELECT name FROM jobs ORDER BY id DESC LIMIT ?": "as the one before",
    "WHERE 1 AND 1 ORDER BY id DESC LIMIT": "as the one before",
    "ORDER BY jobs.id DESC LIMIT 1": "reads the newest jobs until one is of another run",
    "SELECT id FROM jobs WHERE state = ? AND waits >= ? ORDER BY": "reads as many rows as the limit says; the index has that order",
    "LIMIT ?) WHERE at < ?": "as the one before",
    "SELECT max(at) FROM (SELECT at FROM events": "as the one before",
    "SELECT DISTINCT lanes.id, lanes.key": "once per scheduler; the index alone is read",
    "SELECT lane, count(*) FROM jobs": "`run` estimates the rest of the queue; the index alone is read",
    "WHERE lane = ? AND state = 'queued'": "a lane that cannot be read, once",
    "WHERE jobs.state IN ('queued', 'held', 'running') ORDER BY": "all open jobs are asked for",
    "WHERE jobs.state = ? ORDER BY jobs.id": "all jobs of a state are asked for",
    "WHERE jobs.state = ? AND NOT (jobs.state IN": "as the one before",
    "SELECT state, count(*) AS n FROM jobs": "counts failed jobs that were replaced; `_MOST_REPLACEABLE` bounds them",
    "WHERE jobs.ended < ? AND jobs.state IN": "`clean` asks for all that have ended",
    "SELECT DISTINCT CASE WHEN json_valid(spec)": "`clean` asks which files any job uses",
    "WHERE runs.name <> ? AND CASE WHEN": "the results of all runs are asked for",
    "WHERE job = jobs.id) ORDER BY jobs.id": "a plan asks which files open programs make",
    "AND lane IN (SELECT id FROM lanes WHERE": "the jobs of a group are counted; it has no index",
    "WHERE state = 'queued' GROUP BY cost_key": "all queued jobs are counted by kind",
    "WHERE 0": "no row is read",
    "jobs.name GLOB :selected OR": "any part of any name is searched for",
    "state IN (SELECT value FROM json_each(:states))": "a list of jobs in some states",
    "WHERE run = ? AND state = ? ORDER BY id DESC": "a list of a run's jobs; the index alone is read",
    "SELECT id, run, hash FROM jobs": "the page compares the settings of all jobs",
    "FROM attempts WHERE (ended IS NULL OR": "`history` sums up all attempts",
    "FROM attempts WHERE ended >= :since": "as the one before",
    "AND attempts.ended >= :since": "as the one before",
    "WHERE attempts.ended > ?1 AND attempts.ended <= ?2": "a scheduler asks once, when it starts",
    "id NOT IN (SELECT context FROM jobs UNION": "`clean` asks once which environments no job has",
    "WHERE id IN (SELECT context FROM jobs) AND": "`clean` asks once which snapshots jobs have",
    "id NOT IN (SELECT sources FROM jobs": "`clean` asks once which sources no job has",
    "id NOT IN (SELECT code FROM jobs": "as the one before",
    "FROM lanes JOIN jobs ON jobs.lane = lanes.id": "`doctor` asks for waits without a cause",
}
ROOT = Path("/nowhere")
PATTERNS = ("1", "a", "command/a", "comm", "c*", "odd", "run:test", "run:t*", "tag:p*", "group:n*")
GPU: dict[str, Any] = {"device": "GPU-0", "vram": 4 * GIB}


def queue_jobs(store: Store) -> list[int]:
    """Queue jobs in all ways; return those of a chain."""
    context = a_context()
    with store.database.writing():
        run = store.ensure_run(ROOT, "test", share=2.0)
        store.set_notify(run, RunNotify())
        fresh = [
            NewJob(spec=a_spec(name=f"command/new{n}", sources={"module": "digest"}))
            for n in range(3)
        ]
        (first, *_) = store.insert_new(run, context, fresh, 1.0)
        needy = [
            NewJob(
                spec=a_spec(name=f"command/needy{n}"), dependencies=[first], after_any=[first + 1]
            )
            for n in range(2)
        ]
        store.insert_new(run, context, needy, 1.0)
    chain = put(store, "abcd", needs={"b": "a", "c": "b"}, after_any={"d": "a"})
    later = one(store, "later", not_before=1e12, group="night")
    store.job_control.set_group_limit("night", 1)
    store.job_control.set_group_limit("day", 1)
    store.job_control.set_group_limit("day", None)
    store.job_control.pause_group("night", 1.0)
    store.job_control.resume_group("night")
    with store.database.writing():
        store.ensure_group(GroupLimit("executor/a", 2))
    called = one(store, "called", group="executor/a")
    store.job_control.end_executor("executor/a", 1.0, cancel=True)
    store.job_control.end_executor("executor/a", 1.0, cancel=False)
    assert store.read.jobs_by_id([called])[0].spec.terms.group == ""
    store.job_control.set_share("test", 3.0)
    row = job_row(store, later)
    store.read.gpu_of_number(later)
    with store.database.writing():
        replace_waiting(store, row, context, NewJob(spec=row.spec, dependencies=[chain[0]]), 2.0)
    return chain


def steer_jobs(store: Store, chain: list[int]) -> None:
    """Do to jobs what their owners may."""
    steering = store.job_control
    steering.hold(chain, 2.0)
    steering.release(chain, 2.0)
    steering.set_priority(chain, 3)
    steering.change_tags(chain, ["paper"], ["old"])
    steering.set_note(chain, "a note")
    steering.tags_of(chain)
    steering.all_tags()
    steering.transitive_dependents(chain[0])
    steering.transitive_waiters(chain[0])
    row, needs_it = job_row(store, chain[0]), job_row(store, chain[1])
    spec = row.spec._replace(terms=Terms(not_before=1e12), priority=5, hash="other")
    steering.change_jobs([ChangedJob(row, spec, a_reason("edited"), ((needs_it, "hash"),))], 3.0)
    steering.cancel(chain, 4.0)
    steering.retry(chain, 5.0)
    steering.cancel(chain[:1], 6.0)
    steering.retry(chain[:1], 1e13)
    ended = one(store, "ended")
    end(store, ended, FAILED)
    with store.database.writing():
        steering.rename_ended(ended, "command/former")
    steering.delete_jobs([ended])
    steering.delete_unused_rows()


def change_in_portions(store: Store, chain: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry jobs in portions, and queue new ones until that is interrupted."""
    with monkeypatch.context() as patched:
        patched.setattr("launcher.queue.store.connection.PORTION", 1)
        patched.setattr("launcher.queue.store.queue.PORTION", 1)
        store.job_control.cancel(chain, 7.0)
        store.job_control.retry(chain, 8.0)
        new = [NewJob(a_spec(name=f"command/many{number}")) for number in range(2)]
        with store.database.writing():
            run, first = store.ensure_run(ROOT, "test"), store.next_job_number()
            store.reserve_numbers(new)
        with pytest.raises(AttributeError):
            store.insert_in_portions(run, None, new, 9.0, first)  # type: ignore[arg-type]
        store.insert_in_portions(run, a_context(), new, 9.0, first)


def run_jobs(store: Store, chain: list[int]) -> None:
    """Let attempts start, pause and end in all ways."""
    store.ready_jobs.release_due_timers(10.0)
    store.ready_jobs.release_due_timers(1e14)
    ready(store)
    store.ready_jobs.record_lane_reasons({1: a_reason("full")})
    store.claims.next_attempt(chain[0])
    claim = claimed(store, chain[0])
    store.claims.open_claims()
    store.job_control.pause([chain[0]], lambda _: a_reason("pause"), 2.0)
    store.running_jobs.paused_jobs()
    store.running_jobs.paused_s(claim)
    store.running_jobs.record_running_reason(
        chain[0], a_reason("stands still", ReasonCode.FROZEN), 2.0
    )
    store.running_jobs.record_continued(chain[0], 2.0)
    store.job_control.resume([chain[0]], 3.0)
    store.job_control.cancel([chain[0]], 3.0)
    store.running_jobs.pending_actions()
    store.running_jobs.jobs_to_kill()
    store.running_jobs.record_running_reason(chain[0], a_reason("settles"), 3.0)
    end(store, claim, DONE)
    end(store, chain[1], Done(at=2.0, result={"auc": 1.0}, files=("x",)))
    store.job_control.retry([chain[1]], 4.0)
    again = claimed(store, chain[1], 5.0)
    store.transitions.finish_attempt(
        again, Done(at=6.0, result={"auc": 1.0}), outputs={"/x": (1, 2)}, now=6.0
    )
    signature = "command python"
    for outcome in (
        DONE,
        FAILED,
        LOST,
        STOPPED,
        NeverStarted(at=2.0),
        NeverStarted(at=2.0, blamed_on="machine"),
    ):
        job = one(store, f"{outcome}", retries=3, signature=signature, argv=("python", "1"))
        ended = claimed(store, job, **GPU)
        end(store, ended, outcome, measured_usage=MeasuredUsage(peak=GIB, machine="A10"))
    lone = one(store, "lone", retries=1)
    requeue = RequeueDecision(reason=a_reason("full"), vram=GIB, backoff_s=1.0)
    end(store, claimed(store, lone, **GPU), FAILED, requeue=requeue)
    for now in (1.0, 2.0):
        store.ready_jobs.release_due_timers(1e14)
        end(store, claimed(store, lone, now), NeverStarted(at=now), now=now)


def share_outputs(store: Store) -> None:
    """Let a job wait for another one that writes the same path."""
    connection = store.database
    writer = one(store, "writer", outputs=("/shared",))
    claim = claimed(store, writer)
    waiting = one(store, "waiting", outputs=("/shared",))
    spec = job_row(store, waiting).spec
    with store.database.writing():
        found = find_writer(connection, {waiting: spec})
        assert found is not None
        wait_for_writer(connection, waiting, found, 1.0)
    end(store, claim, DONE)


def adopt_jobs(store: Store) -> None:
    """Take results over from another folder, which is gone or still there."""
    done = put(store, "mn", needs={"n": "m"})
    for job in done:
        end(store, claimed(store, job), DONE)
    for folder, keep in (("/copy", True), ("/moved", False)):
        found = [
            AdoptedJob(row.id, row.hash, row.spec, {}, {"acc": 1.0})
            for row in store.read.jobs_by_id(store.read.existing_jobs(done))
        ]
        with store.database.writing():
            run = store.ensure_run(Path(folder), "test")
            (failed,) = store.insert_new(run, a_context(), [NewJob(spec=found[0].spec)], 1.0)
        store.job_control.cancel([failed], 2.0)
        with store.database.writing():
            adopt_done_jobs(
                store, run, a_context(), found, a_reason("adopted"), now=3.0, copy_jobs=keep
            )
    store.read.done_in_other_roots(ROOT, "test")
    store.read.roots_of("test")


def replace_jobs(store: Store) -> None:
    """Ask which jobs a newer one of their name replaced."""
    former = one(store, "replaced")
    end(store, claimed(store, former), DONE)
    row = job_row(store, former)
    with store.database.writing():
        store.job_control.rename_ended(former, superseded_name(row.name, former))
    newest_by_superseded(store.database.execute, [job_row(store, former)])
    run, equal = row.run_id, a_spec(batch="sweep")
    for number in (1000, 1001):
        with store.database.writing():
            spec = equal._replace(name=f"command/{number}")
            (job,) = store.insert_new(run, a_context(), [NewJob(spec=spec)], 1.0)
            replace_equal_jobs(store, run, a_context(), {job: spec})
        store.job_control.cancel([job], 2.0)
    failed, waiting = put(store, "xy", needs={"y": "x"})
    end(store, claimed(store, failed), FAILED)
    with store.database.writing():
        store.job_control.rename_ended(failed, superseded_name("command/x", failed))
    one(store, "x")
    store.job_control.retry([waiting], 3.0)


def schedule_jobs(store: Store) -> None:
    """Ask what a scheduler asks."""
    enqueue(store, a_spec(name="numbered", resources=Resources(device="cuda:1")))
    assign_gpus(store.database, {"cuda:1": "GPU-0000"})
    store.read.newest_run()
    store.ready_jobs.set_vtimes({"1": 1.0})
    store.ready_jobs.slots_by_group()
    store.usage_records.past_usage(0.0, 100.0)
    store.ready_jobs.waiting_by_lane()
    store.database.invalidate_caches()
    sweep = put(
        store,
        "xy",
        signature="command sweep",
        argv=("python", "1"),
        resources=Resources(device="cuda"),
    )
    end(store, claimed(store, sweep[0], **GPU), DONE, measured_usage=MeasuredUsage(peak=GIB))
    store.usage_records.usage("command other")
    (first, *_) = [job for job in store.ready_jobs.read_ready(9) if job.id == sweep[1]]
    store.claims.next_claim(first, a_seat(), 1.0)
    store.ready_jobs.next_in_class(first)
    store.ready_jobs.lane_of_job(first.id)
    old = one(store, "old", cpus=2)
    with store.database.writing():
        store.database.execute("UPDATE jobs SET lane = 0 WHERE id = ?", (old,))
    ready(store)
    store.ready_jobs.repair_unready(1.0)
    limited = [
        NewJob(spec=a_spec(name=f"command/limited{n}", terms=Terms(max_failures=1)))
        for n in range(3)
    ]
    with store.database.writing():
        run = store.ensure_run(ROOT, "test")
        jobs = [*store.insert_new(run, a_context(), limited, 1.0)]
        copied = job_row(store, jobs[0])
        store.insert_copy(copied, copied.spec, a_reason("copied"), 1.0)
    for job in jobs[:2]:
        end(store, job, FAILED, now=2.0)  # and holds the others
        store.job_control.release(jobs[1:], 2.0)
    alike = [NewJob(spec=a_spec(name=f"command/alike{n}")) for n in range(FIRST_FAILURES)]
    with store.database.writing():
        same_failures = store.insert_new(run, a_context(), alike, 1.0)
    for job in same_failures:
        end(store, job, FAILED, now=2.0)
    failed = [job_row(store, job) for job in jobs[:2]]
    store.job_control.accept_files([AcceptedFiles(row, {}, {}) for row in failed], 3.0)
    store.job_control.skipped_after(jobs)
    row = job_row(store, first.id)
    open_runs(store.database.execute)
    find_run_origin(store.database.execute, row.run)
    running_places(store.database.execute)
    count_jobs_before(store.database.execute, row, [0])
    with store.database.writing():
        connection = store.database
        fail_unreadable_lanes(connection, [(first.lane_id, "unreadable")], 1.0)
        store.accept_result(sweep[0], row.spec, a_reason("accepted"), 1.0)


def record_code(store: Store) -> None:
    """Note the code of a job, record and compare it, and queue the job again."""
    code = QueuedCode(1.0, "/", "", (), {"/a.py": ["/a.py"]})
    with store.database.writing():
        new = [NewJob(spec=a_spec("python", "/a.py", name="command/coded"))]
        jobs = store.insert_new(store.ensure_run(ROOT, "test"), a_context(), new, 1.0, code=code)
    has_unrecorded_code(store.database)
    recording = CodeRecording(store.database)
    ((number, _),) = recording.list_unrecorded(1)
    (record,) = recording.add_records(number, code, {"/a.py": CodeRecord({"/a.py": "digest"})})
    recording.records_of([number])
    recording.add_changes([CodeChange(record, 2.0, {"/a.py": ""})])
    assert recording.last_change(record).files == {"/a.py": ""}
    code_change_notes(store, [job_row(store, jobs[0])])
    code_record(store, job_row(store, jobs[0]))
    store.job_control.cancel(jobs, 2.0)
    store.job_control.retry(jobs, 3.0)


def search_values(store: Store) -> None:
    """Add a search with two trials, prune one of them, and end it."""
    searches, context = store.searches, a_context()
    with store.database.writing():
        run = store.ensure_run(ROOT, "searched")
        number = searches.add(run, "command/fit", "{}", store.ensure_context(context), 1.0)
    running, other = put(store, ["seed1", "seed2"])
    with store.database.writing():
        searches.add_trials(
            number, {job: NewTrial(0, at, {}, {}, 0) for at, job in enumerate((running, other))}
        )
    claim = claimed(store, running)
    assert store.job_control.prune(running, 3, 2.0)
    end(store, claim, STOPPED)
    searches.add_result(running, 2.0, {"auc": 1.0})
    searches.set_note(number, "seen")
    searches.set_progress(number, {"ended": 1})
    assert searches.set_state(number, SearchState.PAUSED, former_state=SearchState.RUNNING)
    assert [row.id for row in searches.all()] == searches.active_numbers() == [number]
    assert searches.all([run]) == [searches.find(run, "command/fit")] == [searches.read(number)]
    assert (
        searches.open_searches_in_runs("search*")
        == searches.searches_in_runs("search*")
        == searches.all()
    )
    assert searches.searches_of_jobs([other]) == searches.all()
    assert searches.context(number) == context
    assert [row.job for row in searches.trials(number)] == [running, other]
    assert searches.follow([number], running) == ({number}, [other])
    assert searches.open_jobs([number]) == [other]
    assert searches.jobs_of_trials([running, other]) == searches.kept_jobs() == {running, other}
    assert searches.end(number, "over", has_failed=False)
    (third,) = put(store, ["seed3"])
    with store.database.writing():
        searches.change_trial(other, TrialChanges({"lr": 0.1}, {"amp": True}))
        searches.copy_trial(other, third, TrialChanges({}, None))
        searches.mark_outdated([other])
    assert searches.active_numbers() == [number]
    with store.database.writing():
        store.renew_context(other, context, None, 3.0)
    assert store.read.used_snapshots() == []


def read_jobs(store: Store, chain: list[int]) -> None:
    """Ask all questions of screens and planners."""
    read, (job, *_) = store.read, chain
    row = job_row(store, job)
    for questions in (
        read.jobs,
        read.open_jobs,
        read.sample_names,
        read.runs,
        read.run_totals,
        read.group_limits,
        read.group_names,
        read.programs_by_output,
        read.output_folders,
    ):
        questions()
    for of_job in (
        read.dependencies_of,
        read.awaited_jobs_of,
        read.jobs_awaiting,
        read.events_of,
        read.dependency_names,
        read.working_folder,
        read.result_of,
    ):
        of_job(job)
    for of_jobs in (
        read.attempts,
        read.newest_attempts,
        read.first_unmet_dependencies,
        read.dependents_of,
    ):
        of_jobs(chain)
    read.jobs_in_state(State.FAILED)
    read.jobs_in_state(State.FAILED, current=True)
    read.jobs_of_runs_named("test")
    read.jobs_of_run(row.run_id)
    read.programs_by_output(paths=["/a/b"])
    [*read.done_outputs_in(["/a/"])]
    read.run_totals(row.run_id)
    read.find_run(str(ROOT), "test")
    read.find_job(row.run_id, row.name)
    read.existing_names(row.run_id, [row.name])
    read.setting_values("function", "file", exclude=chain)
    read.table_jobs(exclude_kind="add")
    read.first_dependencies_of(job, 3)
    read.first_and_last_jobs([row.run_id])
    read.waiting_jobs(5)
    read.recently_done(5)
    read.recently_ended(5, current=True)
    read_fair_share_account(store.database.execute, ROOT, "test")
    read.count_waiting_in("night")
    read.ended_before(1e12, ENDED_STATES)
    read.jobs_of(ROOT, "test")
    read.counts(row.run_id)
    read.counts()
    read.current_counts()
    read.recent_completions(500)
    read.recent_durations(5, 0.0)
    read.queued_by_cost_key()
    read.run_progress(1000)
    for pattern in PATTERNS:
        read.select_by_pattern(pattern)
        read.search_numbers(pattern, 5)


def list_jobs(store: Store, chain: list[int]) -> None:
    """Ask for pages of lists, for the history, and for news."""
    listing = ListingQueries(store.database)
    run = job_row(store, chain[0]).run_id
    for states in (frozenset[State](), ENDED_STATES, OPEN_STATES):
        for text in ("", *PATTERNS):
            for edge in ({}, {"older_than": chain[1]}, {"newer_than": chain[1]}):
                listing.jobs(ListingFilter(states, text), 5, **edge)
    listing.runs(5)
    listing.runs(5, numbers=[run])
    listing.newest_run_named("test")
    listing.run_names()
    listing.run_records([run])
    listing.job_numbers(run)
    listing.job_numbers_in_state(run, State.QUEUED, 5)
    listing.first_job(run)
    listing.settings_fingerprints()
    list(listing.spec_records(chain))
    HistoryQueries(store.database, 0.0, 1e12).build_report({})
    HistoryQueries(store.database, 0.0, 1e12, chain).build_report({})
    EventCursor(store, 0).read_new()
    news = RunEventReader(store.database)
    news.last_event_before(1e12)
    news.extend_to_idle_start(news.read_since(0)[1][0])
    news.job_ends(0, news.newest())
    news.failures(run, 0)
    news.count_ended_since(run, 0.0)


def complete_words(home: Home) -> None:
    """Ask what shell completion asks."""
    with open_completion_queries(home.database) as completing:
        completing.jobs("new", ["queued"])
        completing.numbers("1")
        completing.runs("t")
        completing.tags("p")
        completing.groups("n")


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    """All statements of the store, each run at least once."""
    home = Home(tmp_path_factory.mktemp("plans") / "home")
    make_home(home)
    with pytest.MonkeyPatch.context() as monkeypatch:
        return run_all(home, monkeypatch)


def run_all(home: Home, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Run every statement of the store."""
    recorder = record_statements(monkeypatch)
    store = Store(home, durable=False)
    chain = queue_jobs(store)
    steer_jobs(store, chain)
    change_in_portions(store, chain, monkeypatch)
    run_jobs(store, chain)
    share_outputs(store)
    replace_jobs(store)
    schedule_jobs(store)
    record_code(store)
    search_values(store)
    read_jobs(store, chain)
    list_jobs(store, chain)
    complete_words(home)
    adopt_jobs(store)
    probe_database(home.database)
    store.close()
    home.renumber_request.touch()
    home.attempt(10_000, 1).folder.mkdir()
    Store(home).close()
    return recorder


def test_every_statement_of_the_store_is_executed(recorder: Recorder) -> None:
    missing = [
        str(place)
        for place in places()
        if recorder.lines.isdisjoint(
            (place.file, line) for line in range(place.first, place.last + 1)
        )
    ]
    assert not missing, "run these, so that their plans are seen:\n" + "\n".join(missing)


def test_only_listed_statements_read_all_rows_or_all_jobs_of_a_state(
    recorder: Recorder,
) -> None:
    found = {
        statement.sql: statement.many
        for statement in recorder.statements.values()
        if statement.many and not any(text in statement.sql for text in MAY_READ_MANY)
    }
    assert not found, "\n".join(f"{sql}\n    {steps}" for sql, steps in found.items())


def test_list_contains_no_unused_statements(recorder: Recorder) -> None:
    many = [statement.sql for statement in recorder.statements.values() if statement.many]
    assert not [text for text in MAY_READ_MANY if not any(text in sql for sql in many)]


def test_failures_of_a_run_are_read_from_its_events_instead_of_all_its_jobs(
    recorder: Recorder,
) -> None:
    (failures,) = (
        statement
        for statement in recorder.statements.values()
        if "PARTITION BY events.reason_code" in statement.sql
    )
    assert "SEARCH events USING INTEGER PRIMARY KEY (rowid>?)" in failures.plan


@pytest.mark.parametrize(
    ("sql", "reads_many"),
    [
        (
            "SELECT job FROM needs JOIN jobs ON jobs.id = job"
            " WHERE need = 1 AND any_end = 0 AND state = 'skipped'",
            1,
        ),
        (
            "SELECT job FROM needs CROSS JOIN jobs ON jobs.id = job WHERE need = 1 AND state = 'x'",
            0,
        ),
        ("SELECT one.id FROM jobs AS one WHERE one.spec = ''", 1),
        ("SELECT id FROM jobs one WHERE one.spec = ''", 1),
        ("SELECT id FROM jobs WHERE state = 'queued' AND waits = 0 AND spec = ''", 1),
        ("SELECT id FROM jobs WHERE id = 1 AND state = 'queued'", 0),
        ("SELECT * FROM attempts WHERE number = 1", 1),
        ("SELECT * FROM attempts WHERE job = 1", 0),
        ("DELETE FROM events WHERE reason = ''", 1),
        ("DELETE FROM events WHERE job = 1", 0),
        ("SELECT need FROM needs WHERE any_end = 1", 1),
        ("SELECT name FROM runs", 0),
    ],
)
def test_statement_that_reads_many_rows_is_detected(
    store: Store, sql: str, reads_many: int
) -> None:
    rows = store.database.execute(f"EXPLAIN QUERY PLAN {sql}")
    statement = Statement(sql, tuple(row[3] for row in rows))
    assert len(statement.many) == reads_many, statement
