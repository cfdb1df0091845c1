"""One job: why it is as it is, how far it is, what happened to it, and what may be done to it."""

from collections.abc import Sequence
from typing import NamedTuple

from launcher.errors import counted
from launcher.screens.dashboard.job_actions import TEXTS, JobAction, propose
from launcher.screens.dashboard.job_page import NEEDS
from launcher.screens.format import harmless, named
from launcher.screens.gpu_view import labels_of
from launcher.screens.job_details import attempt_cells, event_cells, facts_of, record_of
from launcher.screens.snapshots import newest_of
from launcher.states import OPEN
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.web.log_file import read_window
from launcher.web.pages.curves import SMOOTHINGS, plots_of, wanted_of
from launcher.web.pages.page import Address, Content, NotThere, Page, View
from launcher.web.rendering import PAUSED
from launcher.web.steering import KEYS, LABELS

LOG_BYTES = 1 << 14  # of its end
EVENTS = 50  # that are listed, the newest ones


class Button(NamedTuple):
    """What may be done to a job now."""

    verb: str
    label: str
    key: str  # of the keyboard


def fill(view: View, address: Address) -> Content:
    """Return all that is known of a job."""
    number = address.number("job")
    rows = view.store.read.jobs_by_id([number])
    if not rows:
        raise NotThere(f"there is no job {number}; it may have been cleaned")
    row = rows[0]
    needy = view.store.read.dependants_of([number]) if row.state in OPEN else []
    record = record_of(view.home, view.store, row, needy)
    attempt = view.home.attempt(row.id, row.attempts) if row.attempts else None
    labels = labels_of(view.home)
    wanted = wanted_of(address, [row])
    return Content(
        title=f"{harmless(row.name)} · {PAUSED if row.paused is not None else row.state}",
        values={
            "row": row,
            "name": harmless(row.name),
            "run": harmless(row.run),
            "record": record,
            "note_lines": [harmless(line.expandtabs()) for line in row.owner_note.splitlines()],
            "step": newest_of(view.home, row).step,
            "buttons": [] if view.read_only else buttons_of(row, view.store),
            "facts": [(name.strip(), text) for name, text in facts_of(_without_texts(record), row)],
            "attempts": [attempt_cells(each, labels) for each in record["attempts"]][::-1],
            "events": [_stripped(cells) for cells in event_cells(record["events"])[::-1][:EVENTS]],
            "events_left": max(0, len(record["events"]) - EVENTS),
            "results": [(harmless(str(key)), _plain(value)) for key, value in _result(record)],
            "needs": view.store.read.first_needed_by(number, NEEDS),
            "needs_left": max(0, len(record["needs"]) - NEEDS),
            "needy": f"{counted(len(needy), 'open job')}: {named(needy)}" if needy else "",
            "log": None if attempt is None else read_window(attempt.log, most_bytes=LOG_BYTES),
            "plots_list": plots_of(view, wanted),
            "wanted": wanted,
            "smoothings": SMOOTHINGS,
        },
        files=() if attempt is None else (attempt.log, attempt.progress),
    )


def buttons_of(row: JobRow, store: Store) -> list[Button]:
    """Return what may be done to a job now."""
    return [
        Button(verb=verb, label=LABELS[verb], key=key)
        for verb, key in KEYS.items()
        if verb in TEXTS or isinstance(propose(key, row, store), JobAction)
    ]


def _without_texts(record: dict[str, object]) -> dict[str, object]:
    """Return a record without what its owner has written: that stands above."""
    return {**record, "tags": [], "owner_note": None}


def _result(record: dict[str, object]) -> list[tuple[object, object]]:
    result = record["result"]
    return list(result.items()) if isinstance(result, dict) else []


def _stripped(cells: Sequence[str]) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in cells)


def _plain(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else harmless(str(value))


PAGE = Page(name="job", path="jobs/{job:int}", fill=fill)
