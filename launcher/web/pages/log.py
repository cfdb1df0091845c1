"""The log of an attempt, a window of it at a time: a log may have gigabytes."""

from launcher.screens.format import harmless
from launcher.web.log_file import attempt_of, read_window
from launcher.web.pages.page import Address, Content, Page, View


def fill(view: View, address: Address) -> Content:
    """Return some lines of a log: its last ones where the address names no place."""
    number = address.number("job")
    attempt = attempt_of(view, number, address.whole("attempt"))
    row = view.store.read.jobs_by_id([number])[0]
    begin, end = address.whole("from"), address.whole("to")
    window = None if attempt is None else read_window(attempt.log, begin=begin, end=end)
    links = {"older": "", "newer": "", "first": "", "last": ""}
    if window is not None and window.begin:
        links["older"] = address.changed(**{"to": window.begin, "from": None})
        links["first"] = address.changed(**{"to": None, "from": 0})
    if window is not None and not window.at_end:
        links["newer"] = address.changed(**{"to": None, "from": window.end})
        links["last"] = address.changed(**{"to": None, "from": None})
    shown = address.whole("attempt", row.attempts) or 0
    return Content(
        title=f"log of {harmless(row.name)}",
        values={
            "row": row,
            "name": harmless(row.name),
            "attempt": shown,
            "attempts": [
                (each, address.changed(**{"attempt": each, "from": None, "to": None}))
                for each in range(max(1, row.attempts - 19), row.attempts + 1)
            ],
            "window": window,
            "links": links,
            "follows": begin is None and end is None and shown == row.attempts,
        },
        files=() if attempt is None else (attempt.log,),
    )


PAGE = Page(name="log", path="jobs/{job:int}/log", fill=fill)
