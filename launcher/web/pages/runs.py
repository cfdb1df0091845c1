"""All runs, page by page, filtered by their names and by any setting of their jobs."""

from collections.abc import Mapping
from typing import NamedTuple

from launcher.errors import counted
from launcher.screens.format import harmless
from launcher.states import ENDED, State
from launcher.store.screen_queries import RunListing, RunRecord
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
    listing, chosen = RunListing(view.store.database), read_filter(address.text("q"))
    before, after = address.whole("before"), address.whole("after")
    look = view.settings.look(None, view.version) if chosen.settings else NOT_ASKED
    among = _among(listing, chosen, look.data or {})
    with view.store.frames.at_once():
        if after is not None:
            numbers = listing.next_newer(ROWS, after, among)
        else:
            numbers = listing.newest(ROWS, before, among)
        rows = [_row(record, view.now) for record in listing.records(numbers)]
        newest, oldest = (numbers[0], numbers[-1]) if numbers else (0, 0)
        newer = bool(numbers) and bool(listing.next_newer(1, newest, among))
        older = bool(numbers) and bool(listing.newest(1, oldest, among))
    return Content(
        title="runs",
        values={
            "rows": rows,
            "filter": chosen,
            "notes": _notes(chosen, look),
            "reading": look.data is None,
            "matching": "" if among is None else counted(len(among), "run"),
            "shares": any(row.run.share != 1 for row in rows),
            "newer": address.changed(after=newest, before=None) if newer else "",
            "older": address.changed(before=oldest, after=None) if older else "",
            "first": address.changed(before=None, after=None) if newer else "",
        },
        pending=look.pending,
    )


def _among(
    listing: RunListing, chosen: RunFilter, settings: Mapping[int, Settings]
) -> list[int] | None:
    """Return the runs that a filter lets through; None: all."""
    if not chosen.text:
        return None
    names = listing.names()
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
