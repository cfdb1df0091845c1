"""What the pages of `launcher top` have in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from launcher.screens.text_table import Line

Later = Callable[[Callable[[], None]], None]  # runs something that may take seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A page as it is seen: at most as many lines as fit, some of them chosen."""

    lines: Sequence[Line]
    chosen: range = range(0)


class Page(Protocol):
    """Something that fills the screen but for its bottom line."""

    @property
    def job(self) -> int | None:
        """The job that keys such as c and h mean, None where there is none."""

    @property
    def hints(self) -> Sequence[tuple[str, str]]:
        """The keys that the bottom line lists."""

    def press(self, key: str) -> bool:
        """Take a key; tell whether it meant something here."""

    def draw(self, width: int, height: int) -> Drawn:
        """Return the page in so many columns and rows."""


class Terminal(Protocol):
    """What can be done with the terminal beside drawing on it."""

    def copy(self, text: str) -> None:
        """Send a text to its clipboard; many terminals take none."""

    def run_verb(self, *words: str) -> None:
        """Run a verb of the command line, which has the terminal until it ends."""
