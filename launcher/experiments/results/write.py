"""Writes runs into a database of results in place: existing rows are not written again.

A run has rows for its jobs, attempts, settings and numbers, and for the scores and epochs of its plugin packages. The
row of a failed attempt contains the error and the end of the log. The database of all runs is in the queue folder. It
is updated before each query, as far as the query reads it. The mark of a run names the tables that agree with its jobs;
the others keep their older rows until a query reads them.
"""

import shlex
import sqlite3
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from launcher.experiments.kind_interface import Kind
from launcher.experiments.results.database import ResultsUnavailable, connect, open_for_writing
from launcher.experiments.results.database_questions import (
    Answer,
    answer_query,
    open_for_reading,
    tables_of_query,
)
from launcher.experiments.results.database_rows import (
    attempt_cells,
    epoch_rows,
    error_rows,
    job_cells,
    program_rows,
    score_rows,
    setting_rows,
)
from launcher.experiments.results.database_tables import (
    EXACT,
    SCHEMA,
    TABLES,
    create_tables,
    quote_name,
    upsert,
)
from launcher.experiments.results.database_views import create_views
from launcher.experiments.results.model_columns import ModelIndex
from launcher.experiments.results.result_jobs import result_jobs
from launcher.experiments.results.returned_rows import ReturnedValues, read_returned_values
from launcher.experiments.results.rows import RowJobIndex, kinds_of, results_of
from launcher.experiments.results.table import RunResults, replace_surrogates
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import FUNCTION, PROGRAM
from launcher.queue.jobs.states import State
from launcher.queue.store.job_names import newest_by_superseded
from launcher.queue.store.job_queries import RunTotals
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.texts import iso_time, iso_time_or_none
from launcher.system.errors import Error, MachineError
from launcher.system.files import read_json
from launcher.system.installation import install_command
from launcher.system.secret_arguments import hide_secrets

_CONTENT = (
    2  # increased if the same jobs get other rows; 2: trials that are not complete are marked
)
NAME = "results.sqlite"  # in the queue folder: the database of all its runs
_EVERY = frozenset(TABLES)
# tables that are written without the numbers of jobs, which are read from thousands of logs
_WITHOUT_NUMBERS = _EVERY - {"metrics", "scores", "epochs"}
_WITHOUT_JOBS = frozenset({"homes", "runs"})
_OF_RESULTS = frozenset({"settings", "metrics"})  # an earlier result of a job may have other names
_UPDATES = 3  # before a query, if other queries update other tables meanwhile

# store and number of a run → job → its value in the column of trials that are not complete
TrialMarks = Callable[[Store, int], Mapping[int, str]]

if TYPE_CHECKING:
    from sqlite_utils import Database


def no_marks(store: Store, run: int) -> Mapping[int, str]:
    """Return no marks, as for runs without searches."""
    del store, run
    return {}


