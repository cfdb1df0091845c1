"""The database of results: its content, updates in place, and complete reads during a write."""

import math
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from launcher.experiments.results import write as write_module
from launcher.experiments.results.database_questions import open_for_reading
from launcher.experiments.results.database_tables import TABLES
from launcher.experiments.results.write import query_all_runs, update, write_run
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import Done, Failed, Outcome
from launcher.queue.store.queue import Store
from launcher.queue.texts import pause_reason
from launcher.system.errors import MachineError, UsageError
from launcher.system.files import Json
from tests.build import DEADLINE_S, a_spec, claimed, enqueue, finished
from tests.launcher.queued_again import FAILED, a_seed, add
from tests.launcher.queued_again import done as done_again

pytest.importorskip("sqlite_utils")


def with_outcome(store: Store, outcome: Outcome, name: str, **changes: Any) -> int:
    """Return a job of the run `test` that has ended."""
    run = changes.get("run", "test")
    (job,) = enqueue(store, a_spec(name=name, **changes), run=run)
    store.transitions.finish_attempt(claimed(store, job), outcome, outputs={}, now=2.0)
    return job


def with_done_attempt(store: Store, name: str, result: dict[str, Json], **changes: Any) -> int:
    return with_outcome(store, Done(at=2.0, result=result), name, **changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.sqlite"


def write(path: Path, home: Home, store: Store, run: str = "test") -> int:
    return write_run(path, home, store, store.read.jobs_of_runs_named(run)[0].run_id)


def select(path: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.close()


def test_a_run_is_written_with_its_jobs_attempts_settings_and_numbers(
    path: Path, home: Home, store: Store
) -> None:
    job = with_done_attempt(
        store, "command/a", {"auc": {"value": 0.5, "low": 0.4, "high": 0.6}}, argv=("x", "--lr=0.1")
    )
    write(path, home, store)
    assert select(path, "SELECT name, jobs, done, open FROM runs") == [("test", 1, 1, 0)]
    assert select(path, "SELECT id, number, name, state, command FROM jobs") == [
        (job, job, "command/a", "done", "x --lr=0.1")
    ]
    assert select(path, "SELECT number, device, ending, exit_code FROM attempts") == [
        (1, "cpu", "done", 0)
    ]
    assert select(path, "SELECT name, value, typeof(value) FROM settings") == [("lr", 0.1, "real")]
    assert select(path, "SELECT name, value, low, high FROM metrics") == [("auc", 0.5, 0.4, 0.6)]


def test_changed_rows_are_updated_in_place(path: Path, home: Home, store: Store) -> None:
    job = with_outcome(store, Failed(at=2.0, error="no luck"), "command/a")
    write(path, home, store)
    assert select(path, "SELECT state FROM jobs") == [("failed",)]
    store.job_control.retry([job], 3.0)
    finished(store, job, Done(at=4.0))
    write(path, home, store)
    assert select(path, "SELECT id, state, attempts FROM jobs") == [(job, "done", 2)]
    assert select(path, "SELECT number, ending FROM attempts") == [(1, "failed"), (2, "done")]


def test_seconds_do_not_contain_pauses(path: Path, home: Home, store: Store) -> None:
    (job,) = enqueue(store, a_spec(name="command/a"), run="test")
    claim = claimed(store, job)
    store.job_control.pause([job], lambda _: pause_reason("cpu", None, 3.0), 3.0)
    store.job_control.resume([job], 9.0)
    done = Done(at=claim.claimed + 10.0)
    store.transitions.finish_attempt(claim, done, outputs={}, now=done.at)
    write(path, home, store)
    assert select(path, "SELECT seconds FROM jobs UNION SELECT seconds FROM attempts") == [(4.0,)]


def test_rerun_or_queued_job_has_its_current_settings_and_numbers(
    path: Path, home: Home, store: Store
) -> None:
    job = with_done_attempt(store, "command/a", {"old": 1, "both": 1}, argv=("x", "--lr=1"))
    write(path, home, store)
    assert (
        with_done_attempt(store, "command/a", {"both": 2, "new": 2}, argv=("x", "--depth=1")) == job
    )
    write(path, home, store)
    assert select(path, "SELECT name, value FROM metrics ORDER BY name") == [
        ("both", 2.0),
        ("new", 2.0),
    ]
    assert select(path, "SELECT name FROM settings") == [("depth",)]
    enqueue(store, a_spec(name="command/a", argv=("x", "--lr=1")), run="test")
    write(path, home, store)
    assert select(path, "SELECT id, state, command FROM jobs") == [(job, "queued", "x --lr=1")]
    assert select(path, "SELECT name FROM settings") == [("lr",)]
    assert select(path, "SELECT name FROM metrics") == []


def test_errors_and_log_tails_are_found_by_full_text_search(
    path: Path, home: Home, store: Store
) -> None:
    (job,) = enqueue(store, "command/a")
    claim = claimed(store, job)
    log = home.attempt(job, 1).log
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(
        b"begin\n" + b"x" * 100_000 + b"\nRuntimeError: \x1b[31mCUDA\x1b[0m error \xff\n"
    )
    store.transitions.finish_attempt(
        claim, Failed(at=2.0, error="exit code 1"), outputs={}, now=2.0
    )
    with_outcome(store, Failed(at=2.0, error="disk full"), "command/b")
    write(path, home, store)
    query = (
        "SELECT job FROM errors WHERE id IN (SELECT rowid FROM errors_fts WHERE errors_fts MATCH ?)"
    )
    assert select(path, query, "cuda") == [(job,)]
    ((text,),) = select(path, "SELECT log FROM errors WHERE job = ?", job)
    assert "RuntimeError: CUDA error" in text
    assert len(text) < 40_000
    assert [
        row[:3] for row in select(path, "SELECT run, job, attempt FROM failures ORDER BY job")
    ] == [
        ("test", "command/a", 1),
        ("test", "command/b", 1),
    ]


def test_file_holds_several_runs_and_queues(
    path: Path, home: Home, store: Store, tmp_path: Path
) -> None:
    with_done_attempt(store, "command/a", {"n": 1})
    with_done_attempt(store, "command/b", {"n": 2}, run="other")
    write(path, home, store)
    write(path, home, store, "other")
    elsewhere = Home(tmp_path / "elsewhere")
    elsewhere.folder.mkdir()
    second = Store(elsewhere, durable=False)
    mine = with_done_attempt(second, "command/z", {"n": 3})
    write(path, elsewhere, second)
    second.close()
    assert write(path, home, store) == 0
    rows = select(
        path,
        "SELECT homes.folder, runs.name, jobs.number, metrics.value FROM metrics JOIN jobs ON jobs.id = job"
        " JOIN runs ON runs.id = run JOIN homes ON homes.id = home ORDER BY metrics.value",
    )
    assert rows == [
        (str(home.folder), "test", 1, 1.0),
        (str(home.folder), "other", 2, 2.0),
        (str(elsewhere.folder), "test", mine, 3.0),
    ]


def test_readers_see_a_write_completely_or_not_at_all(path: Path, home: Home, store: Store) -> None:
    with_done_attempt(store, "command/a", {"n": 1})
    write(path, home, store)
    with_done_attempt(store, "command/b", {"n": 2})
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    assert reader.execute("SELECT jobs FROM runs").fetchone() == (1,)
    with ThreadPoolExecutor() as threads:
        writing = threads.submit(write_in_other_process, path, home)
        # whatever the writer has done, this reader's jobs are those of one moment
        for _ in range(100):
            assert reader.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
        reader.execute("COMMIT")
        reader.close()
        assert writing.result(DEADLINE_S) == 4
    assert (
        select(path, "SELECT jobs FROM runs") == select(path, "SELECT count(*) FROM jobs") == [(2,)]
    )


def write_in_other_process(path: Path, home: Home) -> int:
    store = Store(home, durable=False)
    try:
        return write(path, home, store)
    finally:
        store.close()


def test_failed_write_leaves_the_file_unchanged(path: Path, home: Home, store: Store) -> None:
    with_done_attempt(store, "command/a", {"n": 1})
    write(path, home, store)
    before = path.read_bytes()
    with_done_attempt(store, "command/b", {"n": 2})
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(
        "CREATE TRIGGER no_more BEFORE INSERT ON metrics BEGIN SELECT RAISE(ABORT, 'disk full'); END"
    )
    with pytest.raises(MachineError, match="disk full"):
        write(path, home, store)
    connection.execute("DROP TRIGGER no_more")
    connection.close()
    assert select(path, "SELECT count(*) FROM jobs") == [(1,)]
    assert len(path.read_bytes()) == len(before)


def test_uncreatable_file_is_named_with_the_reason(
    tmp_path: Path, home: Home, store: Store
) -> None:
    with_done_attempt(store, "command/a", {})
    path = tmp_path / "nowhere" / "results.sqlite"
    with pytest.raises(MachineError, match=f"cannot write {path}: No such file or directory$"):
        write(path, home, store)


@pytest.mark.parametrize("content", [b"no database at all, but a long text" * 100, b"\0" * 5000])
def test_file_that_is_not_a_database_is_not_changed(
    path: Path, home: Home, store: Store, content: bytes
) -> None:
    with_done_attempt(store, "command/a", {"n": 1})
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is not a SQLite database"):
        write(path, home, store)
    assert path.read_bytes() == content


def test_database_of_another_program_is_not_changed(path: Path, home: Home, store: Store) -> None:
    with_done_attempt(store, "command/a", {"n": 1})
    with pytest.raises(UsageError, match="of another program"):
        write(home.database, home, store)
    sqlite3.connect(path).execute("CREATE TABLE mine (x)").connection.close()
    with pytest.raises(UsageError, match="of another program"):
        write(path, home, store)
    assert select(path, "SELECT name FROM sqlite_master") == [("mine",)]


def test_database_of_a_newer_launcher_is_not_changed(path: Path, home: Home, store: Store) -> None:
    with_done_attempt(store, "command/a", {"n": 1})
    write(path, home, store)
    sqlite3.connect(path, isolation_level=None).execute(
        "PRAGMA user_version = 99"
    ).connection.close()
    with pytest.raises(UsageError, match="newer launcher"):
        write(path, home, store)


def test_unusual_names_and_values_are_stored_unchanged(
    path: Path, home: Home, store: Store
) -> None:
    odd: dict[str, Json] = {'a"b]': 1, "A": 1e400, "big": 1 << 80, "nan": float("nan"), "": 2}
    with_done_attempt(
        store,
        "command/'; DROP TABLE jobs; --\x1b",
        odd,
        argv=("x", "--big=99999999999999999999999", "--s=\x1b[31m"),
    )
    write(path, home, store)
    assert write(path, home, store) == 0
    names = {name for (name,) in select(path, "SELECT name FROM metrics")}
    assert names == {'a"b]', "A", "big", "nan", ""}
    ((name,),) = select(path, "SELECT name FROM jobs")
    assert name == "command/'; DROP TABLE jobs; --\x1b"


def test_file_is_accessible_only_to_its_owner(path: Path, home: Home, store: Store) -> None:
    with_done_attempt(store, "command/a", {"n": 1})
    write(path, home, store)
    assert path.stat().st_mode & 0o777 == 0o600


def test_scores_and_epochs_come_from_the_plugin_package_and_views_contain_programs_too(
    path: Path, home: Home, store: Store, scored: Path
) -> None:
    assert write(path, home, store) > 0
    assert write(path, home, store) == 0
    where = "scores.model = 'line:pre@lr=0.2,seed=1' AND scores.data = 'dot:pre'"
    sql = "SELECT architecture, seed, setting_lr, goodness, goodness_low, badness, pooled, counts"
    assert select(path, f"{sql} FROM results AS scores WHERE {where}") == [
        ("tiny", 1, 0.2, pytest.approx(0.3), pytest.approx(0.2), pytest.approx(0.7), 0, "[1, 2]")
    ]
    sql = "SELECT makers.name, tests.name FROM scores JOIN jobs AS makers ON makers.id = maker"
    assert select(path, f"{sql} JOIN jobs AS tests ON tests.id = test WHERE {where}") == [
        ("scoredtrain/line:pre@lr=0.2,seed=1", "scoredtest/line:pre@lr=0.2,seed=1/dot:pre")
    ]
    sql = "SELECT epoch, loss, jobs.name, job_ FROM epochs JOIN jobs ON jobs.id = job"
    assert select(path, f"{sql} WHERE epochs.model = 'line:pre@lr=0.1,seed=0' ORDER BY epoch") == [
        (1, 0.5, "scoredtrain/line:pre@lr=0.1,seed=0", "of the laboratory"),
        (2, 0.25, "scoredtrain/line:pre@lr=0.1,seed=0", "of the laboratory"),
    ]
    best = select(path, "SELECT metric, model, value FROM best WHERE data = 'ring:pre' ORDER BY 1")
    assert best == [
        ("badness", "line:pre@lr=0.2,seed=2", pytest.approx(0.59)),
        ("goodness", "line:pre@lr=0.2,seed=2", pytest.approx(0.41)),
    ]
    swept = select(path, "SELECT DISTINCT name FROM settings WHERE swept ORDER BY name")
    assert swept == [("lr",), ("seed",), ("tilt",)]
    with_done_attempt(store, "command/a", {"acc": 0.5}, run="own", argv=("x", "--rate=3"))
    with_done_attempt(store, "command/b", {"acc": 0.6}, run="own", argv=("x", "--rate=4"))
    for run in ("test", "own"):
        write(path, home, store, run)
    assert {metric for (metric,) in select(path, "SELECT DISTINCT metric FROM best")} == {
        "acc", "badness", "goodness",
    }  # fmt: skip
    where = "WHERE run = 'own' ORDER BY name"
    assert select(path, f"SELECT model, name, rate, acc FROM results {where}") == [
        (None, "command/a", 3, 0.5),
        (None, "command/b", 4, 0.6),
    ]
    assert write(path, home, store) == write(path, home, store, "own") == 0


SWEEP: dict[str, tuple[str, dict[str, Json]]] = {
    "command/a": ("--lr=0.1 --seed=0", {"acc": 0.5, "val.loss": 0.4}),
    "command/b": ("--lr=0.1 --seed=1", {"acc": 0.7, "val.loss": 0.3}),
    "command/c": ("--lr=0.01 --seed=0", {"acc": 0.9, "val.loss": 0.5}),
}


@pytest.mark.parametrize(
    ("told", "sql", "rows"),
    [
        (
            SWEEP,
            "SELECT run, name, lr, seed, acc FROM results ORDER BY acc DESC",
            [
                ("test", "command/c", 0.01, 0, 0.9),
                ("test", "command/b", 0.1, 1, 0.7),
                ("test", "command/a", 0.1, 0, 0.5),
            ],
        ),
        (
            SWEEP,
            "SELECT lr, avg(acc) FROM results WHERE NOT pooled GROUP BY lr",
            [(0.01, 0.9), (0.1, pytest.approx(0.6))],
        ),
        (
            SWEEP,
            "SELECT metric, model, value FROM best",
            [("acc", "command/c", 0.9), ("val.loss", "command/b", 0.3)],
        ),
        (  # equal rows are all best
            SWEEP | {"command/d": ("--lr=1 --seed=2", {"acc": 0.9, "val.loss": 0.3})},
            "SELECT metric, model, value FROM best ORDER BY 1, 2",
            [
                ("acc", "command/c", 0.9),
                ("acc", "command/d", 0.9),
                ("val.loss", "command/b", 0.3),
                ("val.loss", "command/d", 0.3),
            ],
        ),
        (  # neither infinite nor NaN, and no metric whose direction is unknown
            {
                "command/a": ("--n=1", {"acc": 0.9, "loss": math.inf, "value": 1.5}),
                "command/b": ("--n=2", {"acc": math.inf, "loss": 0.2, "value": 2.5}),
                "command/c": ("--n=3", {"acc": math.nan, "loss": -math.inf, "value": 3.5}),
            },
            "SELECT metric, model, value FROM best",
            [("acc", "command/a", 0.9), ("loss", "command/b", 0.2)],
        ),
        (
            SWEEP,
            "SELECT jobs.name, jobs.state FROM results JOIN jobs ON jobs.id = test WHERE acc > 0.8",
            [("command/c", "done")],
        ),
        (
            {"command/a": ("--n=1", {"AUC": 0.9}), "command/b": ("--n=2", {"auc": 0.8})},
            'SELECT name, "AUC", auc_2 FROM results ORDER BY name',
            [("command/a", 0.9, None), ("command/b", None, 0.8)],
        ),
        (
            {"command/a": ("--n=1", {"AUC": 0.9, "auc": 0.8, "Auc": 0.7})},
            'SELECT "AUC", auc_2, "Auc_3" FROM results',
            [(0.9, 0.8, 0.7)],
        ),
        (
            {"command/a": ("--n=1", {"run": 3, "seed": 4, "job": 5, "maker": 6, "pooled": 1})},
            "SELECT run, run_, seed, job_, maker_, pooled, pooled_ FROM results",
            [("test", 3, 4, 5, 6, 0, 1)],
        ),
    ],
)
def test_programs_are_rows_of_the_results_table(
    path: Path,
    home: Home,
    store: Store,
    told: dict[str, tuple[str, dict[str, Json]]],
    sql: str,
    rows: list[tuple[object, ...]],
) -> None:
    for name, (words, result) in told.items():
        with_done_attempt(store, name, result, argv=("x", *words.split()))
    write(path, home, store)
    assert select(path, sql) == rows
    assert write(path, home, store) == 0


def test_texts_in_the_place_of_numbers_have_a_column_of_their_own(
    path: Path, home: Home, store: Store
) -> None:
    values: list[Json] = ["n/a", 9.5, 100.0]
    for number, value in enumerate(values):
        with_done_attempt(store, f"function/f#{number}", {"acc": value}, kind="function")
    with_done_attempt(
        store, "function/g", {"acc": "0.5", "word": "a"}, run="texts", kind="function"
    )
    with_done_attempt(store, "function/h", {"word": 9.5}, run="numbers", kind="function")
    for run in ("test", "texts", "numbers"):
        write(path, home, store, run)
    assert select(path, "SELECT max(acc), avg(acc) FROM results") == [(100.0, 54.75)]
    assert select(path, "SELECT acc_text FROM results WHERE acc_text IS NOT NULL") == [
        ("n/a",),
        ("0.5",),
    ]
    assert select(path, "SELECT typeof(word) FROM results WHERE run = 'numbers'") == [("real",)]
    assert select(path, "SELECT value FROM best WHERE metric = 'acc'") == [(100.0,)]


def test_scores_that_are_no_longer_reported_are_deleted(
    path: Path, home: Home, store: Store, scored: Path
) -> None:
    write(path, home, store)
    (before,) = select(path, "SELECT count(*) FROM scores")[0]
    jobs = store.read.jobs_of_runs_named("test")
    store.job_control.delete_jobs(job.id for job in jobs if "ring:pre" in job.name)
    write(path, home, store)
    names = {row for (row,) in select(path, "SELECT row FROM scores")}
    assert len(names) == before - 6
    assert not any(name.endswith("· ring:pre") for name in names)
    # jobs that the queue does not hold any more stay
    assert select(path, "SELECT count(*) FROM jobs WHERE name LIKE '%ring:pre'") == [(6,)]


def test_views_contain_the_newest_job_of_a_name_and_tables_contain_all(
    path: Path, home: Home, store: Store
) -> None:
    for value in (0.9, 0.5):
        done_again(store, home, a_seed(6), value)
    add(store, a_seed(7), FAILED)
    write(path, home, store, "fix")
    assert select(path, "SELECT name, acc FROM results") == [("command/s@seed=6", 0.5)]
    assert select(path, "SELECT model, value FROM best") == [("command/s@seed=6", 0.5)]
    assert select(path, "SELECT name, superseded FROM jobs ORDER BY id") == [
        ("command/s@seed=6@1", 1), ("command/s@seed=6", 0), ("command/s@seed=7", 0),
    ]  # fmt: skip
    assert select(path, "SELECT row, superseded FROM scores ORDER BY id") == [
        ("command/s@seed=6@1", 1), ("command/s@seed=6", 0),
    ]  # fmt: skip
    assert select(path, "SELECT value FROM metrics ORDER BY job") == [(0.9,), (0.5,)]
    assert write(path, home, store, "fix") == 0


def test_names_that_differ_in_case_hide_no_number_of_another_job(
    path: Path, home: Home, store: Store
) -> None:
    """SQL does not distinguish them, so two spellings of a setting are one column, and a result has its own."""
    jobs = [("--LR=1", "--ACC=7"), ("--LR=2", "--ACC=8"), ("--lr=3",), ("--lr=4", "--Condition=c")]
    for number, words in enumerate(jobs):
        argv = ("python", f"{words[0][2]}.py", *words)
        name = f"command/{number}"
        with_done_attempt(store, name, {"acc": number / 10}, argv=argv, run=f"r{number // 2}")
    for run in ("r0", "r1"):
        write(path, home, store, run)
    sql = "SELECT acc, lr, setting_acc, condition FROM results ORDER BY acc"
    assert select(path, sql) == [
        (0.0, 1, 7, None), (0.1, 2, 8, None), (0.2, 3, None, None), (0.3, 4, None, None),
    ]  # fmt: skip
    assert (
        len(select(path, "SELECT name FROM pragma_table_info('results') WHERE name LIKE '%:%'"))
        == 0
    )


def test_waiting_retry_keeps_numbers_and_settings_of_its_done_attempt(
    path: Path, home: Home, store: Store
) -> None:
    done_again(store, home, a_seed(1, lr=0.1), 0.5)
    enqueue(store, a_seed(1, lr=0.2), run="fix")
    write(path, home, store, "fix")
    assert select(path, "SELECT state, superseded FROM jobs") == [("queued", 0)]
    assert select(path, "SELECT value FROM settings WHERE name = 'lr'") == [(0.1,)]
    assert select(path, "SELECT acc FROM results") == [(0.5,)]


def test_missing_column_is_added_to_an_older_file(path: Path, home: Home, store: Store) -> None:
    done_again(store, home, a_seed(6), 0.5)
    write(path, home, store, "fix")
    connection = sqlite3.connect(path)
    for view in ("results", "best", "failures"):
        connection.execute(f"DROP VIEW {view}")
    for table in ("jobs", "scores"):
        connection.execute(f"ALTER TABLE {table} DROP COLUMN superseded")
    connection.commit()
    connection.close()
    done_again(store, home, a_seed(6), 0.6)
    write(path, home, store, "fix")
    assert select(path, "SELECT acc FROM results") == [(0.6,)]


# --- the database of all runs, which a query updates


def filled_tables(path: Path) -> set[str]:
    return {name for name in TABLES if select(path, f"SELECT count(*) FROM {name}") != [(0,)]}


QUEUE = {"homes", "runs"}
COMPLETE = QUEUE | {"jobs", "attempts", "settings", "metrics", "scores", "errors"}


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT 1", QUEUE),
        ("SELECT name, jobs FROM runs", QUEUE),
        ("DELETE FROM scores", QUEUE),
        ("SELECT count(*) FROM jobs", QUEUE | {"jobs"}),
        ("SELECT * FROM Attempts JOIN jobs ON job = id", QUEUE | {"jobs", "attempts"}),
        ("SELECT max(value) FROM settings", QUEUE | {"jobs", "settings"}),
        ("SELECT log FROM errors", QUEUE | {"jobs", "errors"}),
        ("SELECT * FROM metrics", COMPLETE),
        ("WITH jobs AS (SELECT * FROM scores) SELECT count(*) FROM jobs", COMPLETE),
        ("SELECT * FROM best", COMPLETE),
        ("SELECT auc FROM scores", COMPLETE),
        ("PRAGMA table_info(scores)", COMPLETE),
        ("SELECT count(*) FROM sqlite_master", COMPLETE),
        ("SELECT rowid FROM errors_fts", COMPLETE),
    ],
)
def test_query_updates_only_the_tables_that_it_reads(
    home: Home, store: Store, sql: str, tables: set[str]
) -> None:
    with_done_attempt(store, "command/a", {"auc": 0.5}, argv=("x", "--lr=0.1"))
    with_outcome(store, Failed(at=2.0, error="no"), "command/b")
    path, _ = update(home, store, sql, print)
    assert filled_tables(path) == tables
    update(home, store, "SELECT * FROM results", print)
    assert filled_tables(path) == COMPLETE
    update(home, store, sql, print)
    assert select(path, "SELECT auc FROM results") == [(0.5,)]


