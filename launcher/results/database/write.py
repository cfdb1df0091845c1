"""Runs into a database of results, in place: what is there already is not written again."""

import shlex
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.errors import MachineError
from launcher.kind_interface import Kind
from launcher.kinds import find_kinds
from launcher.results.database.failed_logs import error_rows
from launcher.results.database.file import writing
from launcher.results.database.job_rows import (
    ATTEMPTS,
    JOBS,
    METRICS,
    SETTINGS,
    attempt_cells,
    job_cells,
    metric_rows,
    setting_rows,
)
from launcher.results.database.schema import SCHEMA, TABLES, add_columns, make_tables
from launcher.results.database.score_rows import epoch_rows, maker_rows, score_rows
from launcher.results.database.upsert import quoted, types_of, upsert
from launcher.results.database.views import make_views
from launcher.results.models import Models
from launcher.results.returned import results_by_job
from launcher.results.rows import results_of
from launcher.screens.format import iso
from launcher.states import OPEN, State
from launcher.store.news import attempts_of_jobs
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.files import read_json
from launcher.system.paths import Home

if TYPE_CHECKING:
    from sqlite_utils import Database

INSTALL = "pip install 'launcher-trueface[data]'"


def write_run(path: Path, home: Home, store: Store, jobs: Sequence[JobRow]) -> int:
    """Bring one run in a file up to date, and return how many rows were new or changed.

    Readers see all of it or nothing.
    Jobs that were cleaned from the queue since stay in the file; scores and epochs become those
    of now.

    Args:
        path: of the file, made where there is none.
        home: whose run.
        store: its queue.
        jobs: of the run, all of them.

    Raises:
        UsageError: the file is no database of results.
        MachineError: it cannot be written, or packages are not installed that it or a laboratory needs.
    """
    wrap = _sqlite_utils()
    kinds = find_kinds(sorted({job.kind for job in jobs})).kinds
    models = Models([job.plain_spec for job in jobs], kinds)
    results = results_of(jobs, models)  # before the file is locked: it may take minutes
    with writing(path) as connection:
        database = wrap(connection, execute_plugins=False)
        make_tables(database)
        run = _run_row(connection, home, jobs)
        numbers = _job_numbers(connection, run, jobs)
        count = _write_jobs(connection, home, store, jobs, kinds, models, run, numbers)
        makers = maker_rows(models, jobs, numbers)
        scores = score_rows(results, jobs, numbers, kinds, makers)
        count += _mirror(database, connection, "scores", run, scores)
        epochs = epoch_rows(jobs, kinds, makers)
        count += _mirror(database, connection, "epochs", run, epochs)
        make_views(database, list(kinds.values()))
    return count


def _sqlite_utils() -> "type[Database]":
    """Import the library, which takes a part of a second.

    Raises:
        MachineError: it is not installed.
    """
    try:
        from sqlite_utils import Database
    except ImportError as error:
        raise MachineError(f"a database of results needs sqlite-utils; {INSTALL}") from error
    return Database


def _write_jobs(
    connection: sqlite3.Connection,
    home: Home,
    store: Store,
    jobs: Sequence[JobRow],
    kinds: Mapping[str, Kind],
    models: Models,
    run: int,
    numbers: Mapping[int, int],
) -> int:
    """Write jobs with their attempts, settings, numbers and errors; return how many rows changed."""
    _forget_changed(connection, run, jobs, numbers)
    attempts = attempts_of_jobs(store.database.execute, numbers)
    newest = {attempt["job"]: attempt for attempt in attempts}
    count = upsert(
        connection,
        "jobs",
        JOBS,
        (job_cells(job, run, numbers[job.id], models, newest.get(job.id)) for job in jobs),
    )
    count += upsert(
        connection,
        "attempts",
        ATTEMPTS,
        (attempt_cells(attempt, numbers[attempt["job"]]) for attempt in attempts),
    )
    count += upsert(connection, "settings", SETTINGS, setting_rows(jobs, numbers, kinds))
    returned = results_by_job(home, store, jobs)
    count += upsert(connection, "metrics", METRICS, metric_rows(jobs, returned, numbers, kinds))
    known = set(connection.execute("SELECT job, attempt FROM errors"))
    errors = error_rows(home, attempts, numbers, known)
    return count + upsert(connection, "errors", ("job", "attempt", "error", "log"), errors)


