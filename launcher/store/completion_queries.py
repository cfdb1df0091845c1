"""Names and numbers for shell completion, looked up by indexes within milliseconds."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from launcher.system.paths import reading_uri

MOST = 200  # names; no one reads a longer list
BUSY_S = 0.05  # a person waits
_RUNS = 200  # the newest ones; each is looked up by itself
_LOOKED = 3000  # jobs of a state among which names are looked for
_LAST = "\U0010ffff"  # sorts behind whatever may follow
_COMMAND = "command/"

Found = dict[str, str]  # name: what to say of it


@contextlib.contextmanager
def open_completing(database: Path) -> Iterator["Completing"]:
    """Open a queue's database as it is: nothing is made, mended or brought up to date.

    Raises:
        sqlite3.Error: there is none, or it cannot be read.
    """
    uri = reading_uri(database)
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)
    with contextlib.closing(connection):
        yield Completing(connection)


class Completing:
    """The questions; each looks at a bounded number of rows, however many jobs there are."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Ask over a connection that may only read."""
        self._db = connection

    def jobs(self, beginning: str, states: Sequence[str] = ()) -> Found:
        """Return names of jobs that begin so, and their states; those in `states` come first.

        Where there are more than `MOST`, the last of all is among them, so that what all of the
        returned names have in common is what all names have in common.
        """
        names: Found = {}
        for state in states:
            names |= self._in_state(beginning, state)
        for name, state in self._between(beginning):
            names.setdefault(name, state)
        if "/" not in beginning and beginning:
            # a command is also known without its kind, but for the numbers, which are jobs' own
            for name, state in self._between(f"{_COMMAND}{beginning}"):
                short = name.removeprefix(_COMMAND)
                if not short.isdecimal():
                    names.setdefault(short, state)
        return names

    def _in_state(self, beginning: str, state: str) -> Found:
        rows = self._db.execute(
            "SELECT name, state FROM (SELECT name, state FROM jobs WHERE state = ? LIMIT ?)"
            " WHERE name >= ? AND name < ? ORDER BY name LIMIT ?",
            (state, _LOOKED, beginning, beginning + _LAST, MOST),
        )
        return dict(rows.fetchall())

    def _between(self, beginning: str) -> list[tuple[str, str]]:
        """Return (name, state) of the first names that begin so, and of the last."""
        span = (beginning, beginning + _LAST)
        first: Found = {}
        last: Found = {}
        for (run,) in self._db.execute(
            "SELECT id FROM runs ORDER BY id DESC LIMIT ?", (_RUNS,)
        ).fetchall():
            for matches, order, most in ((first, "ASC", MOST), (last, "DESC", 1)):
                rows = self._db.execute(
                    "SELECT name, state FROM jobs WHERE run = ? AND name >= ? AND name < ?"
                    f" ORDER BY name {order} LIMIT ?",
                    (run, *span, most),
                )
                for name, state in rows:
                    matches.setdefault(name, state)
        names = sorted(first)
        chosen = [*names[: MOST - 1], max(last)] if len(names) >= MOST else names
        return [(name, first.get(name) or last[name]) for name in chosen]

    def numbers(self, beginning: str, states: Sequence[str] = ()) -> Found:
        """Return the numbers of jobs that begin with these digits, and the jobs' names."""
        if not beginning.isascii() or not beginning.isdecimal() or beginning[0] == "0":
            return {}
        (newest,) = self._db.execute("SELECT coalesce(max(id), 0) FROM jobs").fetchone()
        rows: list[tuple[int, str, str]] = []
        least, width = int(beginning), 1
        while least <= newest and len(rows) < MOST:
            rows += self._db.execute(
                "SELECT id, name, state FROM jobs WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
                (least, least + width, MOST - len(rows)),
            ).fetchall()
            least, width = least * 10, width * 10
        rows.sort(key=lambda row: row[2] not in states)
        return {str(number): name for number, name, _ in rows}

    def runs(self, beginning: str) -> list[str]:
        """Return names of runs that begin so, the newest first."""
        rows = self._db.execute(
            "SELECT name FROM runs WHERE name >= ? AND name < ? GROUP BY name"
            " ORDER BY max(id) DESC LIMIT ?",
            (beginning, beginning + _LAST, MOST),
        )
        return [name for (name,) in rows]

    def tags(self, beginning: str) -> list[str]:
        """Return tags that begin so; none of a queue that a launcher without them has left."""
        with contextlib.suppress(sqlite3.OperationalError):
            rows = self._db.execute(
                "SELECT DISTINCT tag FROM tags WHERE tag >= ? AND tag < ? ORDER BY tag LIMIT ?",
                (beginning, beginning + _LAST, MOST),
            )
            return [tag for (tag,) in rows]
        return []

    def groups(self, beginning: str) -> Found:
        """Return the groups that have a limit and begin so, and the limit."""
        rows = self._db.execute(
            "SELECT name, slots FROM groups WHERE name >= ? AND name < ? ORDER BY name LIMIT ?",
            (beginning, beginning + _LAST, MOST),
        )
        return {name: f"at most {slots} at once" for name, slots in rows}