def test_query_without_numbers_reads_jobs_only_of_changed_runs(home: Home, store: Store) -> None:
    for run in ("old", "new"):
        with_done_attempt(store, "command/a", {"auc": 0.5}, run=run)
    sql = "SELECT name FROM jobs"
    update(home, store, sql, print)
    job = with_done_attempt(store, "command/b", {"auc": 0.6}, run="new")
    statements: list[str] = []
    store.database.set_trace_callback(statements.append)
    path, _ = update(home, store, sql, print)
    read = [each for each in statements if each.startswith("SELECT jobs.*")]
    assert len(read) == 1
    assert (job,) in select(path, "SELECT number FROM jobs")


JOBS, NUMBERS = "SELECT count(*) FROM jobs", "SELECT name, value FROM metrics ORDER BY name, value"
SCORE = "SELECT auc FROM scores"


def done_once_more(store: Store, job: int, result: dict[str, Json], at: float = 4.0) -> None:
    store.job_control.retry([job], at - 1.0)
    finished(store, job, Done(at=at, result=result))


def marks(path: Path) -> list[str]:
    """Return the tables that are up to date for each run; an empty text means all."""
    return [mark.partition(" only ")[2] for (mark,) in select(path, "SELECT mark FROM runs")]


def asked(home: Home, store: Store, sql: str) -> list[tuple[Any, ...]]:
    return query_all_runs(home, store, sql, limit_s=DEADLINE_S, print_line=print)[1]


