"""Why attempts were not done: their errors, and the ends of their logs."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from launcher.system.files import last_lines
from launcher.system.paths import Home
from launcher.system.text import without_colours

LINES, MOST_BYTES = 200, 1 << 15  # of the end of a log: a traceback with what led to it


def error_rows(
    home: Home,
    attempts: Iterable[Mapping[str, Any]],
    rows: Mapping[int, int],
    known: Collection[tuple[int, int]],
) -> Iterator[tuple[Any, ...]]:
    """Yield job, attempt, error and the end of the log of each attempt that ended and was not done.

    Args:
        home: whose attempts.
        attempts: as `launcher.store.news` returns them.
        rows: number of a job → its row.
        known: (row of a job, attempt) of what is in the database: a log that ended stays as it is.
    """
    for attempt in attempts:
        outcome, row = attempt["outcome"], rows[attempt["job"]]
        if not outcome or outcome.get("ending") == "done" or (row, attempt["number"]) in known:
            continue
        log = home.attempt(attempt["job"], attempt["number"]).log
        lines = last_lines(log, LINES, MOST_BYTES)
        error = outcome.get("error") or outcome.get("why") or outcome.get("ending")
        yield row, attempt["number"], str(error), "\n".join(map(without_colours, lines))
