"""The SQL statements that the store runs, each with the place in its code and with SQLite's plan.

Without statistics SQLite guesses which index finds few rows. A wrong guess makes a statement read all jobs of a state
where it looks for those of one job.
"""

import ast
import re
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

import launcher.queue.store
from launcher.queue.store.connection import Connection

STORE = Path(launcher.queue.store.__file__).parent
# run once per database or per move of its folder, or copy it as a whole
ONCE = {"schema.py", "recovery.py", "relocation.py"}
LARGE = ("jobs", "needs", "attempts", "events")  # tables with a row or more for each job
KEYS = {"id", "rowid", "job", "need"}
_RUNS_SQL = {"execute", "executemany", "numbers", "_where", "_rows", "_attempts"}
_NO_QUERY = re.compile(r"PRAGMA|BEGIN|COMMIT|ROLLBACK")
_LARGE_ALIAS = re.compile(
    rf"\b({'|'.join(LARGE)})(?: AS)? (?!JOIN\b|WHERE\b|SET\b|ON\b)(\w+)", re.IGNORECASE
)
_STEP = re.compile(r"(SCAN|SEARCH) (\w+)(.*)")


class Place(NamedTuple):
    """A call in the store that runs a statement."""

    file: str
    first: int
    last: int
    call: str


class Statement(NamedTuple):
    """A statement that ran."""

    sql: str
    plan: tuple[str, ...]

    @property
    def many(self) -> list[str]:
        """The steps of its plan that read all rows of a large table, or all jobs of a state."""
        alias = {name: table.lower() for table, name in _LARGE_ALIAS.findall(self.sql)}
        steps = (_STEP.fullmatch(step) for step in self.plan)
        return [
            step[0]
            for step in steps
            if step is not None and alias.get(step[2], step[2]) in LARGE and _reads_many(step)
        ]


def _reads_many(step: re.Match[str]) -> bool:
    what, _, how = step.groups()
    if what == "SCAN" or "AUTOMATIC" in how:
        return True
    columns = re.findall(r"(\w+)[<>=]", how.rpartition("(")[2])
    return columns[:1] == ["state"] and "run" not in columns and not KEYS.intersection(columns)


class Recorder:
    """Statements of the connections that were opened since `record_statements`."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.statements: dict[str, Statement] = {}
        self.lines: set[tuple[str, int]] = set()  # lines of the store's code that were on the way

    def take(self, connection: sqlite3.Connection, sql: str, values: Any) -> None:
        """Record a statement with its plan, and which lines of the store led to it."""
        lines = [*_lines_of_the_store()]
        self.lines.update(lines)
        text = " ".join(sql.split())
        if text in self.statements or _NO_QUERY.match(text) or not lines or lines[0][0] in ONCE:
            return
        rows = sqlite3.Connection.execute(connection, f"EXPLAIN QUERY PLAN {sql}", values)
        self.statements[text] = Statement(text, tuple(row[3] for row in rows))


def _lines_of_the_store() -> Iterator[tuple[str, int]]:
    """Give file and line of each call of the store that runs now, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.parent == STORE:
            yield path.name, frame.f_lineno
        frame = frame.f_back


class _Recorded(sqlite3.Connection):
    """A connection of a program without a store."""


def record_statements(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Record what runs over all connections that are opened from now on."""
    recorder = Recorder()

    def execute(
        connection: sqlite3.Connection, sql: str, parameters: Any = (), /
    ) -> sqlite3.Cursor:
        recorder.take(connection, sql, parameters)
        return sqlite3.Connection.execute(connection, sql, parameters)

    def executemany(
        connection: sqlite3.Connection, sql: str, parameters: Iterable[Any], /
    ) -> sqlite3.Cursor:
        rows = [*parameters]
        if rows:
            recorder.take(connection, sql, rows[0])
        return sqlite3.Connection.executemany(connection, sql, rows)

    for opened in (Connection, _Recorded):
        monkeypatch.setattr(opened, "execute", execute)
        monkeypatch.setattr(opened, "executemany", executemany)
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=_Recorded))
    return recorder


def places() -> Iterator[Place]:
    """Give each call in the store that runs a statement which may read many rows."""
    for path in sorted(STORE.glob("*.py")):
        if path.name in ONCE:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _called(node) in _RUNS_SQL:
                call = ast.unparse(node)
                if not re.search(r"\(f?['\"](PRAGMA|BEGIN|COMMIT|ROLLBACK)", call):
                    yield Place(path.name, node.lineno, node.end_lineno or node.lineno, call)


def _called(call: ast.Call) -> str:
    match call.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""
