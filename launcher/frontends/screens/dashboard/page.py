"""Common parts of the pages of `launcher top`: lines in sections, the selected job, and a scrolling window."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, Protocol

from launcher.system.text_table import TextLine, TextStyle, line, width_of

RunInBackground = Callable[[Callable[[], None]], None]  # runs a function that may take seconds
LONGEST = 200  # characters of typed text


class DashboardPage(Protocol):
    """A page, which fills the screen except its bottom line."""

    @property
    def job(self) -> int | None:
        """The job for keys such as c and h, or None."""

    @property
    def hints(self) -> Sequence[tuple[str, str]]:
        """The keys that the bottom line lists."""

    def press(self, key: str) -> bool:
        """Handle a key, after `KEY_ALIASES`; return whether the key has an effect on this page."""

    def draw(self, width: int, height: int) -> list[TextLine]:
        """Return at most `height` lines of at most `width` columns."""


class Prompt(NamedTuple):
    """A prompt for text in the bottom line, until Enter or Escape."""

    label: str
    hint: str
    done: Callable[[str], None]
    text: str = ""
    longest: int = LONGEST
    live: bool = False  # `done` is called while typing, and with '' after Escape


def highlight_line(row: TextLine, width: int) -> TextLine:
    """Return a line highlighted over the whole width."""
    return line(row.text + " " * (width - width_of(row.text)), TextStyle.CHOSEN)


class CursorStop(NamedTuple):
    """A position of the cursor: a job in a section, and its lines."""

    section: str
    job: int
    first: int
    end: int  # the line after the last one of the stop


class Layout(NamedTuple):
    """Sections one below the other, with an empty line between two."""

    lines: tuple[TextLine, ...]
    stops: tuple[CursorStop, ...]
    tops: tuple[int, ...]  # first lines of the sections

    def find(self, cursor_stop: CursorStop | None, place: int) -> int:
        """Return the index of the stop of the selected job, or 0 if none was selected.

        Args:
            cursor_stop: where the cursor was.
            place: which of all stops that was; it is taken where the job is gone.
        """
        if cursor_stop is None or not self.stops:
            return 0
        same = [n for n, stop in enumerate(self.stops) if stop.job == cursor_stop.job]
        there = [n for n in same if self.stops[n].section == cursor_stop.section]
        return next(iter([*there, *same]), min(place, len(self.stops) - 1))


def lay_out_sections(sections: Mapping[str, Sequence[TextLine]]) -> Layout:
    """Return sections (name → lines) as one list of lines, with the positions of their jobs."""
    lines: list[TextLine] = []
    stops: list[CursorStop] = []
    tops: list[int] = []
    for section, entries in sections.items():
        lines += [line("")] if lines else []
        tops.append(len(lines))
        for job, rows in groupby(entries, lambda entry: entry.job):
            first = len(lines)
            lines += rows
            if job is not None:
                stops.append(CursorStop(section, job, first, end=len(lines)))
    return Layout(lines=tuple(lines), stops=tuple(stops), tops=tuple(tops))


@dataclass(slots=True)
class Window:
    """A scrolling window on a list of lines; with `follows` it stays at the end of a growing list."""

    top: int = 0
    follows: bool = False
    count: int = 0  # lines in all
    height: int = 1

    @property
    def end(self) -> int:
        """The index after the last visible line."""
        return min(self.count, self.top + self.height)

    @property
    def page(self) -> int:
        """Lines of a page: one less than the height, so that one line stays visible."""
        return max(1, self.height - 1)

    def fit(self, count: int, height: int) -> None:
        """Set the number of lines and the height."""
        self.count, self.height = count, max(1, height)
        self.top = self._last_top if self.follows else min(max(0, self.top), self._last_top)

    def move(self, lines: int) -> None:
        """Scroll; a window that is moved away from the end stops following."""
        self.top = min(max(0, self.top + lines), self._last_top)
        self.follows = self.follows and self.top == self._last_top

    def show(self, first: int, end: int) -> None:
        """Scroll as little as possible to show these lines, at least the first of them."""
        if end > self.top + self.height:
            self.top = end - self.height
        if first < self.top:
            self.top = first
        self.top = min(max(0, self.top), self._last_top)

    def press(self, key: str) -> bool:
        """Scroll by a key; return whether the key scrolls."""
        by = {
            "j": 1,
            "k": -1,
            "pagedown": self.page,
            "pageup": -self.page,
            "g": -self.count,
            "G": self.count,
        }.get(key)
        if by is not None:
            self.move(by)
        return by is not None

    @property
    def _last_top(self) -> int:
        return max(0, self.count - self.height)
