"""The tables of a database of results: typed columns, keys, and what refers to what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

SCHEMA = 1  # of the file, as PRAGMA user_version has it
ID = "id"
INTEGER, REAL, TEXT, ANY = "INTEGER", "REAL", "TEXT", "ANY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table."""

    columns: Mapping[str, str]  # name → type
    key: tuple[str, ...]  # by which a row is found again
    refers: Mapping[str, str] = field(default_factory=dict)  # column → table whose `id` it holds
    grows: bool = False  # laboratories add columns, of any type
    indexes: tuple[tuple[str, ...], ...] = ()
    searched: tuple[str, ...] = ()  # columns of its full-text search


TABLES: Mapping[str, Table] = {
    "homes": Table(
        columns={ID: INTEGER, "machine": TEXT, "folder": TEXT, "host": TEXT},
        key=("machine", "folder"),
    ),
    "runs": Table(
        columns={
            ID: INTEGER, "home": INTEGER, "name": TEXT, "root": TEXT, "jobs": INTEGER, "open": INTEGER,
            "done": INTEGER, "failed": INTEGER, "cancelled": INTEGER, "skipped": INTEGER,
            "submitted": TEXT, "ended": TEXT, "mark": TEXT,
        },
        key=("home", "root", "name"),
        refers={"home": "homes"},
    ),
    "jobs": Table(
        columns={
            ID: INTEGER, "run": INTEGER, "number": INTEGER, "name": TEXT, "kind": TEXT, "role": TEXT,
            "state": TEXT, "reason": TEXT, "reason_code": TEXT, "model": TEXT, "base": TEXT, "data": TEXT,
            "architecture": ANY, "training_data": TEXT, "poison": REAL, "poison_kind": TEXT,
            "method": TEXT, "seed": ANY, "command": TEXT, "folder": TEXT, "priority": INTEGER,
            "cpus": INTEGER, "ram": INTEGER, "gpus": INTEGER, "vram": INTEGER, "job_group": TEXT,
            "attempts": INTEGER, "failures": INTEGER, "submitted": TEXT, "started": TEXT, "ended": TEXT,
            "seconds": REAL, "hash": TEXT,
        },
        key=("run", "number"),
        refers={"run": "runs"},
        indexes=(("kind",), ("model",)),
    ),
    "attempts": Table(
        columns={
            "job": INTEGER, "number": INTEGER, "device": TEXT, "cpus": INTEGER, "started": TEXT,
            "ended": TEXT, "seconds": REAL, "ending": TEXT, "reason_code": TEXT, "exit_code": INTEGER,
            "signal": INTEGER, "vram_promised": INTEGER, "vram_peak": INTEGER, "pilot": TEXT,
        },
        key=("job", "number"),
        refers={"job": "jobs"},
    ),
    "settings": Table(
        columns={"job": INTEGER, "name": TEXT, "value": ANY, "swept": INTEGER},
        key=("job", "name"),
        refers={"job": "jobs"},
    ),
    "metrics": Table(
        columns={"job": INTEGER, "name": TEXT, "value": REAL, "low": REAL, "high": REAL},
        key=("job", "name"),
        refers={"job": "jobs"},
    ),
    "scores": Table(
        columns={
            ID: INTEGER, "run": INTEGER, "row": TEXT, "test": INTEGER, "maker": INTEGER, "model": TEXT,
            "architecture": ANY, "training_data": TEXT, "poison": REAL, "poison_kind": TEXT,
            "method": TEXT, "seed": ANY, "data": TEXT, "modifier": TEXT, "condition": TEXT,
            "pooled": INTEGER,
        },
        key=("run", "row"),
        refers={"run": "runs", "test": "jobs", "maker": "jobs"},
        grows=True,
    ),
    "epochs": Table(
        columns={"run": INTEGER, "model": TEXT, "epoch": INTEGER, "job": INTEGER},
        key=("run", "model", "epoch"),
        refers={"run": "runs", "job": "jobs"},
        grows=True,
        indexes=(("job",),),
    ),
    "errors": Table(
        columns={ID: INTEGER, "job": INTEGER, "attempt": INTEGER, "error": TEXT, "log": TEXT},
        key=("job", "attempt"),
        refers={"job": "jobs"},
        searched=("error", "log"),
    ),
}  # fmt: skip


def make_tables(database: "Database") -> None:
    """Make the tables that are not there, with their keys, indexes and full-text search."""
    there = set(database.table_names())
    for name, shape in TABLES.items():
        if name in there:
            continue
        has_id = ID in shape.columns
        table = database.create_table(
            name,
            dict(shape.columns),
            pk=ID if has_id else shape.key,
            foreign_keys=[(column, other, ID) for column, other in shape.refers.items()],
            not_null={ID} if has_id else set(shape.key),
            strict=not shape.grows,
        )
        if has_id:
            table.create_index(shape.key, unique=True)
        for columns in shape.indexes:
            table.create_index(columns)
        if shape.searched:
            table.enable_fts(shape.searched, create_triggers=True)


def add_columns(database: "Database", name: str, columns: Mapping[str, str]) -> None:
    """Add the columns that a table lacks; names that differ in letter case only are one name."""
    table = database.table(name)
    there = {column.casefold() for column in table.columns_dict}
    for column, kind in columns.items():
        if column.casefold() not in there:
            table.add_column(column, kind)
