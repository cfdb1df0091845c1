"""Names and numbers for shell completion, read from indexes within milliseconds."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from launcher.queue.home.paths import SCHEMA, written_by_development_version
from launcher.queue.store.readonly import connect_readonly

MOST_NAMES = 200  # names; no one reads a longer list
BUSY_S = 0.05  # a person waits
_SCANNED_RUNS = 200  # the newest runs; each one is a separate query
_SCANNED_JOBS = 3000  # jobs of a state among which names are searched
_LAST = "\U0010ffff"  # sorts behind whatever may follow
_COMMAND_PREFIX = "command/"

Completions = dict[str, str]  # name: what to say of it


@contextlib.contextmanager
def open_completion_queries(database: Path) -> Iterator["CompletionQueries"]:
    """Open the database of a queue for reading.

    Raises:
        sqlite3.Error: There is none, it cannot be read, or a development version wrote it.
    """
    with contextlib.closing(connect_readonly(database, BUSY_S)) as connection:
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        if schema < SCHEMA:
            raise sqlite3.DatabaseError(written_by_development_version(schema))
        yield CompletionQueries(connection)


class CompletionQueries:
    """Queries that read a bounded number of rows for any number of jobs."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Ask over a connection that may only read."""
        self._db = connection

    def jobs(self, prefix: str, states: Sequence[str] = ()) -> Completions:
        """Return the names of jobs with this prefix, and their states. Jobs in `states` come first.

        If there are more than `MOST_NAMES`, the last of all is included. The common prefix of the
        returned names is then the common prefix of all names.
        """
        names: Completions = {}
        for state in states:
            names |= self._names_in_state(prefix, state)
        for name, state in self._names_with_prefix(prefix):
            names.setdefault(name, state)
        if "/" not in prefix and prefix:
            # a command is also found without its type, except numbers, which are job IDs
            for name, state in self._names_with_prefix(f"{_COMMAND_PREFIX}{prefix}"):
                short = name.removeprefix(_COMMAND_PREFIX)
                if not short.isdecimal():
                    names.setdefault(short, state)
        return names

    def _names_in_state(self, prefix: str, state: str) -> Completions:
        rows = self._db.execute(
            "SELECT name, state FROM (SELECT name, state FROM jobs WHERE state = ? LIMIT ?)"
            " WHERE name >= ? AND name < ? ORDER BY name LIMIT ?",
            (state, _SCANNED_JOBS, prefix, prefix + _LAST, MOST_NAMES),
        )
        return dict(rows.fetchall())

    def _names_with_prefix(self, prefix: str) -> list[tuple[str, str]]:
        """Return (name, state) of the first names that begin so, and of the last."""
        span = (prefix, prefix + _LAST)
        first: Completions = {}
        last: Completions = {}
        for (run,) in self._db.execute(
            "SELECT id FROM runs ORDER BY id DESC LIMIT ?", (_SCANNED_RUNS,)
        ).fetchall():
            for matches, order, most in ((first, "ASC", MOST_NAMES), (last, "DESC", 1)):
                rows = self._db.execute(
                    "SELECT name, state FROM jobs WHERE run = ? AND name >= ? AND name < ?"
                    f" ORDER BY name {order} LIMIT ?",
                    (run, *span, most),
                )
                for name, state in rows:
                    matches.setdefault(name, state)
        names = sorted(first)
        chosen = [*names[: MOST_NAMES - 1], max(last)] if len(names) >= MOST_NAMES else names
        return [(name, first.get(name) or last[name]) for name in chosen]

    def numbers(self, digits: str, states: Sequence[str] = ()) -> Completions:
        """Return the numbers of jobs that begin with these digits, and the jobs' names."""
        if not digits.isascii() or not digits.isdecimal() or digits[0] == "0":
            return {}
        (newest,) = self._db.execute("SELECT coalesce(max(id), 0) FROM jobs").fetchone()
        rows: list[tuple[int, str, str]] = []
        least, width = int(digits), 1
        while least <= newest and len(rows) < MOST_NAMES:
            rows += self._db.execute(
                "SELECT id, name, state FROM jobs WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
                (least, least + width, MOST_NAMES - len(rows)),
            ).fetchall()
            least, width = least * 10, width * 10
        rows.sort(key=lambda row: row[2] not in states)
        return {str(number): name for number, name, _ in rows}

    def runs(self, prefix: str) -> list[str]:
        """Return names of runs that begin so, the newest first."""
        rows = self._db.execute(
            "SELECT name FROM runs WHERE name >= ? AND name < ? GROUP BY name"
            " ORDER BY max(id) DESC LIMIT ?",
            (prefix, prefix + _LAST, MOST_NAMES),
        )
        return [name for (name,) in rows]

    def tags(self, prefix: str) -> list[str]:
        """Return tags that begin so."""
        rows = self._db.execute(
            "SELECT DISTINCT tag FROM tags WHERE tag >= ? AND tag < ? ORDER BY tag LIMIT ?",
            (prefix, prefix + _LAST, MOST_NAMES),
        )
        return [tag for (tag,) in rows]

    def groups(self, prefix: str) -> Completions:
        """Return the groups that have a limit and begin so, and the limit."""
        rows = self._db.execute(
            "SELECT name, slots FROM groups WHERE name >= ? AND name < ? ORDER BY name LIMIT ?",
            (prefix, prefix + _LAST, MOST_NAMES),
        )
        return {name: f"at most {slots} at once" for name, slots in rows}
