"""All jobs, page by page, filtered by state and by a text."""

from typing import NamedTuple

from launcher.screens.format import ORDER
from launcher.screens.snapshots import lines_of
from launcher.states import OPEN, State
from launcher.store.listings import JobFilter, Listing
from launcher.web.pages.page import Address, Content, Page, View

ROWS = 100
LONGEST_TEXT = 200
_GROUPS = {"waiting": frozenset({State.QUEUED, State.HELD}), "open": OPEN}


class StateLink(NamedTuple):
    """A state by which the list can be filtered."""

    word: str
    number: int
    link: str
    chosen: bool


def fill(view: View, address: Address) -> Content:
    """Return a page of the list."""
    listing, chosen = Listing(view.store.database), filter_of(address)
    with view.store.reading():
        page = listing.jobs(
            chosen, ROWS, before=address.whole("before"), after=address.whole("after")
        )
        rows = {row.id: row for row in view.store.read.jobs_by_id(page.numbers)}
        lines = lines_of(view.home, view.store, [rows[job] for job in page.numbers if job in rows])
        counts = view.store.read.counts()
        tags = view.store.steering.tags_of(rows)
    running = [row for row in rows.values() if row.state is State.RUNNING]
    return Content(
        title="jobs",
        values={
            "lines": lines,
            "tags": tags,
            "filter": chosen,
            "states": _links(address, counts),
            "everything": address.changed(state=None, before=None, after=None),
            **address.around(page),
        },
        files=tuple(view.home.attempt(row.id, row.attempts).progress for row in running),
    )


def filter_of(address: Address) -> JobFilter:
    """Return the filter that the address has; a word that is no state filters nothing."""
    word = address.text("state")
    states = _GROUPS.get(word, frozenset({State(word)} if word in set(State) else ()))
    return JobFilter(states=states, text=address.text("q").strip()[:LONGEST_TEXT])


def _links(address: Address, counts: dict[State, int]) -> list[StateLink]:
    chosen = address.text("state")
    return [
        StateLink(
            word=state,
            number=counts.get(state, 0),
            link=address.changed(state=state, before=None, after=None),
            chosen=state == chosen,
        )
        for state in ORDER
        if counts.get(state) or state == chosen
    ]


PAGE = Page(name="jobs", path="jobs", fill=fill, menu="Jobs")
