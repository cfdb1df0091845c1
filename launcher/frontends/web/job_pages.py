"""The pages of jobs: a list of all jobs, and one page per job."""

import time
from collections.abc import Mapping
from typing import Any

from launcher.frontends.screens.dashboard.job_page import NEEDS
from launcher.frontends.screens.job_details import (
    attempt_cells,
    event_cells,
    facts_of,
    result_cells,
)
from launcher.frontends.screens.job_records import record_of
from launcher.frontends.screens.job_view import job_views, read_newest_progress
from launcher.frontends.screens.queue_view import job_table
from launcher.frontends.web.curves import curves_values
from launcher.frontends.web.page import Address, PageContent
from launcher.frontends.web.steering import buttons_of
from launcher.frontends.web.view import QueueView, job_of
from launcher.queue.jobs.states import OPEN_STATES, ReasonCode, State
from launcher.queue.store.listings import ListingFilter, ListingQueries
from launcher.queue.texts import ORDER, format_job_names, utc_offset
from launcher.system.errors import pluralize
from launcher.system.log_files import read_file_part
from launcher.system.text import sanitize_terminal

ROWS = 100
LONGEST_TEXT = 200
_GROUPS = {"waiting": frozenset({State.QUEUED, State.HELD}), "open": OPEN_STATES}
LOG_BYTES = 1 << 14  # bytes at the end of the log
LEFT_OUT = 12  # printed names that are listed
EVENTS = 50  # events that are listed, the newest ones


def _left_out_names(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the fact that names the printed names that are not results, if there are some."""
    names = [*record["left_out"]]
    left = len(names) - LEFT_OUT
    more = f" and {left} more" if left > 0 else ""
    return (
        [("printed names that are no results", f"{', '.join(names[:LEFT_OUT])}{more}")]
        if names
        else []
    )


def jobs_context(view: QueueView, address: Address) -> PageContent:
    """Return a page of the list, filtered by state and by a text."""
    listing, chosen = ListingQueries(view.store.database), filter_of(address)
    with view.store.database.reading():
        page = listing.jobs(
            chosen, ROWS, older_than=address.integer("before"), newer_than=address.integer("after")
        )
        rows = {row.id: row for row in view.store.read.jobs_by_id(page.numbers)}
        lines = job_views(view.home, view.store, [rows[job] for job in page.numbers if job in rows])
        counts = view.store.read.current_counts()
        tags = view.store.job_control.tags_of(rows)
    word = address.text("state")
    return PageContent(
        title="jobs",
        values={
            "table": job_table(lines, view.now),
            "tags": tags,
            "filter": chosen,
            "states": [state for state in ORDER if counts.get(state) or state == word],
            "counts": counts,
            **address.page_links(page),
        },
        files=view.progress_of(row for row in rows.values() if row.state is State.RUNNING),
    )


def filter_of(address: Address) -> ListingFilter:
    """Return the filter of an address; an unknown state does not filter."""
    word = address.text("state")
    states = _GROUPS.get(word, frozenset({State(word)} if word in set(State) else ()))
    return ListingFilter(states=states, text=address.text("q").strip()[:LONGEST_TEXT])


def job_context(view: QueueView, address: Address) -> PageContent:
    """Return the page of a job."""
    row, store = job_of(view.store, address.number), view.store
    needy = store.read.dependents_of([row.id]) if row.state in OPEN_STATES else []
    record = record_of(view.home, store, row, needy)
    attempt = row.attempt_in(view.home)
    state = row.state if row.paused is None or row.wish else ReasonCode.PAUSED
    head = utc_offset(time.time())  # as the foot of the page names it
    # the owner's tags and note are already above
    facts = facts_of({**record, "tags": [], "owner_note": None}, row)
    return PageContent(
        title=f"{sanitize_terminal(row.name)} · {state}",
        values={
            "row": row,
            "shown_state": state,
            "record": record,
            "note_lines": [
                sanitize_terminal(line.expandtabs()) for line in row.owner_note.splitlines()
            ],
            "step": read_newest_progress(view.home, row).step,
            "buttons": [] if view.read_only else buttons_of(row, store),
            "facts": [
                *((name.strip(), text) for name, text in facts),
                *(("numbers that do not count", fault) for fault in record["number_faults"]),
                *_left_out_names(record),
            ],
            "attempts": attempt_cells(view.home, record, head)[::-1],
            "events": event_cells(record, head)[::-1][:EVENTS],
            "events_left": max(0, len(record["events"]) - EVENTS),
            "results": result_cells(record),
            "needs": store.read.first_dependencies_of(row.id, NEEDS),
            "needs_left": max(0, len(record["needs"]) - NEEDS),
            "needy": f"{pluralize(len(needy), 'open job')}: {format_job_names(needy)}"
            if needy
            else "",
            "log": read_file_part(attempt.log, most_bytes=LOG_BYTES),
            **curves_values(view, address, [row]),
        },
        files=(attempt.log, attempt.progress),
    )