@pytest.mark.parametrize("between", [(), (JOBS,), ("SELECT 1", JOBS, "SELECT * FROM errors")])
def test_tables_that_a_query_does_not_read_keep_their_rows_until_one_reads_them(
    home: Home, store: Store, between: tuple[str, ...]
) -> None:
    job = with_done_attempt(store, "command/a", {"auc": 1.0, "first": 1.0}, argv=("x", "--lr=1"))
    with_done_attempt(store, "command/b", {"auc": 3.0})
    update(home, store, NUMBERS, print)
    done_once_more(store, job, {"auc": 2.0})
    path, _ = update(home, store, JOBS, print)
    assert marks(path) == ["homes jobs runs"]
    assert select(path, "SELECT attempts FROM jobs ORDER BY id") == [(2,), (1,)]
    assert select(path, NUMBERS) == [("auc", 1.0), ("auc", 3.0), ("first", 1.0)]
    assert select(path, f"{SCORE} ORDER BY row") == [(1.0,), (3.0,)]
    assert select(path, "SELECT name, value FROM settings") == [("lr", 1)]
    for sql in between:
        update(home, store, sql, print)
    assert asked(home, store, NUMBERS) == [("auc", 2.0), ("auc", 3.0)]
    assert asked(home, store, f"{SCORE} ORDER BY row") == [(2.0,), (3.0,)]
    assert marks(path) == [""]


