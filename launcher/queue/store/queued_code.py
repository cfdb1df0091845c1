"""The code of queued jobs: the state that their command stored, the record of their files, and later changes.

A command stores the time, the commit and the digests of its scripts. The scheduler's helper records all files of the
project, see `launcher.queue.scheduler.code_recording`. Nothing is known of the code of a job without both.
"""

import contextlib
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from launcher.provenance.code_words import code_words
from launcher.provenance.file_digests import FileDigests
from launcher.provenance.git_files import find_repository, read_commit
from launcher.provenance.snapshots.reference import read_reference
from launcher.queue.jobs.context import INPUTS, OUTPUTS, Context, resolve_path, start_folder
from launcher.queue.jobs.job import Spec
from launcher.queue.store.connection import Connection
from launcher.system.executables import find_program, module_of, script_of, without_wrappers
from launcher.system.stored_fields import Unreadable

MOST_BYTES = 16 << 20  # bytes of a file of code; a larger file holds data
MOST_SCRIPTS = 8  # scripts whose digests a command computes; the others are left to the helper
BUSY_S = 10.0  # time that the helper waits for another writer
# suffixes of a name at which the search for code starts
ONLY_IMPORTS = ":imports"  # suffix of a script whose own functions are stored with the calls
ONLY_ITSELF = ":itself"  # suffix of a module whose imports are listed, too
_PYTHON_PATH = "PYTHONPATH"


class FunctionCode(NamedTuple):
    """Where the code of a submitted function is looked for."""

    # its module, or the path of the submitting script with `ONLY_IMPORTS` at its end
    starts: Sequence[str]
    python_path: Sequence[str]


class QueuedCode(NamedTuple):
    """The code of the jobs that a command queues, as the command saw it."""

    at: float  # seconds since 1970
    folder: str  # in which the jobs are queued
    program: str  # path of the interpreter; '' if it is unknown
    python_path: tuple[str, ...]
    roots: Mapping[str, Sequence[str]]  # name of a job's code → paths of files, names of modules
    digests: Mapping[str, str] = {}  # path → digest, of scripts
    commit: str | None = None  # None: unknown
    snapshot: Mapping[str, Any] = {}  # from which the jobs run; empty: the working folder
    inputs: tuple[str, ...] = ()  # files that jobs with a snapshot read in the working folder

    def renew(self, now: float) -> "QueuedCode":
        """Return the code of the same jobs when they are queued again."""
        return self._replace(at=now, digests={}, commit=None)


class CodeRecord(NamedTuple):
    """Files as they were when jobs were queued: a script with its modules, or a file of configuration."""

    files: Mapping[str, str]  # path → digest
    uncommitted: tuple[str, ...] = ()  # files that are not as git's index has them
    is_compared: bool = True  # whether the files were compared with git's index
    is_complete: bool = True  # False: a limit of the number of modules was reached
    copied: tuple[str, ...] = ()  # files that are read from a snapshot, which does not change


class CodeChange(NamedTuple):
    """How files differ from a record since a time."""

    record: int
    at: float
    files: Mapping[str, str]  # path → digest of each file that differs, '' if it is gone


# --- what a command stores


def code_roots(spec: Spec, folder: str) -> tuple[str, ...]:
    """Return the names of a job's code: the files of code and configuration that its words name, or its function.

    Args:
        spec: Specification of the job, with the digests of its modules.
        folder: Folder in which it was queued.
    """
    if spec.entry:
        modules = "\n".join(spec.sources)
        which = hashlib.sha256(modules.encode()).hexdigest()[:12] if modules else ""
        return (f"{spec.entry} {which}".rstrip(),)
    try:
        start = start_folder(spec, folder)
    except Unreadable:
        return ()
    words = [script_of(spec.argv), *code_words(spec.argv)]
    paths = _code_paths(spec, start, [*words, *(spec.settings.get(INPUTS) or ())])
    module = module_of(spec.argv)
    return tuple(dict.fromkeys(filter(None, (module, *paths))))


