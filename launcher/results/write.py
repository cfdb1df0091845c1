"""Runs into a database of results, in place: what is there already is not written again.

A run has rows of its jobs, of their attempts (with the error, and the end of the log, of those that failed), settings
and numbers, and of the scores and epochs that its laboratories tell. The database of all runs is kept in the home, and
brought up to date when it is asked.
"""

import shlex
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from launcher.errors import Error, MachineError
from launcher.job import CPU, FUNCTION, PROGRAM
from launcher.kind_interface import HasEpochs, Kind
from launcher.params import scalar
from launcher.results.database import (
    PARTS,
    PLAIN,
    SCHEMA,
    TABLES,
    Unusable,
    connected,
    make_tables,
    make_views,
    plain,
    quoted,
    upsert,
    writing,
)
from launcher.results.result_jobs import result_jobs
from launcher.results.rows import (
    JOB,
    SEED,
    JobsOfRows,
    Models,
    Returned,
    kinds_of,
    laboratory_function,
    results_of,
    returned_by,
    returned_rows,
    settings_of,
    swept,
)
from launcher.results.table import (
    DATA,
    MODEL,
    POOLED,
    Row,
    RunResults,
    in_unicode,
    read_metric,
    with_interval,
)
from launcher.screens.format import first_line, iso, iso_if_known
from launcher.states import OPEN, State
from launcher.store.queue import Store
from launcher.store.rows import AttemptRow, JobRow
from launcher.system.files import last_lines, read_json
from launcher.system.installation import install_command
from launcher.system.paths import Home
from launcher.system.text import without_colours

if TYPE_CHECKING:
    from sqlite_utils import Database


def job_cells(
    job: JobRow,
    run: int,
    number: int,
    models: Models,
    attempt: AttemptRow | None,
    *,
    superseded: bool,
) -> tuple[Any, ...]:
    """Return the cells of a job.

    Args:
        job: as the queue knows it.
        run: the row of its run.
        number: its own row.
        models: of its run.
        attempt: its newest one.
        superseded: a newer job of the run has its name.
    """
    spec = job.plain_spec
    parts = models.columns(spec.model) if spec.model else {}
    seed = parts.get(SEED)
    own = {**parts, SEED: scalar(settings_of(spec).get(SEED)) if seed is None else seed}
    resources = spec.resources
    began, ended = (attempt.claimed, attempt.ended) if attempt else (None, None)
    return (
        number, run, job.id, job.name, job.kind, spec.role, str(job.state), first_line(job.reason),
        str(job.why.code), spec.model, spec.base, spec.data, *(own.get(name) for name in PARTS),
        shlex.join(spec.argv), str(spec.run_folder), job.priority, resources.cpus, resources.ram,
        resources.gpus if resources.may_need_gpu else 0, resources.min_vram, spec.terms.group or None,
        job.attempts, job.failures, iso(job.submitted), iso_if_known(began), iso_if_known(job.ended),
        None if began is None or ended is None else ended - began, job.hash, int(superseded),
    )  # fmt: skip


def attempt_cells(attempt: AttemptRow, job: int) -> tuple[Any, ...]:
    """Return the cells of an attempt of the job of a row."""
    # what a job returned may be long, and is not wanted here
    outcome = {"ending": "done"} if attempt.is_done else attempt.outcome or {}
    done = outcome.get("ending") == "done"
    began, ended = attempt.claimed, attempt.ended
    on_gpu = attempt.device != CPU
    return (
        job, attempt.number, attempt.device, attempt.cpus, iso(began), iso_if_known(ended),
        None if ended is None else ended - began, outcome.get("ending"), attempt.reason_code,
        0 if done else outcome.get("exit_code"), outcome.get("signal"),
        attempt.claim if on_gpu else None, attempt.peak, attempt.pilot,
    )  # fmt: skip


def setting_rows(
    jobs: Sequence[JobRow], rows: Mapping[int, int], kinds: Mapping[str, Kind]
) -> Iterator[tuple[Any, ...]]:
    """Yield the settings of jobs: job, name, value, and whether jobs of its kind differ in it."""
    sweeping = {
        kind: frozenset(names)
        for kind, names in swept((job.plain_spec for job in jobs), kinds).items()
    }
    for job in jobs:
        number, names = rows[job.id], sweeping[job.kind]
        for name, value in settings_of(job.plain_spec).items():
            yield number, name, scalar(value), name in names


_INTERVAL = frozenset({"value", "low", "high"})  # of a number, as laboratories write it
SUPERSEDED = "superseded"
# columns that no laboratory gives
OURS = frozenset({"id", "run", "row", "test", "maker", "job", SUPERSEDED})


