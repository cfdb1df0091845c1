"""One run: how far it is, what came out of it, and the pictures that it left."""

from collections.abc import Hashable, Sequence
from pathlib import Path

from launcher.screens.format import ORDER, harmless
from launcher.screens.snapshots import lines_of
from launcher.states import State
from launcher.store.listings import Listing, RunRecord
from launcher.web.pages.page import Address, Content, NotThere, Page, View
from launcher.web.runs.result_table import Wish, result_table
from launcher.web.runs.run_data import Look, RunData

LISTED = 10  # jobs that run, and jobs that have failed
LOOK_EVERY_S = 60.0  # for files of a run, where nothing else tells of them


def fill(view: View, address: Address) -> Content:
    """Return what is known of a run."""
    number = address.number("run")
    listing = Listing(view.store.database)
    with view.store.reading():
        records = listing.run_records([number])
        if not records:
            raise NotThere(f"there is no run {number}; it may have been cleaned")
        running = listing.in_state(number, State.RUNNING, LISTED)
        failed = listing.in_state(number, State.FAILED, LISTED)
        rows = {row.id: row for row in view.store.read.jobs_by_id([*running, *failed])}
        lines = {line.id: line for line in lines_of(view.home, view.store, [*rows.values()])}
    run = records[0]
    look = view.runs.look((number,), mark_of_runs([run], view.now))
    data = look.data or RunData()
    return Content(
        title=f"run {harmless(run.name)}",
        values={
            "run": run,
            "name": harmless(run.name),
            "states": [state for state in ORDER if run.counts.get(state)],
            "ended": run.jobs - run.open,
            "took_s": took_s(run, view.now),
            "running": [lines[job] for job in running if job in lines],
            "failed": [lines[job] for job in failed if job in lines],
            "data": data,
            **result_values(look, address),
        },
        files=tuple(
            view.home.attempt(job, rows[job].attempts).progress for job in running if job in rows
        ),
        pending=look.pending,
    )


def result_values(look: Look[RunData], address: Address) -> dict[str, object]:
    """Return what the part of a page with results needs."""
    return {
        "reading": look.data is None,
        "trouble": look.trouble or ("" if look.data is None else look.data.trouble),
        "table": None if look.data is None else result_table(look.data.compared, wish_of(address)),
    }


def mark_of_runs(runs: Sequence[RunRecord], now: float) -> Hashable:
    """Return what is another value when results of runs may be others, or files in their folders.

    Args:
        runs: whose.
        now: in seconds since 1970: what lies deeper in a folder is looked for once in a while.
    """
    ends = tuple((run.id, tuple(sorted(run.counts.items())), run.ended) for run in runs)
    folders = tuple(_changed_at(Path(run.root, "runs", run.name)) for run in runs)
    return ends, folders, now // LOOK_EVERY_S


def _changed_at(folder: Path) -> int | None:
    """Return when a file in a folder was made or deleted last; None where there is no such folder."""
    try:
        return folder.stat().st_mtime_ns
    except (OSError, ValueError):  # ValueError: no folder can have such a name
        return None


def wish_of(address: Address) -> Wish:
    """Return how an address wants results."""
    return Wish(
        sort=address.text("sort"),
        everything=address.text("columns") == "all",
        rows=address.text("rows"),
    )


def took_s(run: RunRecord, now: float) -> float | None:
    """Return for how long a run has had attempts, up to now where jobs of it are open; None: not yet."""
    if run.started is None:
        return None
    until = now if run.open or run.ended is None else run.ended
    return max(0.0, until - run.started)


PAGE = Page(name="run", path="runs/{run:int}", fill=fill)