def _code_paths(spec: Spec, start: str, words: Iterable[str]) -> Iterator[str]:
    outputs = {os.path.normpath(name) for name in spec.settings.get(OUTPUTS) or ()}
    return (_code_path(start, word) for word in words if os.path.normpath(word) not in outputs)


def _only_inputs(specs: Sequence[Spec], folder: str) -> tuple[str, ...]:
    """Return the inputs of programs that no word of their command lines names."""
    inputs, named = dict[str, None](), set[str]()
    for spec in specs:
        with contextlib.suppress(Unreadable):
            start = start_folder(spec, folder)
            inputs |= dict.fromkeys(_code_paths(spec, start, spec.settings.get(INPUTS) or ()))
            named.update(_code_paths(spec, start, code_words(spec.argv)))
    return tuple(path for path in inputs if path not in named)


@lru_cache(maxsize=1024)  # the jobs of a sweep name the same files
def _code_path(start: str, word: str) -> str:
    return "" if not word or "{" in word else os.path.normpath(resolve_path(start, word))


def describe_code(
    specs: Iterable[Spec], context: Context, now: float, function: FunctionCode | None = None
) -> QueuedCode | None:
    """Return the code of jobs that are queued now; None if they have no code.

    Args:
        specs: The jobs.
        context: Folder and environment in which they are queued.
        now: Seconds since 1970.
        function: The code of the function that they call, if they call one.
    """
    roots: dict[str, Sequence[str]] = {}
    program = ""
    specs = [*specs] if context.snapshot else specs
    for spec in specs:
        for name in code_roots(spec, context.folder):
            if name not in roots:
                roots[name] = _starts(name, spec, function)
        if not program:
            program = _program_path(spec, context)
    roots = {name: starts for name, starts in roots.items() if starts}
    if not roots:
        return None
    paths = [name for name, starts in roots.items() if [*starts] == [name] and os.path.isabs(name)]  # noqa: PTH117  # texts
    digests = FileDigests()
    path = [*context.environment.get(_PYTHON_PATH, "").split(os.pathsep)]
    path += [] if function is None else function.python_path
    return QueuedCode(
        at=now,
        folder=context.folder,
        program=program,
        python_path=tuple(filter(None, path)),
        roots=roots,
        digests={path: digests.digest_or_missing(path) for path in paths[:MOST_SCRIPTS]},
        commit=commit_of(context.folder, context.snapshot),
        snapshot=context.snapshot,
        inputs=_only_inputs([*specs], context.folder) if context.snapshot else (),
    )


def commit_of(folder: str, snapshot: Mapping[str, Any]) -> str | None:
    """Return the commit of the code of jobs that are queued now; None if it is unknown.

    Args:
        folder: Folder in which they are queued.
        snapshot: The snapshot from which they run, which has its commit; empty for the working folder.
    """
    if (reference := read_reference(snapshot)) is not None:
        return reference.commit
    repository = find_repository(folder)
    return None if repository is None else read_commit(repository)


def _starts(name: str, spec: Spec, function: FunctionCode | None) -> Sequence[str]:
    """Return the files and modules at which the search for a job's code starts; none if there is no such file."""
    if spec.entry:
        if function is not None:
            return function.starts
        listed = [
            f"{module}{ONLY_ITSELF}" for module in spec.sources if module
        ]  # not '', which would remove the whole text
        return listed or (spec.entry.partition(":")[0],)
    if not os.path.isabs(name):  # noqa: PTH117  # a text
        return (name,)
    try:
        is_code = os.path.isfile(name) and os.stat(name).st_size <= MOST_BYTES  # noqa: PTH113, PTH116  # for each word
    except (OSError, ValueError):
        return ()
    return (name,) if is_code else ()


def _program_path(spec: Spec, context: Context) -> str:
    if spec.entry:
        return context.interpreter
    words = without_wrappers(spec.argv)
    if not words or "{" in words[0]:
        return ""
    if "/" in words[0]:
        return _code_path(context.folder, words[0])
    return find_program(words[0], context.environment) or ""


# --- inside `writing`


