"""The pages of jobs: what the queue is at, a list of all, one with all that is known of it, and its log.

A log is shown a window at a time, for it may have gigabytes; all of it is sent as the program wrote it.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from markupsafe import Markup

from launcher.errors import counted
from launcher.screens.dashboard.job_page import NEEDS
from launcher.screens.format import ORDER, named, zone
from launcher.screens.gpu_view import Gauge, notes
from launcher.screens.host import host_line
from launcher.screens.job_details import (
    attempt_cells,
    event_cells,
    facts_of,
    record_of,
    result_cells,
)
from launcher.screens.job_view import newest_of, views_of
from launcher.screens.pilots import draw_pilots
from launcher.screens.queue_view import jobs_listed, recent, running, waiting
from launcher.screens.snapshots import Screen
from launcher.states import OPEN, ReasonCode, State
from launcher.store.listings import JobFilter, Listing
from launcher.store.rows import JobRow
from launcher.system.files import read_part
from launcher.system.text import harmless
from launcher.units import format_bytes
from launcher.web.charts import curves_of, spark, stacked_bar
from launcher.web.page import Address, Content
from launcher.web.steering import buttons_of
from launcher.web.view import NotThere, View, job_of


def memory_bar(gauge: Gauge) -> Markup:
    """Return a GPU's memory as a bar: ours, others', promised; striped where its use is unknown."""
    gpu = gauge.gpu
    if gpu.used is None or not gpu.total:
        return stacked_bar((("unknown", 1.0),), "the memory in use is unknown")
    amounts = [*zip(("ours", "others", "promised"), gauge.amounts, strict=True)]
    note = ", ".join(
        f"{format_bytes(amount)} {_SHOWN.get(word, word)}" for word, amount in amounts if amount
    )
    shares = tuple((word, amount / gpu.total) for word, amount in amounts)
    return stacked_bar(shares, f"{note or 'nothing'} of {format_bytes(gpu.total)}")


_SHOWN = {"promised": "reserved"}  # class of a bar's part → its word for people
WAITING = 40
HOST_COLUMNS = 120  # in which all of the line has room: a browser breaks it
PILOT_COLUMNS = 96  # of the table of pilots, whose lines are drawn as for a terminal


def fill_overview(view: View, _address: Address) -> Content:
    """Return what the queue is at."""
    screen = view.queue.look(waiting=WAITING, sought="")
    works = [work.id for work in screen.running]
    left = screen.ended_more
    return Content(
        title=f"{len(works)} running" if works else "queue",
        values={
            "screen": screen,
            "memory_bar": memory_bar,
            "spark": spark,
            "notes": notes,
            "host": host_line(screen.host, HOST_COLUMNS).spans if screen.host else (),
            "runs": list(_runs(screen)),
            "pilots": draw_pilots(screen.pilots, screen.at, PILOT_COLUMNS),
            "running": running(screen),
            "waiting": waiting(screen),
            "recent": recent(screen),
            "ended_more": counted(left, "more job") if left > 0 else "",
        },
        files=view.progress_of(view.store.read.jobs_by_id(works) if works else ()),
    )


def _runs(screen: Screen) -> Iterator[tuple[str, int, int, float | None]]:
    """Give how far each run with open jobs is, and when it will be done, where that is known."""
    for name, (ended, every) in screen.active.items():
        left_s = screen.left_of(name)
        yield name, ended, every, None if left_s is None else screen.at + left_s


# --- all jobs, and one

ROWS = 100
LONGEST_TEXT = 200
_GROUPS = {"waiting": frozenset({State.QUEUED, State.HELD}), "open": OPEN}


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


LOG_BYTES = 1 << 14  # of its end
EVENTS = 50  # that are listed, the newest ones


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


# --- the log of an attempt

WINDOW_BYTES = 1 << 16
CHUNK_BYTES = 1 << 18
_ATTEMPTS = 20  # that have a link, the newest ones


def fill_log(view: View, address: Address) -> Content:
    """Return some lines of a log: its last ones where the address names no place."""
    row, attempt, log = _asked_for(view, address)
    begin, end = address.whole("from"), address.whole("to")
    return Content(
        title=f"log of {harmless(row.name)}",
        values={
            "row": row,
            "attempt": attempt,
            "attempts": range(max(1, row.attempts - _ATTEMPTS + 1), row.attempts + 1),
            "window": read_part(log, begin=begin, end=end, most_bytes=WINDOW_BYTES),
            "follows": begin is None and end is None and attempt == row.attempts,
        },
        files=(log,),
    )


def whole_log(view: View, address: Address) -> tuple[Iterator[bytes], int]:
    """Return a log piece by piece, and its length as it is now.

    Raises:
        NotThere: there is none.
    """
    row, _, log = _asked_for(view, address)
    try:
        size = log.stat().st_size
    except OSError as error:
        raise NotThere(f"job {row.id} has no log yet") from error
    return _pieces(log, size), size


def _asked_for(view: View, address: Address) -> tuple[JobRow, int, Path]:
    """Return a job, the attempt of it that an address names, else the newest; 0: it has none yet; and its log.

    Raises:
        NotThere: there is no such job, or no such attempt.
    """
    row, number = job_of(view.store, address.number), address.whole("attempt")
    if number is not None and not 1 <= number <= row.attempts:
        raise NotThere(f"job {row.id} has no attempt {number} (attempts: {row.attempts})")
    attempt = number or row.attempts
    return row, attempt, view.home.attempt(row.id, attempt).log


def _pieces(log: Path, size: int) -> Iterator[bytes]:
    """Give so many bytes of a file, which may grow meanwhile."""
    with log.open("rb") as file:
        while size > 0 and (piece := file.read(min(CHUNK_BYTES, size))):
            size -= len(piece)
            yield piece