def write_run(
    path: Path,
    home: Home,
    store: Store,
    run_id: int,
    tables: Collection[str] = _EVERY,
    trial_marks: TrialMarks = no_marks,
) -> int:
    """Update one run in a file and return how many rows were new or changed.

    Readers see all changes or none. Jobs deleted from the queue by `clean` remain in the file; scores and epochs are
    replaced by the current ones.

    Args:
        path: Path of the file, created if it is missing.
        home: Queue folder.
        store: Queue.
        run_id: Number of the run in the queue.
        tables: All tables, or some of those that contain no numbers of jobs, with the tables to which they refer.
        trial_marks: Reads the marks of the trials of a run.

    Raises:
        UsageError: the file is not a database of results.
        MachineError: the file cannot be written, or a required package is not installed.
    """
    wrap = _sqlite_utils()
    with store.database.reading():
        totals = store.read.run_totals(run_id)
        jobs = [] if _WITHOUT_JOBS.issuperset(tables) else store.read.jobs_of_run(run_id)
    if not totals:  # another process deleted the jobs of the run meanwhile
        return 0
    kinds = kinds_of(jobs)
    superseded = newest_by_superseded(store.database.execute, jobs)
    every = counted = [each.job for each in result_jobs(home, store, jobs, all_jobs=True)]
    if superseded:  # otherwise each name has one job
        counted = [each.job for each in result_jobs(home, store, jobs)]
    models = ModelIndex([job.spec_without_sources for job in counted], kinds)
    results, returned = RunResults(rows=(), columns=()), list[ReturnedValues]()
    marks: Mapping[int, str] = {}
    if _EVERY.issubset(tables):  # before locking the file, as reading may take minutes
        results = results_of(counted, models)
        returned = read_returned_values(home, store, every, kinds)
        marks = trial_marks(store, run_id)
    with open_for_writing(path) as connection:
        database = wrap(connection, execute_plugins=False)
        create_tables(database)
        run, agreeing = _run_row(connection, home, totals[0], tables)
        if not jobs:
            return 0
        numbers = _job_numbers(connection, run, jobs)
        writer = _RunWriter(connection, home, store, run, numbers)
        changed = writer.write(jobs, every, kinds, models, returned, superseded, tables, agreeing)
        if not _EVERY.issubset(tables):
            return changed
        of_rows = RowJobIndex(counted, kinds, models)
        of_models = score_rows(results, of_rows, numbers)
        those = {job.id for job in counted}
        scores = (*of_models, *program_rows(returned, kinds, numbers, those, marks))
        changed += _replace_rows(database, "scores", run, scores)
        makers = {model: numbers[job] for model, job in of_rows.makers.items()}
        epochs = epoch_rows(jobs, kinds, makers)
        changed += _replace_rows(database, "epochs", run, epochs)
        create_views(database)
    return changed


def _sqlite_utils() -> "type[Database]":
    """Import the library at its first use, because the import is slow.

    Raises:
        MachineError: the library is not installed.
    """
    try:
        with _without_pandas():
            from sqlite_utils import Database
    except ImportError as error:
        raise MachineError(
            f"a database of results needs sqlite-utils. Install it: {install_command('data')}"
        ) from error
    return Database


@contextmanager
def _without_pandas() -> Iterator[None]:
    """Let sqlite-utils not import pandas, of which it only wants to know the types: this takes 0.4 s or more."""
    if "pandas" in sys.modules:
        yield
        return
    sys.modules["pandas"] = None  # type: ignore[assignment]  # refuses the import
    try:
        yield
    finally:
        del sys.modules["pandas"]


class _RunWriter(NamedTuple):
    """Writes the jobs of a run."""

    connection: sqlite3.Connection
    home: Home
    store: Store
    run: int  # ID of its row
    numbers: Mapping[int, int]  # job number → ID of its row

    def write(
        self,
        jobs: Sequence[JobRow],
        with_results: Iterable[JobRow],
        kinds: Mapping[str, Kind],
        models: ModelIndex,
        returned_values: Iterable[ReturnedValues],
        superseded_jobs: Collection[int],
        tables: Collection[str],
        agreeing_tables: Collection[str],
    ) -> int:
        """Write jobs with their attempts, settings, numbers and errors; return how many rows changed.

        Args:
            jobs: Current jobs of the run.
            with_results: The same jobs with the settings of their last done attempt, to which their numbers belong.
            kinds: Installed kinds of the jobs, by name.
            models: Models of the run.
            returned_values: Returned values of the jobs.
            superseded_jobs: Jobs that a newer job of the same name has superseded.
            tables: Tables to write.
            agreeing_tables: Tables that agree with the stored jobs.
        """
        numbers, store = self.numbers, self.store
        outdated = _changed_jobs(self.connection, self.run, jobs, numbers)
        attempts = store.read.attempts(numbers)
        newest = {attempt.job: attempt for attempt in attempts}
        known = set(self.connection.execute("SELECT job, attempt FROM errors"))
        settled = {job.id: job for job in with_results}
        rows: dict[str, Iterable[Sequence[Any]]] = {
            "jobs": (
                job_cells(
                    job,
                    self.run,
                    numbers[job.id],
                    models,
                    newest.get(job.id),
                    is_superseded=job.id in superseded_jobs,
                )
                for job in jobs
            ),
            "attempts": (attempt_cells(attempt, numbers[attempt.job]) for attempt in attempts),
            "settings": setting_rows([settled.get(job.id, job) for job in jobs], numbers, kinds),
            "metrics": (
                (numbers[job.id], name, metric.value, metric.low, metric.high)
                for job, told, *_ in returned_values
                for name, metric in told.metrics.items()
            ),
            "errors": error_rows(self.home, attempts, numbers, known),
        }
        changed = 0
        for name in (name for name in rows if name in tables):
            listed = [*rows[name]]
            if name in _OF_RESULTS:
                of = outdated if name in agreeing_tables else {*numbers.values()}
                _delete_others(self.connection, name, self.run, of, listed)
            changed += upsert(self.connection, name, listed)
        return changed


