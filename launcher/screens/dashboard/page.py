"""What the pages of `launcher top` have in common: lines in sections, the job that is chosen, and a window."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, Protocol

from launcher.screens.text_table import TextLine, TextStyle, line, width_of

RunInBackground = Callable[[Callable[[], None]], None]  # runs something that may take seconds
LONGEST = 200  # characters


class DashboardPage(Protocol):
    """Something that fills the screen but for its bottom line."""

    @property
    def job(self) -> int | None:
        """The job that keys such as c and h mean, None where there is none."""

    @property
    def hints(self) -> Sequence[tuple[str, str]]:
        """The keys that the bottom line lists."""

    def press(self, key: str) -> bool:
        """Take a key, of several for one thing the one in SAME; tell whether it meant something here."""

    def draw(self, width: int, height: int) -> list[TextLine]:
        """Return as many lines as fit into so many columns and rows, or fewer."""


class Prompt(NamedTuple):
    """What is typed in the bottom line until Enter or Escape."""

    label: str
    hint: str
    done: Callable[[str], None]
    text: str = ""
    longest: int = LONGEST
    live: bool = False  # it holds while it is typed, and is '' when it is left


def highlight_line(row: TextLine, width: int) -> TextLine:
    """Return a line as that of what is chosen, over the whole width."""
    return line(row.text + " " * (width - width_of(row.text)), TextStyle.CHOSEN)


class CursorStop(NamedTuple):
    """Where the cursor may rest: a job in a section, and the lines that it takes."""

    section: str
    job: int
    first: int
    end: int  # the line after its last


class Layout(NamedTuple):
    """Sections one below the other, with an empty line between two."""

    lines: tuple[TextLine, ...]
    stops: tuple[CursorStop, ...]
    tops: tuple[int, ...]  # where the sections begin

    def find(self, chosen: CursorStop | None, place: int) -> int:
        """Return which stop is that of the job that was chosen; the first one where none was.

        Args:
            chosen: where the cursor was.
            place: which of all stops that was; it is taken where the job is gone.
        """
        if chosen is None or not self.stops:
            return 0
        same = [n for n, stop in enumerate(self.stops) if stop.job == chosen.job]
        there = [n for n in same if self.stops[n].section == chosen.section]
        return next(iter([*there, *same]), min(place, len(self.stops) - 1))


def lay_out_sections(sections: Mapping[str, Sequence[TextLine]]) -> Layout:
    """Return sections, by their names, as one list of lines, and where their jobs are."""
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
    """Where a list of lines is looked at; `follows` keeps to its end as it grows."""

    top: int = 0
    follows: bool = False
    count: int = 0  # lines in all
    height: int = 1

    @property
    def end(self) -> int:
        """The line after the last that is seen."""
        return min(self.count, self.top + self.height)

    @property
    def page(self) -> int:
        """Lines of a screenful, one less than fit so that the eye finds its place again."""
        return max(1, self.height - 1)

    def fit(self, count: int, height: int) -> None:
        """Take note of how many lines there are and fit."""
        self.count, self.height = count, max(1, height)
        self.top = self._most if self.follows else min(max(0, self.top), self._most)

    def move(self, lines: int) -> None:
        """Scroll; a window that follows does so no more where it is moved away from the end."""
        self.top = min(max(0, self.top + lines), self._most)
        self.follows = self.follows and self.top == self._most

    def show(self, first: int, end: int) -> None:
        """Scroll as little as possible so that these lines are seen, the first of them at least."""
        if end > self.top + self.height:
            self.top = end - self.height
        if first < self.top:
            self.top = first
        self.top = min(max(0, self.top), self._most)

    def press(self, key: str) -> bool:
        """Scroll by a key; tell whether it was one of those that scroll."""
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
    def _most(self) -> int:
        return max(0, self.count - self.height)