def ensure_code(db: Connection, code: QueuedCode | None) -> int | None:
    """Return the number of queued code, stored if it is new; None if there is none."""
    if code is None:
        return None
    body = json.dumps(code._asdict())
    digest = hashlib.sha256(body.encode()).hexdigest()
    row = db.execute("SELECT id FROM queued_code WHERE digest = ?", (digest,)).fetchone()
    if row is None:
        insert = "INSERT INTO queued_code (digest, at, body) VALUES (?, ?, ?) RETURNING id"
        row = db.execute(insert, (digest, code.at, body)).fetchone()
    return int(row[0])


def renew_code(db: Connection, jobs: Sequence[int], now: float) -> None:
    """Note that a person queued jobs again."""
    listed = json.dumps([*jobs])
    chosen = "id IN (SELECT value FROM json_each(?))"
    rows = db.execute(
        f"SELECT DISTINCT code FROM jobs WHERE {chosen} AND code IS NOT NULL", (listed,)
    )
    for (number,) in rows.fetchall():
        renewed = ensure_code(db, renewed_code(db, number, now))
        db.execute(
            f"UPDATE jobs SET code = ? WHERE {chosen} AND +code = ?", (renewed, listed, number)
        )


def renewed_code(db: Connection, code_number: int | None, now: float) -> QueuedCode | None:
    """Return the code of jobs that are queued again; None if it is unknown."""
    row = db.execute("SELECT body FROM queued_code WHERE id = ?", (code_number,)).fetchone()
    code = None if row is None else _read_code(row[0])
    return None if code is None else code.renew(now)


def has_unrecorded_code(db: Connection) -> bool:
    """Return whether the files of some queued code are not recorded yet."""
    query = "SELECT 1 FROM queued_code WHERE records IS NULL LIMIT 1"
    return db.execute(query).fetchone() is not None


# --- what the helper reads and writes


@contextlib.contextmanager
def open_code_recording(database: Path) -> Iterator["CodeRecording"]:
    """Open an existing database of this version for the helper, whose commits nobody waits for.

    Raises:
        sqlite3.Error: There is none.
    """
    uri = f"{database.absolute().as_uri()}?mode=rw"
    with contextlib.closing(Connection(database, uri, BUSY_S)) as connection:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # checkpoints are left to the scheduler
        yield CodeRecording(connection)


class CodeRecording:
    """Reads and writes for the scheduler's helper."""

    def __init__(self, connection: Connection) -> None:
        """Work over a connection."""
        self._db, self.queries = connection, CodeQueries(connection)
        self.queue_folder = str(connection.path.parent)

    def list_unrecorded(self, most: int) -> list[tuple[int, QueuedCode]]:
        """Return queued code without records, the oldest first. A damaged one has none from now on."""
        rows = self._db.execute(
            "SELECT id, body FROM queued_code WHERE records IS NULL ORDER BY id LIMIT ?", (most,)
        )
        found = []
        for number, body in rows.fetchall():
            code = _read_code(body)
            if code is None:
                self._set_records(number, {})
            else:
                found.append((int(number), code))
        return found

    def add_records(
        self, code_number: int, code: QueuedCode, records: Mapping[str, CodeRecord]
    ) -> list[int]:
        """Store the records of queued code, by the names of its code, and its commit. Return their numbers."""
        numbers: dict[str, int] = {}
        with self._db.writing():
            for name, record in records.items():
                body = json.dumps(record._asdict())
                digest = hashlib.sha256(body.encode()).hexdigest()
                self._db.execute(
                    "INSERT OR IGNORE INTO code_records (digest, body) VALUES (?, ?)",
                    (digest, body),
                )
                stored = self._db.query_numbers(
                    "SELECT id FROM code_records WHERE digest = ?", digest
                )
                numbers[name] = stored[0]
            self._db.execute(
                "UPDATE queued_code SET body = ? WHERE id = ?",
                (json.dumps(code._asdict()), code_number),
            )
            self._set_records(code_number, numbers)
        return [*numbers.values()]

    def _set_records(self, code_number: int, records: Mapping[str, int]) -> None:
        self._db.execute(
            "UPDATE queued_code SET records = ? WHERE id = ?",
            (json.dumps(dict(records)), code_number),
        )

    def records_of(self, codes: Iterable[int]) -> dict[int, float]:
        """Return the numbers of the records of queued code, each with the time when it was queued last."""
        rows = self._db.execute(
            "SELECT value, max(at) FROM queued_code, json_each(records)"
            " WHERE queued_code.id IN (SELECT value FROM json_each(?)) GROUP BY value",
            (json.dumps([*codes]),),
        )
        return dict(rows.fetchall())

    def last_change(self, record: int) -> CodeChange:
        """Return the newest change of a record; without a change, one of no files at time 0."""
        row = self._db.execute(
            "SELECT record, at, files FROM code_changes WHERE record = ? ORDER BY at DESC LIMIT 1",
            (record,),
        ).fetchone()
        return CodeChange(record, 0.0, {}) if row is None else _change(row)

    def add_changes(self, changes: Iterable[CodeChange]) -> None:
        """Store changes."""
        with self._db.writing():
            self._db.executemany(
                "INSERT OR REPLACE INTO code_changes (record, at, files) VALUES (?, ?, ?)",
                [(each.record, each.at, json.dumps(dict(each.files))) for each in changes],
            )