def _changed_jobs(
    connection: sqlite3.Connection, run: int, jobs: Sequence[JobRow], numbers: Mapping[int, int]
) -> set[int]:
    """Return the rows of jobs that were changed, ran again or will run again since they were written."""
    written = connection.execute(
        "SELECT id, hash, attempts, command, state FROM jobs WHERE run = ?", (run,)
    )
    before = {row: (*cells, state == State.DONE) for row, *cells, state in written}
    versions = {
        row: (
            job.hash, job.attempts, shlex.join(hide_secrets(job.spec_without_sources.argv)), job.state is State.DONE
        )
        for job in jobs
        if (row := numbers[job.id]) in before
    }  # fmt: skip
    return {row for row, now in versions.items() if before[row] != now}


def _delete_others(
    connection: sqlite3.Connection,
    name: str,
    run: int,
    jobs: Collection[int],
    rows: Iterable[Sequence[Any]],
) -> None:
    """Delete the settings or numbers that outdated jobs do not have any more.

    Args:
        connection: Connection inside a transaction.
        name: Name of the table.
        run: ID of the run's row.
        jobs: Rows of jobs whose settings or numbers may differ from the stored ones.
        rows: Current rows of the table for all jobs of the run, beginning with job and name.
    """
    if not jobs:
        return
    there = connection.execute(
        f"SELECT job, name FROM {name} WHERE job IN (SELECT id FROM jobs WHERE run = ?)", (run,)
    )
    stored = {(job, key) for job, key in there if job in jobs}
    gone = stored - {(row[0], row[1]) for row in rows}
    connection.executemany(f"DELETE FROM {name} WHERE job = ? AND name = ?", gone)


def _run_row(
    connection: sqlite3.Connection, home: Home, totals: RunTotals, tables: Collection[str]
) -> tuple[int, frozenset[str]]:
    """Write the rows of a run and its queue folder.

    Return the ID of the run's row, and the tables that agree with the stored jobs of the run. If the run has ended and
    is unchanged since, these tables remain up to date.
    """
    owner = read_json(home.record) or {}
    where = (str(owner.get("machine", "")), str(home.folder), str(owner.get("host", "")))
    upsert(connection, "homes", [where])
    (row,) = connection.execute(
        "SELECT id FROM homes WHERE machine = ? AND folder = ?", where[:2]
    ).fetchone()
    named = (row, totals.name, totals.root)
    find = "FROM runs WHERE home = ? AND name = ? AND root = ?"
    before = connection.execute(f"SELECT mark, open {find}", named).fetchone()
    mark, were_open = before or (None, 0)
    fingerprint, agreeing = _read_mark(mark)
    same = not were_open and not totals.open and fingerprint == run_fingerprint(totals)
    current = agreeing.union(tables) if same else tables
    cells = (
        *named,
        totals.jobs,
        totals.open,
        *(totals.done, totals.failed, totals.cancelled, totals.skipped),
        iso_time(totals.submitted),
        iso_time_or_none(totals.ended),
        run_fingerprint(totals, current),
    )
    upsert(connection, "runs", [cells])
    (run,) = connection.execute(f"SELECT id {find}", named).fetchone()
    return int(run), agreeing


