"""The tables of a database of results, and rows written to them.

Tables have typed columns, keys and references. New rows are inserted, changed rows updated, all others unchanged.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from launcher.experiments.results.table import (
    replace_surrogates,
)

SCHEMA = 1  # version of the file, stored as PRAGMA user_version
ID = "id"
INTEGER, REAL, TEXT, ANY = "INTEGER", "REAL", "TEXT", "ANY"
EXACT = (
    "BLOB"  # SQLite converts no value of such a column; ANY has this meaning in a strict table only
)
# columns for the parts of a model in every file; the plugin package fills some of them
PARTS: Mapping[str, str] = {
    "architecture": ANY, "training_data": TEXT, "poison": REAL, "poison_kind": TEXT,
    "teacher_poison": REAL, "method": TEXT, "seed": ANY,
}  # fmt: skip
PLAIN = frozenset({str, int, float, bool})  # the types of SQLite, and booleans
_LARGEST = 1 << 63  # exclusive limit of integers in SQLite
if TYPE_CHECKING:
    from sqlite_utils import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSchema:
    """The schema of one table."""

    columns: Mapping[str, str]  # name → type
    key: tuple[str, ...]  # identifies a row
    # column → table whose `id` it contains
    foreign_keys: Mapping[str, str] = field(default_factory=dict)
    can_add_columns: bool = False  # plugin packages add columns of any type
    indexes: tuple[tuple[str, ...], ...] = ()
    full_text_columns: tuple[str, ...] = ()  # columns of the full-text search of the table


TABLES: Mapping[str, TableSchema] = {
    "homes": TableSchema(
        columns={ID: INTEGER, "machine": TEXT, "folder": TEXT, "host": TEXT},
        key=("machine", "folder"),
    ),
    "runs": TableSchema(
        columns={
            ID: INTEGER, "home": INTEGER, "name": TEXT, "root": TEXT, "jobs": INTEGER, "open": INTEGER,
            "done": INTEGER, "failed": INTEGER, "cancelled": INTEGER, "skipped": INTEGER,
            "submitted": TEXT, "ended": TEXT, "mark": TEXT,
        },
        key=("home", "root", "name"),
        foreign_keys={"home": "homes"},
    ),
    "jobs": TableSchema(
        columns={
            ID: INTEGER, "run": INTEGER, "number": INTEGER, "name": TEXT, "kind": TEXT, "role": TEXT,
            "state": TEXT, "reason": TEXT, "reason_code": TEXT, "model": TEXT, "base": TEXT, "data": TEXT,
            **PARTS, "command": TEXT, "folder": TEXT, "priority": INTEGER,
            "cpus": INTEGER, "ram": INTEGER, "gpus": INTEGER, "vram": INTEGER, "job_group": TEXT,
            "attempts": INTEGER, "failures": INTEGER, "submitted": TEXT, "started": TEXT, "ended": TEXT,
            "seconds": REAL, "hash": TEXT, "superseded": INTEGER,
        },
        key=("run", "number"),
        foreign_keys={"run": "runs"},
        indexes=(("kind",), ("model",)),
    ),
    "attempts": TableSchema(
        columns={
            "job": INTEGER, "number": INTEGER, "device": TEXT, "cpus": INTEGER, "started": TEXT,
            "ended": TEXT, "seconds": REAL, "ending": TEXT, "reason_code": TEXT, "exit_code": INTEGER,
            "signal": INTEGER, "vram_promised": INTEGER, "vram_peak": INTEGER, "pilot": TEXT,
        },
        key=("job", "number"),
        foreign_keys={"job": "jobs"},
    ),
    "settings": TableSchema(
        columns={"job": INTEGER, "name": TEXT, "value": ANY, "swept": INTEGER},
        key=("job", "name"),
        foreign_keys={"job": "jobs"},
    ),
    "metrics": TableSchema(
        columns={"job": INTEGER, "name": TEXT, "value": REAL, "low": REAL, "high": REAL},
        key=("job", "name"),
        foreign_keys={"job": "jobs"},
    ),
    "scores": TableSchema(
        columns={
            ID: INTEGER, "run": INTEGER, "row": TEXT, "test": INTEGER, "maker": INTEGER, "model": TEXT,
            **PARTS, "architecture": EXACT, "seed": EXACT, "data": TEXT, "modifier": TEXT, "condition": TEXT,
            "pooled": INTEGER, "superseded": INTEGER,
        },
        key=("run", "row"),
        foreign_keys={"run": "runs", "test": "jobs", "maker": "jobs"},
        can_add_columns=True,
    ),
    "epochs": TableSchema(
        columns={"run": INTEGER, "model": TEXT, "epoch": INTEGER, "job": INTEGER},
        key=("run", "model", "epoch"),
        foreign_keys={"run": "runs", "job": "jobs"},
        can_add_columns=True,
        indexes=(("job",),),
    ),
    "errors": TableSchema(
        columns={ID: INTEGER, "job": INTEGER, "attempt": INTEGER, "error": TEXT, "log": TEXT},
        key=("job", "attempt"),
        foreign_keys={"job": "jobs"},
        full_text_columns=("error", "log"),
    ),
}  # fmt: skip


def create_tables(database: "Database") -> None:
    """Create missing tables with their keys, indexes and full-text search; add missing columns."""
    there = set(database.table_names())
    for name, shape in TABLES.items():
        if name in there:
            table = database.table(name)
            for column in shape.columns.keys() - table.columns_dict.keys():
                table.add_column(column, shape.columns[column])
            continue
        has_id = ID in shape.columns
        table = database.create_table(
            name,
            dict(shape.columns),
            pk=ID if has_id else shape.key,
            foreign_keys=[(column, other, ID) for column, other in shape.foreign_keys.items()],
            not_null={ID} if has_id else set(shape.key),
            strict=not shape.can_add_columns,
        )
        if has_id:
            table.create_index(shape.key, unique=True)
        for columns in shape.indexes:
            table.create_index(columns)
        if shape.full_text_columns:
            table.enable_fts(shape.full_text_columns, create_triggers=True)


Cell = str | int | float | bytes | None


def upsert(
    connection: sqlite3.Connection,
    name: str,
    rows: Iterable[Sequence[Any]],
    columns: Sequence[str] = (),
) -> int:
    """Write rows into a table and return how many were new or changed.

    Args:
        connection: Connection inside a transaction.
        name: Name of the table.
        rows: Cells in the order of the columns; values without a type in SQLite become JSON.
        columns: Columns of the rows, including the key. None given: all except an `id` set by SQLite.
    """
    listed = [*rows]
    if not listed:
        return 0
    every = [*TABLES[name].columns][-len(listed[0]) :]  # `id` is the first column
    statement = _statement(name, columns or every)
    try:
        return connection.executemany(statement, listed).rowcount
    except (UnicodeEncodeError, OverflowError, sqlite3.InterfaceError, sqlite3.ProgrammingError):
        # rare: checking every cell first takes as long as writing it
        repaired = [[_storable(to_cell(cell)) for cell in row] for row in listed]
        return connection.executemany(statement, repaired).rowcount


def _statement(name: str, columns: Sequence[str]) -> str:
    key = TABLES[name].key
    # the ID of a row, to which others refer, is kept
    others = [quote_name(column) for column in columns if column not in {*key, ID}]
    marks = ",".join("?" * len(columns))
    new = ",".join(f"excluded.{column}" for column in others)
    table = quote_name(name)
    now = ",".join(f"{table}.{column}" for column in others)
    change = f"UPDATE SET ({','.join(others)}) = ({new}) WHERE ({now}) IS NOT ({new})"
    return (
        f"INSERT INTO {table} ({','.join(map(quote_name, columns))}) VALUES ({marks})"
        f" ON CONFLICT ({','.join(map(quote_name, key))}) DO {change if others else 'NOTHING'}"
    )


def quote_name(name: str) -> str:
    """Return a name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def to_cell(value: Any) -> Cell:
    """Return a value as a cell; values without a type in SQLite become JSON."""
    if value is None or isinstance(value, str | int | float):
        return value
    return json.dumps(value, default=str)


def _storable(cell: Cell) -> Cell:
    """Return a cell that SQLite accepts: Unicode text, 64-bit integers."""
    if isinstance(cell, str):
        return replace_surrogates(cell)
    if isinstance(cell, int) and not -_LARGEST <= cell < _LARGEST:
        return str(cell)
    return cell
