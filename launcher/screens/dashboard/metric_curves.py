"""The numbers that a job reports, as curves."""

import time
from collections.abc import Callable
from pathlib import Path

from launcher.screens.chart import chart, number
from launcher.screens.format import harmless
from launcher.screens.text_table import Line, Span, Tone, line
from launcher.workers.progress.curves import RATE, Point, curves
from launcher.workers.progress.steps import history

MOST_BYTES = 1 << 20  # of a progress file: some ten thousand reports
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
        self._file: Path | None = None
        self._curves: dict[str, list[Point]] = {}
        self._first = 0

    def turn(self, by: int) -> None:
        """Show another curve first."""
        self._first += by

    def draw(self, file: Path | None, width: int, height: int) -> list[Line]:
        """Return as many curves as there is room for."""
        self._take(file)
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

    def _take(self, file: Path | None) -> None:
        now = self._clock()
        if file == self._file and now < self._next:
            return
        self._file = file
        self._curves = {} if file is None else curves(history(file, MOST_BYTES))
        self._next = now + (self._clock() - now) / SHARE