def run_fingerprint(totals: RunTotals, tables: Collection[str] = _EVERY) -> str:
    """Return a fingerprint that changes if the queue has new data about ended jobs of a run.

    Args:
        totals: The jobs of the run in the queue, in numbers.
        tables: The tables that are up to date.
    """
    only = "" if _EVERY.issubset(tables) else f" only {' '.join(sorted(tables))}"
    numbers = totals.jobs, totals.last_job, totals.attempts, totals.newest
    return f"{SCHEMA}.{_CONTENT} {' '.join(map(repr, numbers))}{only}"


def _is_current(mark: str | None, totals: RunTotals, tables: Collection[str]) -> bool:
    """Whether a stored fingerprint says that tables of a run are up to date."""
    fingerprint, agreeing = _read_mark(mark)
    return fingerprint == run_fingerprint(totals) and agreeing.issuperset(tables)


def _read_mark(mark: str | None) -> tuple[str, frozenset[str]]:
    """Return the fingerprint of a run in a mark, and the tables that were up to date with that fingerprint."""
    if not mark:
        return "", frozenset()
    fingerprint, _, only = mark.partition(" only ")
    return fingerprint, frozenset(only.split()) if only else _EVERY


def _job_numbers(
    connection: sqlite3.Connection, run: int, jobs: Sequence[JobRow]
) -> dict[int, int]:
    """Return job number → ID of its row, which is the job number if no other run uses it."""
    numbers: dict[int, int] = dict(
        connection.execute("SELECT number, id FROM jobs WHERE run = ?", (run,))
    )
    if new := [job.id for job in jobs if job.id not in numbers]:
        taken = {row for (row,) in connection.execute("SELECT id FROM jobs")}
        free = count(1 + max({*taken, *(job.id for job in jobs)}))
        numbers |= {job: next(free) if job in taken else job for job in new}
    return {job.id: numbers[job.id] for job in jobs}


def _replace_rows(
    database: "Database", name: str, run: int, records: Iterable[Mapping[str, Any]]
) -> int:
    """Replace a run's rows of a table; return how many changed."""
    table = database.table(name)
    settings = _setting_names(database)
    kept = {*TABLES[name].columns, *settings}
    given = [{"run": run, **record} for record in records]
    numeric = {column for column, type_ in table.columns_dict.items() if type_ in {int, float}}
    numeric |= {key for row in given for key, cell in row.items() if isinstance(cell, int | float)}
    given = [*_separate_texts(given, numeric - kept)]
    names = dict.fromkeys(key for row in given for key in row)
    named = _columns_of(names, table.columns_dict, TABLES[name].columns, settings)
    rows = [{named[key]: cell for key, cell in row.items()} for row in given]
    # a column of numbers would convert the text 007, and one of texts the numbers of another run
    texts = {column for row in rows for column, cell in row.items() if isinstance(cell, str)}
    for given_name, column in named.items():
        if (given_name in settings or column in texts) and column not in table.columns_dict:
            table.add_column(column, EXACT)
    table.add_missing_columns(rows)
    columns = [*named.values()]
    connection, key = database.conn, TABLES[name].key
    there = set(
        connection.execute(
            f"SELECT {','.join(map(quote_name, key))} FROM {quote_name(name)} WHERE run = ?", (run,)
        )
    )
    gone = there - {tuple(row.get(column) for column in key) for row in rows}
    condition = " AND ".join(f"{quote_name(column)} = ?" for column in key)
    connection.executemany(f"DELETE FROM {quote_name(name)} WHERE {condition}", gone)
    cells = ([row.get(column) for column in columns] for row in rows)
    return len(gone) + upsert(connection, name, cells, columns)


