"""What the pages of `launcher top` have in common: keys, lines in sections, the job that is chosen, and a window.

Pages of text that does not change, help and command lines of jobs, are no more than that.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, Protocol

from launcher.screens.text_table import Column, Line, Span, Table, Tone, folded, line, width_of

Later = Callable[[Callable[[], None]], None]  # runs something that may take seconds


# keys that mean what another does
SAME = {"down": "j", "up": "k", "space": "pagedown", "home": "g", "end": "G"}


class Page(Protocol):
    """Something that fills the screen but for its bottom line."""

    @property
    def job(self) -> int | None:
        """The job that keys such as c and h mean, None where there is none."""

    @property
    def hints(self) -> Sequence[tuple[str, str]]:
        """The keys that the bottom line lists."""

    def press(self, key: str) -> bool:
        """Take a key, of several for one thing the one in SAME; tell whether it meant something here."""

    def draw(self, width: int, height: int) -> list[Line]:
        """Return as many lines as fit into so many columns and rows, or fewer."""


LONGEST = 200  # characters


class Prompt(NamedTuple):
    """What is typed in the bottom line until Enter or Escape."""

    label: str
    hint: str
    done: Callable[[str], None]
    text: str = ""
    longest: int = LONGEST
    live: bool = False  # it holds while it is typed, and is '' when it is left


def standing_out(row: Line, width: int) -> Line:
    """Return a line as that of what is chosen, over the whole width."""
    return line(row.text + " " * (width - width_of(row.text)), Tone.CHOSEN)


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
        for job, rows in groupby(entries, lambda entry: entry.job):
            first = len(lines)
            lines += rows
            if job is not None:
                stops.append(Stop(section, job, first, end=len(lines)))
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


_Keys = tuple[tuple[str, str], ...]
_HELP_KEY, _BACK, _TURN = ("?", "help"), ("Esc", "back"), ("Tab", "next page")
_STEER: _Keys = (
    ("c", "cancel"),
    ("r", "retry"),
    ("h", "hold"),
    ("l", "release"),
    ("p u", "pause, resume"),
    ("+ -", "priority"),
)
_WRITE: _Keys = (("e", "edit"), ("t n", "tags, note"))
_COPY = ("y", "copy")
HINTS: _Keys = (
    _HELP_KEY,
    ("q", "quit"),
    ("Enter", "open"),
    ("/", "filter"),
    *_STEER,
    ("L", "log"),
    ("m", "mark"),
    ("s", "sort"),
    *_WRITE,
    _COPY,
    ("w", "why"),
    ("Tab", "next section"),
)  # the first stay where there is little room
JOB_HINTS: _Keys = (_HELP_KEY, _BACK, _TURN, *_STEER, *_WRITE, _COPY)
LOG_HINTS: _Keys = (
    _HELP_KEY,
    _BACK,
    ("/", "search"),
    ("n N", "next, before"),
    ("g G", "begin, end"),
    _TURN,
    *_STEER[:2],
    _COPY,
)
METRICS_HINTS: _Keys = (_HELP_KEY, _BACK, ("[ ]", "metric"), _TURN)
# hints left out of a read-only screen
WATCHING = frozenset(key for key, _ in (*_STEER, *_WRITE))
_HELP = (
    (
        "everywhere",
        (
            ("j k, arrows", "move down and up"),
            ("PageDown PageUp, Space", "move by a screen"),
            ("g G, Home End", "go to the beginning or the end"),
            ("?", "this page"),
            (
                "Ctrl-A E W U K",
                "while typing, go to the beginning or the end, delete a word, or delete all before or after",
            ),
            ("q, Esc", "back; on the first screen, q leaves"),
            ("Ctrl-C", "leave at once; the jobs continue"),
            ("Ctrl-Z", "suspend; `fg` returns"),
        ),
    ),
    (
        "the queue",
        (
            ("Tab, Shift-Tab", "next section, previous section"),
            ("Enter", "open the job: settings, attempts, log, metrics"),
            ("w", "open the job at the reason of its state"),
            ("L", "open its log"),
            ("/", "show jobs with a text, glob or number in their name or run; Esc shows all"),
            ("m", "mark or unmark the job, and move to the next"),
            ("M", "mark or unmark all jobs of the list"),
            ("U", "unmark all"),
            ("s S", "sort the lists by name, wait, memory, time or priority; S reverses"),
        ),
    ),
    (
        "the selected job, or all marked jobs; each key asks for confirmation",
        (
            ("h", "hold: the job does not start until it is released"),
            ("l", "release a held job"),
            ("p", "pause a running job: its processes stop, its resources stay reserved"),
            ("u", "resume a paused job"),
            ("c", "cancel: a running job gets SIGTERM, and SIGKILL after its grace period"),
            ("r", "retry a failed, cancelled or skipped job"),
            ("+ -", "raise or lower the priority; one point is worth a day of waiting"),
        ),
    ),
    (
        "texts of the selected job or all marked jobs; Esc changes nothing",
        (
            ("t", "tags; for marked jobs, TAG adds a tag and -TAG removes it"),
            ("n", "note (not while a log is open)"),
            ("e", "change the job in your editor, as `launcher edit` does"),
            ("y", "show the command line and copy it to the clipboard of the terminal"),
        ),
    ),
    (
        "an opened job",
        (
            ("1 2 3, Tab", "overview, log, metrics"),
            ("/", "in the log: search from here, ignoring case, and wrap around at the end"),
            ("n N", "in the log: next or previous match, until Esc ends the search"),
            ("g G", "in the log: go to the beginning, or to the end and follow it"),
            ("[ ]", "in the metrics: previous metric, next metric"),
        ),
    ),
)
_SIGNS = (
    ("▸ ◆", "selected job, marked job"),
    ("● ◐ ○ ‖", "running, paused, queued, held"),
    ("✓ ✗ – ·", "done, failed, cancelled, skipped"),
    ("▲", "used more memory than requested"),
)


def help_page(width: int) -> list[Line]:
    """Return what every key does."""
    lines = [line("launcher top: the keys", Tone.STRONG)]
    for title, keys in (*_HELP, ("signs", _SIGNS)):
        rows = [(Span(f"  {key}", Tone.STRONG), what) for key, what in keys]
        lines += [line(""), line(title, Tone.HEAD)]
        lines += Table((Column(), Column(least=20, rows=3)), rows).drawn(width)
    return lines


def hints(keys: Sequence[tuple[str, str]], width: int) -> Line:
    """Return the bottom line: as many keys as there is room for."""
    spans: list[Span] = []
    left = width
    for key, what in keys:
        needed = len(key) + 1 + len(what) + (2 if spans else 0)
        if needed > left:
            break
        left -= needed
        gap = "  " if spans else ""
        spans += [Span(f"{gap}{key}", Tone.STRONG), Span(f" {what}", Tone.DIM)]
    return Line(tuple(spans))


_TEXT_HINTS = (("q", "back"), ("j k", "scroll"))
_COPIED = (
    "sent to the clipboard of the terminal (OSC 52). If it does not support that, copy from here"
)


class TextPage:
    """A page of text that is scrolled, such as help."""

    job = None

    def __init__(
        self,
        text: Callable[[int], list[Line]],
        hints: Sequence[tuple[str, str]] = _TEXT_HINTS,
    ) -> None:
        """Begin at its top.

        Args:
            text: returns it in so many columns.
            hints: the keys that the bottom line lists.
        """
        self.text, self.hints, self.window = text, hints, Window()

    def press(self, key: str) -> bool:
        """Scroll."""
        return self.window.press(key)

    def draw(self, width: int, height: int) -> list[Line]:
        """Return what fits."""
        lines = self.text(width)
        self.window.fit(len(lines), height)
        return lines[self.window.top : self.window.end]


def command_page(commands: Sequence[str], width: int) -> list[Line]:
    """Return command lines as a shell reads them, for terminals that take no text for their clipboard.

    Each begins in a line of its own, and is broken wherever the screen ends.
    """
    pieces = [piece for command in commands for piece in folded(command, width)]
    return [line(_COPIED, Tone.DIM).cut(width), line(""), *map(line, pieces)]
