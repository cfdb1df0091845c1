"""The two Textual widgets of the screen: a canvas of lines, and a text input at the bottom."""

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.events import Key, Paste
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input

from launcher.frontends.screens.dashboard.page import Prompt
from launcher.system.terminal import STYLES
from launcher.system.text_table import TextLine, TextSpan, TextStyle, line, width_of

_LEAST_ROOM = 8  # columns for the typed text at any width


class Canvas(Widget):
    """Fills the screen with lines."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "Canvas { width: 100%; height: 100%; }"

    def __init__(self, *, colour: bool) -> None:
        """Create an empty canvas.

        Args:
            colour: draw in the terminal's sixteen colours.
        """
        super().__init__()
        self._styles = {tone: _style(tone, colour=colour) for tone in TextStyle}
        self.rows: Sequence[TextLine] = ()

    def show(self, rows: Sequence[TextLine]) -> None:
        """Draw lines; only changed ones are refreshed."""
        before, self.rows = self.rows, rows
        width = self.size.width
        if len(before) != len(rows):
            self.refresh()
            return
        changed = [
            Region(0, place, width, 1)
            for place, (old, new) in enumerate(zip(before, rows, strict=True))
            if old != new
        ]
        if changed:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        """Return a row of the screen."""
        width = self.size.width
        if y >= len(self.rows):
            return Strip.blank(width)
        segments = [Segment(span.text, self._styles[span.style]) for span in self.rows[y].spans]
        return Strip(segments).adjust_cell_length(width)


def _style(tone: TextStyle, *, colour: bool) -> Style:
    style = dict(STYLES[tone])
    foreground = style.pop("fg", None)
    return Style(color=foreground if colour else None, **style)


class PromptInput(Input):
    """The text input in the bottom line, above the canvas."""

    BINDINGS: ClassVar[list[BindingType]] = [("ctrl+h", "delete_left", "")]  # older terminals' key
    DEFAULT_CSS = """
    PromptInput { layer: typed; dock: bottom; display: none; }
    PromptInput:ansi > .input--cursor { color: ansi_default; background: ansi_default; text-style: reverse; }
    PromptInput:ansi > .input--selection { text-style: underline; }
    """

    def __init__(self) -> None:
        """Create a hidden input."""
        super().__init__(compact=True, select_on_focus=False)
        self.cursor_blink = False  # an idle screen sends nothing to a remote terminal
        self.prompt: Prompt | None = None

    def begin(self, prompt: Prompt) -> None:
        """Show the input for a prompt."""
        self.prompt, self.max_length = prompt, prompt.longest
        self.value = prompt.text[: prompt.longest]
        self.cursor_position = len(self.value)
        self.display = True
        self.screen.set_focus(self)

    def end(self) -> None:
        """Hide the input."""
        self.prompt, self.display = None, False

    def draw(self, prompt: Prompt, width: int) -> TextLine:
        """Place the input in a line of `width` columns, and return the label and hint around it."""
        label = line(f"{prompt.label}: ", TextStyle.STRONG).truncate(max(1, width - _LEAST_ROOM))
        place, tail = width_of(label.text), f"  {prompt.hint}"
        room = width - place - width_of(tail)
        if room < _LEAST_ROOM:
            room, tail = width - place, ""
        self.styles.offset, self.styles.width = (place, 0), room
        return TextLine((*label.spans, TextSpan(" " * room), TextSpan(tail, TextStyle.DIM)))

    async def take(self, prompt: Prompt, event: Key | Paste) -> None:
        """Handle a key, or insert the first line of pasted text."""
        if isinstance(event, Paste):
            self.replace(next(iter(event.text.splitlines()), ""), *self.selection)
        elif event.key == "enter":
            self.end()
            prompt.done(self.value)
        elif event.key == "escape":
            self.end()
            if prompt.live:
                prompt.done("")
        elif event.is_printable:
            self.replace(event.character or "", *self.selection)
        else:
            bound = self.screen.active_bindings.get(event.key)
            if bound is not None:
                await self.run_action(bound.binding.action)

    def replace(self, text: str, start: int, end: int) -> None:
        """Replace a range by the printable characters of a text, up to the maximum length."""
        room = (self.max_length or 0) - len(self.value) + abs(end - start)
        super().replace("".join(filter(str.isprintable, text))[:room], start, end)