def _separate_texts(
    records: Iterable[Mapping[str, Any]], number_names: Collection[str]
) -> Iterator[dict[str, Any]]:
    """Yield rows in which texts in the place of numbers, as functions return them, have a column of their own.

    SQL counts a text as 0 in a mean, and as larger than each number.
    """
    for record in records:
        yield {
            f"{name}_text" if name in number_names and isinstance(cell, str) else name: cell
            for name, cell in record.items()
        }


def _setting_names(database: "Database") -> set[str]:
    """Return the names of settings of which no result has the same name."""
    programs = f"SELECT id FROM jobs WHERE kind IN ('{PROGRAM}', '{FUNCTION}')"
    query = f"SELECT DISTINCT name FROM settings WHERE swept = 1 OR job IN ({programs})"
    settings = {name for (name,) in database.execute(query)}
    return settings - {name for (name,) in database.execute("SELECT DISTINCT name FROM metrics")}


def _columns_of(
    names: Collection[str],
    existing_columns: Iterable[str],
    own_columns: Collection[str],
    settings: Collection[str],
) -> dict[str, str]:
    """Return name → column. SQLite ignores letter case, so Acc of one run and acc of another are one column.

    If the rows have both, the second one gets a number. A setting ACC of rows with a result acc gets the prefix "setting_".

    Args:
        names: Names of the values in rows.
        existing_columns: Existing columns of the table.
        own_columns: Columns that each such table has. Another name never means one of them.
        settings: Names of settings.
    """
    known = {column.casefold(): column for column in existing_columns}
    results = {name.casefold() for name in names if name not in settings}
    columns: dict[str, str] = {}
    taken: set[str] = set(own_columns)
    # a name that is a column keeps it
    for name in sorted(names, key=lambda name: known.get(name.casefold()) != name):
        plain = replace_surrogates(name)
        if name in settings and name.casefold() in results:
            plain = f"setting_{plain}"
        column, number = known.setdefault(plain.casefold(), plain), 1
        while column in taken and column != name:
            number += 1
            free = f"{plain}_{number}"
            column = known.setdefault(free.casefold(), free)
        columns[name] = column
        taken.add(column)
    return {name: columns[name] for name in names}


def query_all_runs(
    home: Home,
    store: Store,
    sql: str,
    *,
    limit_s: float,
    print_line: Callable[[str], None],
    trial_marks: TrialMarks = no_marks,
) -> Answer:
    """Return the result of a query on the database of all runs of a queue, which is updated first.

    If another query updates only other tables before this one reads, the database is updated again.

    Args:
        home: Queue folder.
        store: Queue.
        sql: One statement that reads.
        limit_s: Seconds after which it is interrupted.
        print_line: Prints a message about omitted runs.
        trial_marks: Reads the marks of the trials of a run.

    Raises:
        UsageError: the statement writes, is invalid, takes too long or returns too much.
        MachineError: the database cannot be written or read, or a package is not installed.
    """
    for left in reversed(range(_UPDATES)):
        notes: list[str] = []
        path, updated = update(home, store, sql, notes.append, trial_marks)
        with open_for_reading(path, limit_s=limit_s) as connection:
            if left and not _agree(connection, path, sql, updated):
                continue
            for note in notes:
                print_line(note)
            return answer_query(connection, sql, limit_s=limit_s)
    raise AssertionError("the last update is always followed by the query")


