"""Pages of text that does not change, such as help."""

from collections.abc import Callable, Sequence

from launcher.frontends.screens.dashboard.page import Window
from launcher.system.text_table import TextLine, TextStyle, fold, line

_TEXT_HINTS = (("q", "back"), ("j k", "scroll"))
_COPIED = (
    "sent to the clipboard of the terminal (OSC 52). If it does not support that, copy from here"
)


class TextPage:
    """A page of text that is scrolled, such as help."""

    job = None

    def __init__(
        self,
        text: Callable[[int], list[TextLine]],
        hints: Sequence[tuple[str, str]] = _TEXT_HINTS,
    ) -> None:
        """Begin at its top.

        Args:
            text: returns it in this many columns.
            hints: the keys that the bottom line lists.
        """
        self.text, self.hints, self.window = text, hints, Window()

    def press(self, key: str) -> bool:
        """Scroll."""
        return self.window.press(key)

    def draw(self, width: int, height: int) -> list[TextLine]:
        """Return what fits."""
        lines = self.text(width)
        self.window.fit(len(lines), height)
        return lines[self.window.top : self.window.end]


def command_page(commands: Sequence[str], width: int) -> list[TextLine]:
    """Return command lines as a shell reads them, for terminals that take no text for their clipboard.

    Each begins in a line of its own, and is broken wherever the screen ends.
    """
    pieces = [piece for command in commands for piece in fold(command, width)]
    return [line(_COPIED, TextStyle.DIM).truncate(width), line(""), *map(line, pieces)]