def score_rows(
    results: RunResults, jobs: JobsOfRows, rows: Mapping[int, int]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of results, flat: a number with an interval makes three columns.

    Args:
        results: of a run.
        jobs: of the run.
        rows: number of a job → its row.
    """
    names: dict[str, int] = {}
    for row in results.rows:
        label = _label(row)
        names[label] = times = names.get(label, 0) + 1
        test, maker = jobs.test(row), jobs.maker(row)
        yield {
            "row": label if times == 1 else f"{label} ({times})",
            "test": None if test is None else rows[test],
            "maker": None if maker is None else rows[maker],
            **flat(row),
            SUPERSEDED: 0,
        }


def program_rows(
    returned: Iterable[Returned],
    kinds: Mapping[str, Kind],
    rows: Mapping[int, int],
    counted: Collection[int],
) -> Iterator[dict[str, Any]]:
    """Yield a row for each program or function: its parameters, and the numbers that it told last.

    Args:
        returned: by the jobs of a run.
        kinds: of the jobs, by name, those that are installed.
        rows: number of a job → its row.
        counted: the jobs that count, one of each name.
    """
    programs = [each for each in returned if each.job.kind in {PROGRAM, FUNCTION}]
    number_of = {each.job.name: each.job.id for each in programs}
    for row in returned_rows(programs, kinds).rows:
        job, cells = number_of[row[JOB]], {key: cell for key, cell in row.items() if key != JOB}
        own = {"row": row[JOB], "test": rows[job], "maker": rows[job], POOLED: 0}
        yield {**own, **flat(cells), SUPERSEDED: int(job not in counted)}


def _label(row: Row) -> str:
    """Return what a row is of, in words; two rows of a run have hardly the same."""
    if POOLED not in row:
        return " · ".join(str(value) for value in row.values() if isinstance(value, str) and value)
    parts = (row.get(MODEL), row.get(DATA), row.get("data_root"))
    return " · ".join(str(part) for part in parts if part)


def flat(row: Row) -> dict[str, Any]:
    """Return a row with a column for each number: value, low end and high end of an interval."""
    cells: dict[str, Any] = {}
    for key, value in row.items():
        name = f"{key}_" if key in OURS else key
        if value is None or value.__class__ in PLAIN:  # these two are most by far
            cells[name] = value
        elif value.__class__ is dict and value.keys() == _INTERVAL:
            cells[name] = value["value"]
            cells[f"{name}_low"], cells[f"{name}_high"] = value["low"], value["high"]
        elif isinstance(value, Mapping) and (metric := read_metric(value)) is not None:
            cells |= with_interval(name, metric)
        else:
            cells[name] = plain(value)
    return cells


def epoch_rows(
    jobs: Sequence[JobRow], kinds: Mapping[str, Kind], makers: Mapping[str, int]
) -> Iterator[dict[str, Any]]:
    """Yield the epochs of the models of a run, each with the row of the job that made them."""
    for name, kind in kinds.items():
        if not isinstance(kind, HasEpochs) or not kind.epochs:
            continue
        specs = [job.plain_spec for job in jobs if job.kind == name and job.plain_spec.model]
        models = list(dict.fromkeys(str(spec.model) for spec in specs))
        if models:
            folder: Path = specs[0].run_folder
            for record in laboratory_function(kind.epochs)(folder, models):
                cells = {f"{key}_" if key in OURS else key: value for key, value in record.items()}
                yield {"job": makers.get(str(record[MODEL])), **cells}


LINES, MOST_BYTES = 200, 1 << 15  # of the end of a log: a traceback with what led to it


def error_rows(
    home: Home,
    attempts: Iterable[AttemptRow],
    rows: Mapping[int, int],
    known: Collection[tuple[int, int]],
) -> Iterator[tuple[Any, ...]]:
    """Yield job, attempt, error and the end of the log of each attempt that ended and was not done.

    Args:
        home: whose attempts.
        attempts: of its jobs.
        rows: number of a job → its row.
        known: (row of a job, attempt) of what is in the database: a log that ended stays as it is.
    """
    for attempt in attempts:
        row, outcome = rows[attempt.job], None if attempt.is_done else attempt.outcome
        if not outcome or outcome.get("ending") == "done" or (row, attempt.number) in known:
            continue
        log = home.attempt(attempt.job, attempt.number).log
        lines = last_lines(log, LINES, MOST_BYTES)
        error = outcome.get("error") or outcome.get("why") or outcome.get("ending")
        yield row, attempt.number, str(error), "\n".join(map(without_colours, lines))


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
    kinds = kinds_of(jobs)
    superseded = store.read.superseded(jobs)
    every = counted = [each.job for each in result_jobs(home, store, jobs, all_jobs=True)]
    if superseded:  # otherwise each name has one job
        counted = [each.job for each in result_jobs(home, store, jobs)]
    models = Models([job.plain_spec for job in counted], kinds)
    # before the file is locked: it may take minutes
    results, returned = results_of(counted, models), returned_by(home, store, every, kinds)
    with writing(path) as connection:
        database = wrap(connection, execute_plugins=False)
        make_tables(database)
        run = _run_row(connection, home, jobs)
        numbers = _job_numbers(connection, run, jobs)
        writer = _RunWriter(connection, home, store, run, numbers)
        changed = writer.write(jobs, every, kinds, models, returned, superseded=superseded)
        of_rows = JobsOfRows(counted, kinds, models)
        of_models = score_rows(results, of_rows, numbers)
        those = {job.id for job in counted}
        scores = (*of_models, *program_rows(returned, kinds, numbers, those))
        changed += _mirror(database, "scores", run, scores)
        makers = {model: numbers[job] for model, job in of_rows.makers.items()}
        epochs = epoch_rows(jobs, kinds, makers)
        changed += _mirror(database, "epochs", run, epochs)
        make_views(database, list(kinds.values()))
    return changed


def _sqlite_utils() -> "type[Database]":
    """Import the library, which takes a part of a second.

    Raises:
        MachineError: it is not installed.
    """
    try:
        from sqlite_utils import Database
    except ImportError as error:
        raise MachineError(
            f"a database of results needs sqlite-utils. Install it: {install_command('data')}"
        ) from error
    return Database


class _RunWriter(NamedTuple):
    """Writes the jobs of a run."""

    connection: sqlite3.Connection
    home: Home
    store: Store
    run: int  # its row
    numbers: Mapping[int, int]  # number of a job → its row

    def write(
        self,
        jobs: Sequence[JobRow],
        with_results: Iterable[JobRow],
        kinds: Mapping[str, Kind],
        models: Models,
        returned: Iterable[Returned],
        *,
        superseded: Collection[int],
    ) -> int:
        """Write jobs with their attempts, settings, numbers and errors; return how many rows changed.

        Args:
            jobs: of the run, as they are.
            with_results: the same as they were when they were done last: their numbers are of these settings.
            kinds: of the jobs, by name, those that are installed.
            models: of the run.
            returned: what the jobs returned.
            superseded: the jobs that a newer job of the same name replaced.
        """
        numbers, store = self.numbers, self.store
        _forget_changed(self.connection, self.run, jobs, numbers)
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
                    superseded=job.id in superseded,
                )
                for job in jobs
            ),
            "attempts": (attempt_cells(attempt, numbers[attempt.job]) for attempt in attempts),
            "settings": setting_rows([settled.get(job.id, job) for job in jobs], numbers, kinds),
            "metrics": (
                (numbers[job.id], name, metric.value, metric.low, metric.high)
                for job, told, *_ in returned
                for name, metric in told.metrics.items()
            ),
            "errors": error_rows(self.home, attempts, numbers, known),
        }
        return sum(upsert(self.connection, name, those) for name, those in rows.items())


def _forget_changed(
    connection: sqlite3.Connection, run: int, jobs: Sequence[JobRow], numbers: Mapping[int, int]
) -> None:
    """Delete settings and numbers of jobs that were changed, ran again, or are to: they may have others now."""
    written = connection.execute(
        "SELECT id, hash, attempts, command, state FROM jobs WHERE run = ?", (run,)
    )
    before = {row: (*cells, state == State.DONE) for row, *cells, state in written}
    versions = {
        numbers[job.id]: (
            job.hash, job.attempts, shlex.join(job.plain_spec.argv), job.state is State.DONE
        )
        for job in jobs
    }  # fmt: skip
    changed = [(row,) for row, now in versions.items() if before.get(row, now) != now]
    for table in ("settings", "metrics"):
        connection.executemany(f"DELETE FROM {table} WHERE job = ?", changed)


def _run_row(connection: sqlite3.Connection, home: Home, jobs: Sequence[JobRow]) -> int:
    """Write the row of a run and that of its home, and return the run's number."""
    owner = read_json(home.record) or {}
    where = (str(owner.get("machine", "")), str(home.folder), str(owner.get("host", "")))
    upsert(connection, "homes", [where])
    (row,) = connection.execute(
        "SELECT id FROM homes WHERE machine = ? AND folder = ?", where[:2]
    ).fetchone()
    named = (row, jobs[0].run, jobs[0].root)
    states = [job.state for job in jobs]
    ended = [job.ended for job in jobs if job.ended is not None]
    cells = (
        *named,
        len(jobs),
        sum(state in OPEN for state in states),
        *(states.count(State(name)) for name in _STATES),
        iso(min(job.submitted for job in jobs)),
        iso(max(ended)) if ended else None,
        mark_of(jobs),
    )
    upsert(connection, "runs", [cells])
    (run,) = connection.execute(
        "SELECT id FROM runs WHERE home = ? AND name = ? AND root = ?", named
    ).fetchone()
    return int(run)


_STATES = ("done", "failed", "cancelled", "skipped")


_CONTENT = 1  # is increased if the same jobs get other rows; 1: superseded rows are marked


def mark_of(jobs: Sequence[JobRow]) -> str:
    """Return what changes when the queue knows something new of ended jobs of a run."""
    newest = max(job.ended or job.submitted for job in jobs)
    tried = sum(job.attempts for job in jobs)
    return f"{SCHEMA}.{_CONTENT} {len(jobs)} {max(job.id for job in jobs)} {tried} {newest!r}"


def _job_numbers(
    connection: sqlite3.Connection, run: int, jobs: Sequence[JobRow]
) -> dict[int, int]:
    """Return number of a job → its row, that number itself where no other run has taken it."""
    numbers: dict[int, int] = dict(
        connection.execute("SELECT number, id FROM jobs WHERE run = ?", (run,))
    )
    if new := [job.id for job in jobs if job.id not in numbers]:
        taken = {row for (row,) in connection.execute("SELECT id FROM jobs")}
        free = count(1 + max({*taken, *(job.id for job in jobs)}))
        numbers |= {job: next(free) if job in taken else job for job in new}
    return {job.id: numbers[job.id] for job in jobs}


def _mirror(database: "Database", name: str, run: int, records: Iterable[Mapping[str, Any]]) -> int:
    """Make a run's rows of a table those given; return how many changed."""
    table = database.table(name)
    given = [{"run": run, **record} for record in records]
    named = _columns_of(dict.fromkeys(key for row in given for key in row), table.columns_dict)
    rows = [{named[key]: cell for key, cell in row.items()} for row in given]
    table.add_missing_columns(rows)
    columns = [*named.values()]
    connection, key = database.conn, TABLES[name].key
    there = set(
        connection.execute(
            f"SELECT {','.join(map(quoted, key))} FROM {quoted(name)} WHERE run = ?", (run,)
        )
    )
    gone = there - {tuple(row.get(column) for column in key) for row in rows}
    condition = " AND ".join(f"{quoted(column)} = ?" for column in key)
    connection.executemany(f"DELETE FROM {quoted(name)} WHERE {condition}", gone)
    cells = ([row.get(column) for column in columns] for row in rows)
    return len(gone) + upsert(connection, name, cells, columns)


def _columns_of(names: Iterable[str], there: Iterable[str]) -> dict[str, str]:
    """Return name → column; a name that differs in letter case alone has a number, as SQLite has it.

    Args:
        names: of what rows hold.
        there: columns of the table.
    """
    known = {column.casefold(): column for column in there}
    columns: dict[str, str] = {}
    for name in names:
        free, number = in_unicode(name), 1
        while known.setdefault(free.casefold(), free) != free:
            number += 1
            free = f"{in_unicode(name)}_{number}"
        columns[name] = free
    return columns


NAME = "results.sqlite"  # in the home: the database of all its runs


def update(home: Home, store: Store, say: Callable[[str], None]) -> Path:
    """Bring the database of all runs of a home up to date, and return where it lies.

    A run that cannot be written, as its laboratory is not installed, say, is left as it was. So are
    all that are new where nothing can be written, as on a full disk.

    Args:
        home: whose runs.
        store: its queue.
        say: tells a person what was left out.

    Raises:
        MachineError: the home cannot be written, or a package is not installed.
    """
    path = home.folder / NAME
    known = _marks(path)
    for name in sorted(store.read.runs()):
        of_name = store.read.of_run(name)
        for root in dict.fromkeys(job.root for job in of_name):  # there lie other results
            jobs = [job for job in of_name if job.root == root]
            if known.get((root, name)) == mark_of(jobs):
                continue
            try:
                write_run(path, home, store, jobs)
            except Error as error:
                empty = not path.exists() or path.stat().st_size == 0
                if empty or (not known and isinstance(error.__cause__, ImportError)):
                    raise
                if isinstance(error, Unusable):
                    say(f"the results may be outdated: {error}")
                    return path
                say(f"the results of run {name} were not updated: {error}")
    return path


def _marks(path: Path) -> dict[tuple[str, str], str]:
    """Return root and name of a run → what the queue held of it when it was written last."""
    with suppress(sqlite3.Error), closing(connected(path, "ro", 5.0)) as database:
        rows = database.execute("SELECT root, name, mark FROM runs WHERE open = 0").fetchall()
        return {(root, name): mark for root, name, mark in rows}
    return {}