def test_outdated_numbers_and_settings_are_deleted_when_their_table_is_written(
    home: Home, store: Store
) -> None:
    job = with_done_attempt(store, "command/a", {"old": 1}, argv=("x", "--lr=1"))
    path, _ = update(home, store, NUMBERS, print)
    enqueue(store, a_spec(name="command/a", argv=("x", "--depth=1")), run="test")
    finished(store, job, Failed(at=4.0, error="no"))
    update(home, store, JOBS, print)
    assert select(path, "SELECT name FROM settings") == [("lr",)]
    update(home, store, "SELECT * FROM settings", print)
    assert select(path, "SELECT name FROM settings") == [("depth",)]
    assert select(path, NUMBERS) == [("old", 1.0)]
    assert marks(path) == ["homes jobs runs settings"]
    assert asked(home, store, NUMBERS) == []


def test_query_of_a_run_with_open_jobs_promises_only_what_it_wrote(
    home: Home, store: Store
) -> None:
    job = with_done_attempt(store, "command/a", {"auc": 1.0})
    with_done_attempt(store, "command/b", {"auc": 3.0})
    store.job_control.retry([job], 3.0)
    path, _ = update(home, store, NUMBERS, print)
    update(home, store, JOBS, print)  # a job that is open may have changed in any way
    assert marks(path) == ["homes jobs runs"]
    finished(store, job, Done(at=4.0, result={"auc": 2.0}))
    assert asked(home, store, NUMBERS) == [("auc", 2.0), ("auc", 3.0)]