def _agree(
    connection: sqlite3.Connection, path: Path, sql: str, updated_keys: Collection[tuple[str, str]]
) -> bool:
    """Whether the tables that a query reads agree with the jobs of each updated run."""
    if not updated_keys:
        return True
    marks = {mark for run, (mark, _) in _marks(connection).items() if run in updated_keys}
    agreeing = {_read_mark(mark)[1] for mark in marks} - {_EVERY}
    if not agreeing:
        return True
    tables = _tables_to_write(path, sql)
    return all(those.issuperset(tables) for those in agreeing)


def update(
    home: Home,
    store: Store,
    sql: str,
    print_line: Callable[[str], None],
    trial_marks: TrialMarks = no_marks,
) -> tuple[Path, set[tuple[str, str]]]:
    """Update the database of all runs of a queue as far as a query reads it.

    A run that cannot be written, such as one whose plugin package is not installed, remains unchanged. If nothing can
    be written, as on a full disk, new runs are also omitted.

    Args:
        home: Queue folder.
        store: Queue.
        sql: The query.
        print_line: Prints a message about omitted runs.
        trial_marks: Reads the marks of the trials of a run.

    Returns:
        The path of the database, and (root, name) of the runs that are up to date.

    Raises:
        MachineError: the queue folder cannot be written, or a package is not installed.
    """
    path = home.folder / NAME
    known = _stored_fingerprints(path)
    every = [(run, known.get((run.root, run.name))) for run in store.read.run_totals()]
    updated = {(run.root, run.name) for run, _ in every}
    old = [(run, mark) for run, mark in every if not _is_current(mark, run, _EVERY)]
    if not old:
        return path, updated
    tables = _tables_to_write(path, sql)
    left_out: dict[str, list[str]] = {}  # reason → names of runs
    for run, mark in old:
        if _is_current(mark, run, tables):
            continue
        try:
            write_run(path, home, store, run.id, tables, trial_marks)
        except Error as error:
            empty = not path.exists() or path.stat().st_size == 0
            if empty or (not known and isinstance(error.__cause__, ImportError)):
                raise
            if isinstance(error, ResultsUnavailable):
                print_line(f"the results may be outdated: {error}")
                return path, set()
            left_out.setdefault(str(error), []).append(run.name)
            updated.discard((run.root, run.name))
    for reason, names in left_out.items():
        runs = f"run {names[0]}" if len(names) == 1 else f"{len(names)} runs ({', '.join(names)})"
        print_line(f"the results of {runs} were not updated: {reason}")
    return path, updated


def _tables_to_write(path: Path, sql: str) -> frozenset[str]:
    """Return the tables that a query reads and those to which they refer, or all tables."""
    with suppress(sqlite3.Error), closing(_open_for_explaining(path)) as connection:
        read = tables_of_query(connection, sql)
        if read is not None and _WITHOUT_NUMBERS.issuperset(read):
            tables = {"runs", *read}
            for _ in TABLES:  # the longest path of references is shorter
                tables |= {other for name in tables for other in TABLES[name].foreign_keys.values()}
            return frozenset(tables)
    return _EVERY


def _open_for_explaining(path: Path) -> sqlite3.Connection:
    """Open the file, or an empty database with the same tables if there is none."""
    if path.exists() and path.stat().st_size:
        return connect(path, "ro")
    connection = sqlite3.connect(":memory:")
    create_tables(_sqlite_utils()(connection, execute_plugins=False))
    return connection


def _stored_fingerprints(path: Path) -> dict[tuple[str, str], str]:
    """Return (root, name) of an ended run → its mark at the last write."""
    with suppress(sqlite3.Error), closing(connect(path, "ro", 5.0)) as database:
        return {run: mark for run, (mark, is_open) in _marks(database).items() if not is_open}
    return {}


def _marks(connection: sqlite3.Connection) -> dict[tuple[str, str], tuple[str, int]]:
    """Return (root, name) of a run → its mark and the number of its open jobs at the last write."""
    rows = connection.execute("SELECT root, name, mark, open FROM runs")
    return {(root, name): (mark, is_open) for root, name, mark, is_open in rows}