def _forget_changed(
    connection: sqlite3.Connection, run: int, jobs: Sequence[JobRow], numbers: Mapping[int, int]
) -> None:
    """Delete settings and numbers of jobs that were changed, ran again, or are to: they may have others now."""
    written = connection.execute(
        "SELECT id, hash, attempts, command, state FROM jobs WHERE run = ?", (run,)
    )
    before = {row: (*cells, state == State.DONE) for row, *cells, state in written}
    versions = {numbers[job.id]: _version(job) for job in jobs}
    changed = [(row,) for row, now in versions.items() if before.get(row, now) != now]
    for table in ("settings", "metrics"):
        connection.executemany(f"DELETE FROM {table} WHERE job = ?", changed)


def _version(job: JobRow) -> tuple[str, int, str, bool]:
    """Return what is another when a job may have other settings or numbers than before."""
    return job.hash, job.attempts, shlex.join(job.plain_spec.argv), job.state is State.DONE


def _run_row(connection: sqlite3.Connection, home: Home, jobs: Sequence[JobRow]) -> int:
    """Write the row of a run and that of its home, and return the run's number."""
    owner = read_json(home.record) or {}
    where = (str(owner.get("machine", "")), str(home.folder), str(owner.get("host", "")))
    upsert(connection, "homes", ("machine", "folder", "host"), [where])
    (row,) = connection.execute(
        "SELECT id FROM homes WHERE machine = ? AND folder = ?", where[:2]
    ).fetchone()
    named = (row, jobs[0].root, jobs[0].run)
    states = [job.state for job in jobs]
    ended = [job.ended for job in jobs if job.ended is not None]
    columns = ("home", "root", "name", "jobs", "open", *_STATES, "submitted", "ended", "mark")
    cells = (
        *named,
        len(jobs),
        sum(state in OPEN for state in states),
        *(states.count(State(name)) for name in _STATES),
        iso(min(job.submitted for job in jobs)),
        iso(max(ended)) if ended else None,
        mark_of(jobs),
    )
    upsert(connection, "runs", columns, [cells])
    (run,) = connection.execute(
        "SELECT id FROM runs WHERE home = ? AND root = ? AND name = ?", named
    ).fetchone()
    return int(run)


_STATES = ("done", "failed", "cancelled", "skipped")


def mark_of(jobs: Sequence[JobRow]) -> str:
    """Return what changes when the queue knows something new of ended jobs of a run."""
    newest = max(job.ended or job.submitted for job in jobs)
    tried = sum(job.attempts for job in jobs)
    return f"{SCHEMA} {len(jobs)} {max(job.id for job in jobs)} {tried} {newest!r}"


def _job_numbers(
    connection: sqlite3.Connection, run: int, jobs: Sequence[JobRow]
) -> dict[int, int]:
    """Return number of a job → its row, that number itself where no other run has taken it."""
    numbers: dict[int, int] = dict(
        connection.execute("SELECT number, id FROM jobs WHERE run = ?", (run,))
    )
    if len(numbers.keys() & {job.id for job in jobs}) < len(jobs):
        taken = {row for (row,) in connection.execute("SELECT id FROM jobs")}
        free = max(taken, default=0)
        free = max(free, *(job.id for job in jobs))
        for job in jobs:
            if job.id in numbers:
                continue
            if job.id in taken:
                free += 1
            numbers[job.id] = free if job.id in taken else job.id
    return {job.id: numbers[job.id] for job in jobs}


def _mirror(
    database: "Database",
    connection: sqlite3.Connection,
    name: str,
    run: int,
    records: Iterable[Mapping[str, Any]],
) -> int:
    """Make a run's rows of a table those given; return how many changed."""
    rows = [{"run": run, **_without_clashes(row)} for row in records]
    types = types_of(rows)
    add_columns(database, name, types)
    key = TABLES[name].key
    there = set(
        connection.execute(
            f"SELECT {','.join(map(quoted, key))} FROM {quoted(name)} WHERE run = ?", (run,)
        )
    )
    gone = there - {tuple(row.get(column) for column in key) for row in rows}
    condition = " AND ".join(f"{quoted(column)} = ?" for column in key)
    connection.executemany(f"DELETE FROM {quoted(name)} WHERE {condition}", gone)
    return len(gone) + upsert(connection, name, list(types), _cells(rows, list(types)))


def _cells(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Iterable[list[Any]]:
    return ([row.get(column) for column in columns] for row in rows)


def _without_clashes(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a row whose columns differ in more than letter case, as SQLite has them."""
    if len({name.casefold() for name in row}) == len(row):
        return row
    names: dict[str, int] = {}
    cells = {}
    for name, value in row.items():
        names[name.casefold()] = times = names.get(name.casefold(), 0) + 1
        cells[name if times == 1 else f"{name}_{times}"] = value
    return cells