@pytest.mark.parametrize("times", [1, 2, 5])
def test_query_reads_tables_of_one_moment_if_another_query_updates_others_meanwhile(
    home: Home, store: Store, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    job = with_done_attempt(store, "command/a", {"auc": 1.0})
    opened: list[Path] = []

    @contextmanager
    def open_after_another(path: Path, *, limit_s: float) -> Iterator[sqlite3.Connection]:
        opened.append(path)
        if (number := len(opened)) <= times:
            done_once_more(store, job, {"auc": 1.0 + number}, at=10.0 * number)
            update(home, store, JOBS, print)
        with open_for_reading(path, limit_s=limit_s) as connection:
            yield connection

    monkeypatch.setattr(write_module, "open_for_reading", open_after_another)
    sql = "SELECT attempts, value FROM metrics JOIN jobs ON jobs.id = job"
    newest = (1 + times, 1.0 + times)
    # after the third update, the numbers are those of that moment: a query does not wait forever
    assert asked(home, store, sql) == [newest if times < 3 else (4, 3.0)]
    assert len(opened) == min(times + 1, 3)


def test_query_is_answered_if_a_run_cannot_be_updated(home: Home, store: Store) -> None:
    with_done_attempt(store, "command/a", {"auc": 1.0})
    path, _ = update(home, store, JOBS, print)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(
        "CREATE TRIGGER no_more BEFORE INSERT ON metrics BEGIN SELECT RAISE(ABORT, 'disk full'); END"
    )
    connection.close()
    notes: list[str] = []
    answer = query_all_runs(home, store, NUMBERS, limit_s=DEADLINE_S, print_line=notes.append)
    assert answer == (("name", "value"), [])
    (note,) = notes
    assert note.startswith("the results may be outdated")
    assert note.endswith("disk full")
