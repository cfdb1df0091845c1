"""Rows into a table: new ones are inserted, changed ones updated, all others left alone."""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from launcher.results.database.schema import ID, INTEGER, REAL, TABLES, TEXT

Cell = str | int | float | bytes | None
PLAIN = frozenset({str, int, float, bool})  # what SQLite has types for, and true and false
_LARGEST = 1 << 63  # what SQLite takes for an integer is below


def upsert(
    connection: sqlite3.Connection, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> int:
    """Write rows into a table, and return how many were new or other than before.

    Args:
        connection: inside of a transaction.
        name: of the table.
        columns: of the rows, its key among them.
        rows: cells in this order; what SQLite has no type for becomes JSON.
    """
    listed = [*rows]
    if not listed:
        return 0
    statement = _statement(name, columns)
    try:
        return connection.executemany(statement, listed).rowcount
    except (UnicodeEncodeError, OverflowError, sqlite3.InterfaceError, sqlite3.ProgrammingError):
        # hardly ever: to look at every cell first takes as long as to write it
        repaired = [[_storable(plain(cell)) for cell in row] for row in listed]
        return connection.executemany(statement, repaired).rowcount


def _statement(name: str, columns: Sequence[str]) -> str:
    key = TABLES[name].key
    # the number by which others refer to a row stays
    others = [quoted(column) for column in columns if column not in {*key, ID}]
    marks = ",".join("?" * len(columns))
    new = ",".join(f"excluded.{column}" for column in others)
    table = quoted(name)
    now = ",".join(f"{table}.{column}" for column in others)
    change = (
        f"UPDATE SET ({','.join(others)}) = ({new}) WHERE ({now}) IS NOT ({new})"
        if len(others) > 1
        else f"UPDATE SET {others[0]} = {new} WHERE {now} IS NOT {new}"
        if others
        else "NOTHING"
    )
    return (
        f"INSERT INTO {table} ({','.join(map(quoted, columns))}) VALUES ({marks})"
        f" ON CONFLICT ({','.join(map(quoted, key))}) DO {change}"
    )


def quoted(name: str) -> str:
    """Return a name as SQL has it, whatever stands in it."""
    return '"' + name.replace('"', '""') + '"'


def plain(value: Any) -> Cell:
    """Return a value as a cell; what SQLite has no type for becomes JSON."""
    if value is None or isinstance(value, str | int | float):
        return value
    return json.dumps(value, default=str)


def _storable(cell: Cell) -> Cell:
    """Return a cell that SQLite takes: text in Unicode, integers of 64 bits."""
    if isinstance(cell, str):
        return cell.encode(errors="backslashreplace").decode()
    if isinstance(cell, int) and not -_LARGEST <= cell < _LARGEST:
        return str(cell)
    return cell


def types_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the columns of some rows with the type that holds all of their values."""
    kinds: dict[str, set[type]] = {}
    for row in rows:
        for name, value in row.items():
            if name in kinds:
                kinds[name].add(value.__class__)
            else:
                kinds[name] = {value.__class__}
    return {name: _common(those - {None.__class__}) for name, those in kinds.items()}


def _common(kinds: set[type]) -> str:
    if kinds <= {int, bool} and kinds:
        return INTEGER
    return REAL if kinds <= {int, float, bool} and kinds else TEXT
