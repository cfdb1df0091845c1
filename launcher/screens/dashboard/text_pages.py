"""Pages of text that does not change: what the keys do, and command lines of jobs."""

from collections.abc import Sequence

from launcher.screens.dashboard.key_bindings import help_page
from launcher.screens.dashboard.layout import Window
from launcher.screens.dashboard.page import Drawn
from launcher.screens.text_table import Line, Tone, line, width_of
from launcher.screens.text_width import beginning

_HINTS = (("q", "back"), ("j k", "scroll"))
_COPIED = "sent to the terminal's clipboard (OSC 52); where it takes none, copy from here"


class Help:
    """The page that tells what the keys do."""

    job = None
    hints = _HINTS

    def __init__(self) -> None:
        """Begin at its top."""
        self._window = Window()

    def press(self, key: str) -> bool:
        """Scroll."""
        return self._window.press(key)

    def draw(self, width: int, height: int) -> Drawn:
        """Return what fits."""
        return _seen(self._window, help_page(width), height)


class CommandPage:
    """Command lines as a shell reads them, for terminals that take no text for their clipboard."""

    job = None
    hints = _HINTS

    def __init__(self, commands: Sequence[str]) -> None:
        """Show these, each beginning in a line of its own."""
        self._commands = commands
        self._window = Window()

    def press(self, key: str) -> bool:
        """Scroll."""
        return self._window.press(key)

    def draw(self, width: int, height: int) -> Drawn:
        """Return what fits; a command line is broken wherever the screen ends."""
        lines = [line(_COPIED, Tone.DIM).cut(width), line("")]
        lines += [piece for command in self._commands for piece in _broken(command, width)]
        return _seen(self._window, lines, height)


def _seen(window: Window, lines: Sequence[Line], height: int) -> Drawn:
    window.fit(len(lines), height)
    return Drawn(lines=lines[window.top : window.end])


def _broken(text: str, width: int) -> list[Line]:
    pieces = []
    while width_of(text) > width > 1:
        piece = beginning(text, width) or text[:1]
        pieces.append(line(piece))
        text = text[len(piece) :]
    return [*pieces, line(text)]
