"""The numbers that a job reports, read at intervals and drawn as curves."""

import time

from launcher.frontends.screens.chart import chart, number
from launcher.frontends.screens.dashboard.keys import METRICS_HINTS
from launcher.queue.home.paths import Attempt
from launcher.queue.workers.progress.attempt_progress import read_reported_steps
from launcher.queue.workers.progress.steps import RATE, STEP, Point, curves, unit_of
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import TextLine, TextSpan, TextStyle, line

LEAST_ROWS = 8  # rows of a curve; with more room there are several


class Metrics:
    """Reads the reports of a job, rarely enough to stay cheap."""

    hints = METRICS_HINTS

    def __init__(self) -> None:
        """Begin with nothing."""
        self.attempt: Attempt | None = None  # attempt that is to be shown
        self._next = 0.0
        self._read: Attempt | None = None
        self._curves: dict[str, list[Point]] = {}
        self._unit = STEP
        self._first = 0

    def press(self, key: str) -> bool:
        """Show another curve first."""
        self._first += {"[": -1, "]": 1}.get(key, 0)
        return key in {"[", "]"}

    def draw(self, width: int, height: int) -> list[TextLine]:
        """Return as many curves as there is room for."""
        self._take(self.attempt)
        if not self._curves:
            return [
                line(
                    "no curves: this attempt has reported no steps. Numbers without a step: 1",
                    TextStyle.DIM,
                )
            ]
        names = list(self._curves)
        self._first %= len(names)
        room = max(1, min(height // LEAST_ROWS, len(names)))
        shown = (names[self._first :] + names[: self._first])[:room]
        rows = height // room
        lines: list[TextLine] = []
        for name in shown:
            points = self._curves[name]
            place = f"{names.index(name) + 1} of {len(names)}"
            unit = "/s" if name == RATE else ""
            floor = 0.0 if name == RATE else None
            title = (
                TextSpan(sanitize_terminal(name), TextStyle.STRONG),
                TextSpan(f"  {number(points[-1][1])}{unit}"),
                TextSpan(f"  metric {place}, by {self._unit}", TextStyle.DIM),
            )
            lines += [TextLine(title).truncate(width), *chart(points, width, rows - 1, floor=floor)]
        return lines

    def _take(self, attempt: Attempt | None) -> None:
        now = time.monotonic()
        if attempt == self._read and now < self._next:
            return
        self._read = attempt
        steps = [] if attempt is None else read_reported_steps(attempt)
        self._curves, self._unit = curves(steps), unit_of(steps)
        self._next = now + (time.monotonic() - now) / SHARE


SHARE = 0.02  # part of a page's time that reading may take: a job may be needed by very many
