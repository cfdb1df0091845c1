"""The line of `launcher wait` in a terminal: how many jobs are in each state, and why none runs."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from launcher.queue.jobs.states import State
from launcher.queue.store.feed import JobTracker
from launcher.queue.texts import tally, why
from launcher.system.live_display import live_area
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import line

_AFTER_S = 1.0  # a shorter wait needs no line
_EVERY_S = 1.0  # seconds between two drawings


@contextmanager
def wait_line(tracker: JobTracker) -> Iterator[Callable[[str], None]]:
    """Draw the line on the standard error, below messages. It is removed at the end.

    The context is a function that prints a message, if it is not empty, and draws the line again when it is due.

    Args:
        tracker: The awaited jobs.
    """
    next_at = time.monotonic() + _AFTER_S
    with live_area(live=True) as show:

        def draw(message: str) -> None:
            nonlocal next_at
            now = time.monotonic()
            if not message and now < next_at:
                return
            lines = [line(wait_text(tracker))] if now >= next_at else []
            next_at = max(next_at, now + _EVERY_S) if lines else next_at
            show([line(message)] if message else [], lines)

        yield draw


def wait_text(tracker: JobTracker) -> str:
    """Return the line: the states of the jobs and, if none runs, why the first one waits."""
    rows = tracker.rows.values()
    counts = Counter(row.state for row in rows)
    text = f"waiting: {tally(counts)}"
    first = min((row.id for row in rows if row.state is State.QUEUED), default=None)
    if first is not None and not counts[State.RUNNING]:
        # the reason of a job changes without an event
        for row in tracker.store.read.jobs_by_id([first]):
            text += f". Job {first}: {why(row)}"
    return sanitize_terminal(text)