# --- what screens ask


class CodeQueries:
    """Questions about the code of jobs."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Ask over a connection."""
        self._db = connection

    def queued_codes(self, codes: Iterable[int]) -> dict[int, tuple[float, Mapping[str, int]]]:
        """Return number of queued code → its time and its records by the names of its code, if it was recorded."""
        rows = self._db.execute(
            "SELECT id, at, records FROM queued_code WHERE records IS NOT NULL"
            " AND id IN (SELECT value FROM json_each(?))",
            (json.dumps([*codes]),),
        )
        return {number: (at, _parse(records) or {}) for number, at, records in rows.fetchall()}

    def queued_code(self, code_number: int | None) -> QueuedCode | None:
        """Return queued code; None if there is none."""
        row = self._db.execute(
            "SELECT body FROM queued_code WHERE id = ?", (code_number,)
        ).fetchone()
        return None if row is None else _read_code(row[0])

    def record(self, record_number: int) -> CodeRecord | None:
        """Return a record; None if it is gone or damaged."""
        row = self._db.execute(
            "SELECT body FROM code_records WHERE id = ?", (record_number,)
        ).fetchone()
        return None if row is None else _read_record(row[0])

    def changes(self, records: Iterable[int]) -> dict[int, list[CodeChange]]:
        """Return record → its changes in the order of their times, of those that have some."""
        rows = self._db.execute(
            "SELECT record, at, files FROM code_changes"
            " WHERE record IN (SELECT value FROM json_each(?)) ORDER BY record, at",
            (json.dumps([*records]),),
        )
        found: dict[int, list[CodeChange]] = {}
        for row in rows.fetchall():
            found.setdefault(row[0], []).append(_change(row))
        return found


def _change(row: Sequence[Any]) -> CodeChange:
    record, at, files = row
    return CodeChange(int(record), float(at), _texts(_parse(files)))


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _texts(value: Any) -> dict[str, str]:
    return {str(key): str(each) for key, each in value.items()} if isinstance(value, dict) else {}


def _read_code(text: str) -> QueuedCode | None:
    record = _parse(text)
    match record:
        case {
            "at": int() | float() as at,
            "folder": str(folder),
            "program": str(program),
            "python_path": [*path],
            "roots": dict(roots),
            "digests": dict(digests),
            "commit": str() | None as commit,
        } if all(isinstance(starts, list) for starts in roots.values()):
            return QueuedCode(
                at,
                folder,
                program,
                tuple(map(str, path)),
                roots,
                _texts(digests),
                commit,
                record.get("snapshot", {}),
                tuple(map(str, record.get("inputs", ()))),
            )
    return None


def _read_record(text: str) -> CodeRecord | None:
    record = _parse(text)
    match record:
        case {
            "files": dict(files),
            "uncommitted": [*uncommitted],
            "is_compared": bool(is_compared),
            "is_complete": bool(is_complete),
        }:
            copied = tuple(map(str, record.get("copied", ())))
            return CodeRecord(
                _texts(files), tuple(map(str, uncommitted)), is_compared, is_complete, copied
            )
    return None
