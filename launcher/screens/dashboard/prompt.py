"""A line that is typed at the bottom of the screen."""

from collections.abc import Callable
from dataclasses import dataclass

from launcher.screens.format import harmless
from launcher.screens.text_table import Line, Span, Tone

LONGEST = 200  # characters
_ROOM = 8  # columns for what is typed, however narrow the screen is


def _nothing(*_: object) -> None:
    """Do nothing."""


@dataclass(slots=True, kw_only=True)
class Prompt:
    """Takes keys until Enter or Escape; what is typed is shown with its end where there is little room."""

    label: str
    hint: str
    done: Callable[[str], None]
    changed: Callable[[str], None] = _nothing  # after each key
    left: Callable[[], None] = _nothing
    text: str = ""
    longest: int = LONGEST

    def press(self, key: str, character: str | None) -> bool:
        """Take a key; tell whether more is to be typed."""
        match key:
            case "enter":
                self.done(self.text)
                return False
            case "escape":
                self.left()
                return False
            case "backspace" | "ctrl+h":
                self._write(self.text[:-1])
            case "ctrl+u":
                self._write("")
            case _ if character and character.isprintable():
                self._write(self.text + character)
        return True

    def paste(self, text: str) -> None:
        """Take in the first line of what was pasted."""
        first = next(iter(text.splitlines()), "")
        self._write(self.text + "".join(char for char in first if char.isprintable()))

    def draw(self, width: int) -> Line:
        """Return the line."""
        tail = f"  {self.hint}"
        room = max(_ROOM, width - len(tail) - len(self.label) - len(": _"))
        spans = (
            Span(f"{self.label}: ", Tone.STRONG),
            Span(f"{harmless(self.text[-room:])}_"),
            Span(tail, Tone.DIM),
        )
        return Line(spans).cut(width)

    def _write(self, text: str) -> None:
        self.text = text[: self.longest]
        self.changed(self.text)
