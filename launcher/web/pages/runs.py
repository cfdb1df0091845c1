"""All runs, page by page, filtered by their names and by any setting of their jobs."""

from collections.abc import Mapping
from typing import NamedTuple

from launcher.errors import counted
from launcher.screens.format import harmless
from launcher.states import ENDED, State
from launcher.store.listings import Listing, RunRecord
from launcher.web.pages.page import Address, Content, Page, View
from launcher.web.pages.run import took_s
from launcher.web.runs.run_data import Look
from launcher.web.runs.run_filter import (
    RunFilter,
    Settings,
    matches,
    read_filter,
    unknown_settings,
)

ROWS = 50
NOT_ASKED: Look[Mapping[int, Settings]] = Look(data={})
_WAITING = (State.QUEUED, State.HELD)


class RunRow(NamedTuple):
    """A run in the list."""

    run: RunRecord
    name: str
    state: State
    ended: int
    waiting: int
    took_s: float | None


def fill(view: View, address: Address) -> Content:
    """Return a page of the list."""
    listing, chosen = Listing(view.store.database), read_filter(address.text("q"))
    look = view.settings.look(None, view.version) if chosen.settings else NOT_ASKED
    among = _among(listing, chosen, look.data or {})
    with view.store.reading():
        page = listing.runs(
            ROWS, before=address.whole("before"), after=address.whole("after"), among=among
        )
        rows = [_row(record, view.now) for record in listing.run_records(page.numbers)]
    return Content(
        title="runs",
        values={
            "rows": rows,
            "filter": chosen,
            "notes": _notes(chosen, look),
            "reading": look.data is None,
            "matching": "" if among is None else counted(len(among), "run"),
            "shares": any(row.run.share != 1 for row in rows),
            **address.around(page),
        },
        pending=look.pending,
    )


def _among(
    listing: Listing, chosen: RunFilter, settings: Mapping[int, Settings]
) -> list[int] | None:
    """Return the runs that a filter lets through; None: all."""
    if not chosen.text:
        return None
    names = listing.run_names()
    return [run for run, name in names.items() if matches(chosen, name, settings.get(run, {}))]


def _notes(chosen: RunFilter, look: Look[Mapping[int, Settings]]) -> list[str]:
    """Return what is odd about a filter."""
    if look.trouble or look.data is None:
        return [look.trouble] if look.trouble else []
    known = {name for values in look.data.values() for name in values}
    return unknown_settings(chosen, known)


def _row(run: RunRecord, now: float) -> RunRow:
    return RunRow(
        run=run,
        name=harmless(run.name),
        state=state_of(run),
        ended=sum(run.counts.get(state, 0) for state in ENDED),
        waiting=sum(run.counts.get(state, 0) for state in _WAITING),
        took_s=took_s(run, now),
    )


def state_of(run: RunRecord) -> State:
    """Return in which state a run is as a whole: that of the job that matters most."""
    order = (State.RUNNING, State.QUEUED, State.HELD, State.FAILED, State.CANCELLED, State.SKIPPED)
    return next((state for state in order if run.counts.get(state)), State.DONE)


PAGE = Page(name="runs", path="runs", fill=fill, menu="Runs")
