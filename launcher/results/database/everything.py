"""All runs of a home in one database, kept in the home and brought up to date when it is asked."""

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from sqlite3 import Error as SqliteError
from sqlite3 import connect

from launcher.errors import Error
from launcher.results.database.file import Unusable
from launcher.results.database.write import mark_of, write_run
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.paths import Home

NAME = "results.sqlite"  # in the home


def database_of(home: Home) -> Path:
    """Return where the database of all runs of a home lies."""
    return home.folder / NAME


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
    path = database_of(home)
    known = _marks(path)
    for name in sorted(store.read.runs()):
        for jobs in _by_root(store.read.of_run(name)):
            if known.get((jobs[0].root, name)) == mark_of(jobs):
                continue
            try:
                write_run(path, home, store, jobs)
            except Error as error:
                if _is_empty(path) or (not known and isinstance(error.__cause__, ImportError)):
                    raise
                if isinstance(error, Unusable):
                    say(f"the answer may be of older results: {error}")
                    return path
                say(f"run {name} is left as it was: {error}")
    return path


def _is_empty(path: Path) -> bool:
    return not path.exists() or path.stat().st_size == 0


def _by_root(jobs: Sequence[JobRow]) -> list[list[JobRow]]:
    """Return the jobs of runs of one name apart: their results lie in different folders."""
    runs: dict[str, list[JobRow]] = {}
    for job in jobs:
        runs.setdefault(job.root, []).append(job)
    return list(runs.values())


def _marks(path: Path) -> dict[tuple[str, str], str]:
    """Return root and name of a run → what the queue held of it when it was written last."""
    with suppress(SqliteError), closing(connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT root, name, mark FROM runs WHERE open = 0").fetchall()
        return {(root, name): mark for root, name, mark in rows}
    return {}
