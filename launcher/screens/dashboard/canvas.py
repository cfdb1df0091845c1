"""Draws lines on the terminal with Textual, those that have changed only."""

from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from launcher.screens.dashboard.page import Drawn
from launcher.screens.terminal import STYLES
from launcher.screens.text_table import Line, Tone, width_of

CHOSEN = Style(reverse=True)


class Canvas(Widget, can_focus=True):
    """Fills the screen with lines."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "Canvas { width: 100%; height: 100%; }"

    def __init__(self, *, colour: bool) -> None:
        """Begin with nothing.

        Args:
            colour: draw in the terminal's sixteen colours.
        """
        super().__init__()
        self._styles = {tone: _style(tone, colour=colour) for tone in Tone}
        self._rows: Sequence[tuple[Line, bool]] = ()

    def show(self, drawn: Drawn) -> None:
        """Draw these lines in place of those before."""
        before = self._rows
        self._rows = [(row, place in drawn.chosen) for place, row in enumerate(drawn.lines)]
        width = self.size.width
        if len(before) != len(self._rows):
            self.refresh()
            return
        changed = [
            Region(0, place, width, 1)
            for place, (old, new) in enumerate(zip(before, self._rows, strict=True))
            if old != new
        ]
        if changed:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        """Return a row of the screen."""
        width = self.size.width
        if y >= len(self._rows):
            return Strip.blank(width)
        drawn, chosen = self._rows[y]
        if chosen:
            text = drawn.text
            return Strip([Segment(text + " " * max(0, width - width_of(text)), CHOSEN)])
        segments = [Segment(span.text, self._styles[span.tone]) for span in drawn.spans]
        return Strip(segments).adjust_cell_length(width)


def _style(tone: Tone, *, colour: bool) -> Style:
    style = STYLES[tone]
    return Style(
        color=style.get("fg") if colour else None,
        bold=style.get("bold"),
        dim=style.get("dim"),
    )
