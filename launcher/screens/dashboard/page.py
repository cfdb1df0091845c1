"""What the pages of `launcher top` have in common: sections of lines, the jobs among them, and the one that is chosen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from launcher.screens.format import harmless
from launcher.screens.text_table import Line, Span, Tone, line

Later = Callable[[Callable[[], None]], None]  # runs something that may take seconds


class Drawn(NamedTuple):
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


LONGEST = 200  # characters
_TYPED_ROOM = 8  # columns for what is typed, however narrow the screen is


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
            case _ if character:
                self._add(character)
        return True

    def paste(self, text: str) -> None:
        """Take in the first line of what was pasted."""
        self._add(next(iter(text.splitlines()), ""))

    def draw(self, width: int) -> Line:
        """Return the line."""
        tail = f"  {self.hint}"
        room = max(_TYPED_ROOM, width - len(tail) - len(self.label) - len(": _"))
        spans = (
            Span(f"{self.label}: ", Tone.STRONG),
            Span(f"{harmless(self.text[-room:])}_"),
            Span(tail, Tone.DIM),
        )
        return Line(spans).cut(width)

    def _add(self, text: str) -> None:
        self._write(self.text + "".join(filter(str.isprintable, text)))

    def _write(self, text: str) -> None:
        self.text = text[: self.longest]
        self.changed(self.text)


class Stop(NamedTuple):
    """Where the cursor may rest: a job in a section, and the lines that it takes."""

    section: str
    job: int
    first: int
    end: int  # the line after its last


class Layout(NamedTuple):
    """Sections one below the other, with an empty line between two."""

    lines: tuple[Line, ...]
    stops: tuple[Stop, ...]
    tops: tuple[int, ...]  # where the sections begin

    def find(self, chosen: Stop | None, place: int) -> int:
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


def laid_out(sections: Mapping[str, Sequence[Line]]) -> Layout:
    """Return sections, by their names, as one list of lines, and where their jobs are."""
    lines: list[Line] = []
    stops: list[Stop] = []
    tops: list[int] = []
    for section, entries in sections.items():
        lines += [line("")] if lines else []
        tops.append(len(lines))
        for entry in entries:
            first = len(lines)
            lines.append(entry)
            if entry.job is None:
                continue
            if stops and stops[-1].end == first and stops[-1].job == entry.job:
                first = stops.pop().first
            stops.append(Stop(section, entry.job, first, end=len(lines)))
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
        match key:
            case "j" | "down":
                self.move(1)
            case "k" | "up":
                self.move(-1)
            case "pagedown" | "space":
                self.move(self.page)
            case "pageup":
                self.move(-self.page)
            case "g" | "home":
                self.move(-self.count)
            case "G" | "end":
                self.move(self.count)
            case _:
                return False
        return True

    @property
    def _most(self) -> int:
        return max(0, self.count - self.height)
