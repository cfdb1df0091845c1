"""The numbers that a job reports, as curves."""

import time
from collections.abc import Callable

from launcher.screens.chart import chart, number
from launcher.screens.format import harmless
from launcher.screens.text_table import Line, Span, Tone, line
from launcher.system.paths import Attempt
from launcher.workers.progress.attempt_progress import reported_steps
from launcher.workers.progress.steps import RATE, Point, curves

LEAST_ROWS = 8  # of a curve; with more room there are several
SHARE = 0.02  # of its time that reading may take


class Metrics:
    """Reads what a job reported, no more often than it costs little."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing.

        Args:
            clock: tells the time in seconds.
        """
        self._clock, self._next = clock, 0.0
        self._attempt: Attempt | None = None
        self._curves: dict[str, list[Point]] = {}
        self._first = 0

    def turn(self, by: int) -> None:
        """Show another curve first."""
        self._first += by

    def draw(self, attempt: Attempt | None, width: int, height: int) -> list[Line]:
        """Return as many curves as there is room for."""
        self._take(attempt)
        if not self._curves:
            return [line("this attempt has reported no numbers", Tone.DIM)]
        names = list(self._curves)
        self._first %= len(names)
        room = max(1, min(height // LEAST_ROWS, len(names)))
        shown = (names[self._first :] + names[: self._first])[:room]
        rows = height // room
        lines: list[Line] = []
        for name in shown:
            points = self._curves[name]
            place = f"{names.index(name) + 1} of {len(names)}"
            unit = "/s" if name == RATE else ""
            floor = 0.0 if name == RATE else None
            title = (
                Span(harmless(name), Tone.STRONG),
                Span(f"  {number(points[-1][1])}{unit}"),
                Span(f"  {place}, over what STEP counts", Tone.DIM),
            )
            lines += [Line(title).cut(width), *chart(points, width, rows - 1, floor=floor)]
        return lines

    def _take(self, attempt: Attempt | None) -> None:
        now = self._clock()
        if attempt == self._attempt and now < self._next:
            return
        self._attempt = attempt
        self._curves = {} if attempt is None else curves(reported_steps(attempt))
        self._next = now + (self._clock() - now) / SHARE
