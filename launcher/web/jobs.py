"""The pages of jobs: a list of all, and one with all that is known of it."""

import time

from launcher.errors import counted
from launcher.screens.dashboard.job_page import NEEDS
from launcher.screens.format import ORDER, named, zone
from launcher.screens.job_details import attempt_cells, event_cells, facts_of, result_cells
from launcher.screens.job_records import record_of
from launcher.screens.job_view import newest_of, views_of
from launcher.screens.queue_view import jobs_listed
from launcher.states import OPEN, ReasonCode, State
from launcher.store.listings import JobFilter, Listing
from launcher.system.log_files import read_part
from launcher.system.text import harmless
from launcher.web.curves import curves_of
from launcher.web.page import Address, Content
from launcher.web.steering import buttons_of
from launcher.web.view import View, job_of

ROWS = 100
LONGEST_TEXT = 200
_GROUPS = {"waiting": frozenset({State.QUEUED, State.HELD}), "open": OPEN}
LOG_BYTES = 1 << 14  # of its end
EVENTS = 50  # that are listed, the newest ones


def fill_jobs(view: View, address: Address) -> Content:
    """Return a page of the list, filtered by state and by a text."""
    listing, chosen = Listing(view.store.database), filter_of(address)
    with view.store.reading():
        page = listing.jobs(
            chosen, ROWS, before=address.whole("before"), after=address.whole("after")
        )
        rows = {row.id: row for row in view.store.read.jobs_by_id(page.numbers)}
        lines = views_of(view.home, view.store, [rows[job] for job in page.numbers if job in rows])
        counts = view.store.read.counts()
        tags = view.store.steering.tags_of(rows)
    word = address.text("state")
    return Content(
        title="jobs",
        values={
            "table": jobs_listed(lines, view.now),
            "tags": tags,
            "filter": chosen,
            "states": [state for state in ORDER if counts.get(state) or state == word],
            "counts": counts,
            **address.around(page),
        },
        files=view.progress_of(row for row in rows.values() if row.state is State.RUNNING),
    )


def filter_of(address: Address) -> JobFilter:
    """Return the filter that the address has; a word that is no state filters nothing."""
    word = address.text("state")
    states = _GROUPS.get(word, frozenset({State(word)} if word in set(State) else ()))
    return JobFilter(states=states, text=address.text("q").strip()[:LONGEST_TEXT])


def fill_job(view: View, address: Address) -> Content:
    """Return all that is known of a job."""
    row, store = job_of(view.store, address.number), view.store
    needy = store.read.dependants_of([row.id]) if row.state in OPEN else []
    record = record_of(view.home, store, row, needy)
    attempt = row.attempt_in(view.home)
    state = row.state if row.paused is None or row.wish else ReasonCode.PAUSED
    head = zone(time.time())  # as the foot of the page names it
    # what its owner has written stands above
    facts = facts_of({**record, "tags": [], "owner_note": None}, row)
    return Content(
        title=f"{harmless(row.name)} · {state}",
        values={
            "row": row,
            "shown_state": state,
            "record": record,
            "note_lines": [harmless(line.expandtabs()) for line in row.owner_note.splitlines()],
            "step": newest_of(view.home, row).step,
            "buttons": [] if view.read_only else buttons_of(row, store),
            "facts": [(name.strip(), text) for name, text in facts],
            "attempts": attempt_cells(view.home, record, head)[::-1],
            "events": event_cells(record, head)[::-1][:EVENTS],
            "events_left": max(0, len(record["events"]) - EVENTS),
            "results": result_cells(record),
            "needs": store.read.first_needed_by(row.id, NEEDS),
            "needs_left": max(0, len(record["needs"]) - NEEDS),
            "needy": f"{counted(len(needy), 'open job')}: {named(needy)}" if needy else "",
            "log": read_part(attempt.log, most_bytes=LOG_BYTES),
            **curves_of(view, address, [row]),
        },
        files=(attempt.log, attempt.progress),
    )
