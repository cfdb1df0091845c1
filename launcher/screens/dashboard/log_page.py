"""The log of a job, of any size: followed as it grows, looked back in, searched piece by piece in a thread of its own."""

import re
import time
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from launcher.screens.dashboard.page import Drawn, Later, Window
from launcher.screens.format import harmless
from launcher.screens.text_table import Tone, line, shortened, width_of
from launcher.units import format_bytes

PIECE = 1 << 20  # bytes that are read at once
PAUSE_S = 0.001  # after each piece: the screen takes its turn
_MOST_BYTES = 12  # of a character: some become three in capitals


class Pattern:
    """A text as it may stand in a log, in capitals or not."""

    def __init__(self, text: str) -> None:
        """Look for a text that is not empty."""
        self._lower = text.lower().encode() if text.isascii() else b""
        self._regex = re.compile(b"".join(map(_spellings, text)))
        self.longest = len(self._lower) or _MOST_BYTES * len(text)  # bytes of a match, at most

    def first(self, data: bytes, end: int) -> int:
        """Return where it begins first, before `end`; -1 where it does not."""
        if self._lower:  # ten times as fast as a regular expression
            return data.lower().find(self._lower, 0, end + len(self._lower) - 1)
        match = self._regex.search(data)
        return match.start() if match and match.start() < end else -1

    def last(self, data: bytes, end: int) -> int:
        """Return where it begins last, before `end`; -1 where it does not."""
        if self._lower:
            return data.lower().rfind(self._lower, 0, end + len(self._lower) - 1)
        places = (match.start() for match in self._regex.finditer(data))
        return max((place for place in places if place < end), default=-1)


class LogSearch:
    """Goes through a log once, from a place to its end and on from its beginning, or the other way round."""

    def __init__(self, file: Path, text: str, *, start: int, backwards: bool = False) -> None:
        """Read nothing yet.

        Args:
            file: the log.
            text: what is looked for; not empty.
            start: the byte where the search begins.
            backwards: look before it; the nearest is found.
        """
        self.text, self.backwards = text, backwards
        self.hit: int | None = None  # the first byte of what was found
        self.wrapped = False  # it was found on the other side of the log's end, or beginning
        self.trouble = ""  # why the log cannot be read
        self.share = 0.0  # of the log that was looked at
        self.over = False
        self._file, self._start = file, start
        self._left = False

    def leave(self) -> None:
        """End the search as soon as possible."""
        self._left = True

    def run(self) -> None:
        """Search until the text is found, all was looked at, or the search is left."""
        try:
            self._run()
        except OSError as error:
            self.trouble = f"the log cannot be read: {error.strerror or error}"
        finally:
            self.over = True

    def _run(self) -> None:
        pattern = Pattern(self.text)
        seen = 0
        with self._file.open("rb") as log:
            size = log.seek(0, 2)
            for begin, end, wrapped in pieces(size, self._start, backwards=self.backwards):
                if self._left:
                    return
                log.seek(begin)
                # what begins in this piece may end in the next one
                data = log.read(end - begin + pattern.longest - 1)
                find = pattern.last if self.backwards else pattern.first
                place = find(data, end - begin)
                if place >= 0:
                    self.hit, self.wrapped = begin + place, wrapped
                    return
                seen += end - begin
                self.share = seen / size
                time.sleep(PAUSE_S)


def pieces(size: int, start: int, *, backwards: bool) -> Iterator[tuple[int, int, bool]]:
    """Return where each piece of a log begins and ends, and whether it lies on the other side of `start`.

    A match belongs to the piece in which it begins.

    Args:
        size: of the log, in bytes.
        start: where the search begins; backwards, the byte before it is the first that counts.
        backwards: towards the beginning of the log, and on from its end.
    """
    start = min(max(0, start), size)
    sides = [(0, start), (start, size)] if backwards else [(start, size), (0, start)]
    for number, (begin, end) in enumerate(sides):
        places = range(begin, end, PIECE)
        for place in reversed(places) if backwards else places:
            yield place, min(place + PIECE, end), bool(number)


def _spellings(char: str) -> bytes:
    forms = dict.fromkeys(form for form in (char, char.lower(), char.upper(), char.title()))
    return b"(?:" + b"|".join(re.escape(form.encode(errors="replace")) for form in forms) + b")"


MOST_BYTES = 1 << 20  # that are read at once
TAB = 8
_BREAK = re.compile(rb"\r\n|\n|\r")


class _Seen(NamedTuple):
    """Which part of which log was read."""

    log: Path
    begin: int
    end: int
    changed: int  # when the log was changed, in ns; 0 where the part does not reach to its end


class LogTail:
    """Reads a part of a log again when it has changed."""

    def __init__(self) -> None:
        """Begin with no log."""
        self._read: _Seen | None = None
        self._anchor: int | None = None  # the byte in the middle of the part; None: the log's end
        self._size = 0
        self._data = b""  # what is shown, from the beginning of a line on
        self._begin = 0  # where that stands in the log
        self._texts: list[str] = []
        self._width = 0
        self._lines: list[str] = []
        self._line_begins: list[int] = []  # none until they are asked for
        self._firsts: list[int] = []  # of each line of the log, its first line on the screen

    @property
    def has_before(self) -> bool:
        """There is more of the log before what is shown."""
        return self._begin > 0

    @property
    def has_after(self) -> bool:
        """There is more of the log after what is shown."""
        return self._read is not None and self._read.end < self._size

    def look_at(self, place: int | None) -> None:
        """Show what lies around a byte of the log from now on; None: its end."""
        self._anchor = place

    def lines(self, log: Path | None, width: int, *, back: bool = False) -> list[str]:
        """Return a part of a log, in lines of so many columns at most.

        Args:
            log: the file, which need not exist.
            width: columns.
            back: the user scrolls back in it: a long log does not move meanwhile.
        """
        changed = self._take(log, back=back)
        if changed or width != self._width:
            self._width = width
            self._fold(width)
        return self._lines

    def row_of(self, place: int) -> int | None:
        """Return on which line of the screen a byte of the log is; None: not on one of these."""
        before = place - self._begin
        if not 0 <= before < max(1, len(self._data)) or not self._firsts:
            return None
        number = min(bisect_right(self._begins(), before), len(self._firsts)) - 1
        begin = self._begins()[number]
        text = self._data[begin:before].decode(errors="replace")
        return self._firsts[number] + len(_folded(text + "x", self._width)) - 1

    def place_of(self, row: int) -> int:
        """Return which byte of the log the line begins with that is on a line of the screen."""
        number = bisect_right(self._firsts, row) - 1
        return self._begin + (self._begins()[number] if number > 0 else 0)

    def _begins(self) -> list[int]:
        """Return where each line begins in what was read."""
        if not self._line_begins:
            self._line_begins = [0, *(match.end() for match in _BREAK.finditer(self._data))]
        return self._line_begins

    def _fold(self, width: int) -> None:
        pieces = [_folded(text, width) for text in self._texts]
        head = [f"… {format_bytes(self._begin)} before this"] if self.has_before else []
        self._firsts = [*accumulate(map(len, pieces[:-1]), initial=len(head))] if pieces else []
        self._lines = [note[:width] for note in head]
        self._lines += [piece for group in pieces for piece in group]
        if self.has_after and self._read is not None:
            self._lines.append(f"… {format_bytes(self._size - self._read.end)} after this"[:width])

    def _take(self, log: Path | None, *, back: bool) -> bool:
        """Read the log where it is not as it was; tell whether that was so."""
        try:
            if log is None:
                return self._forget()
            status = log.stat()
            part = self._part(log, status.st_size, status.st_mtime_ns)
            if part == self._read and self._size == status.st_size:
                return False
            if back and self._anchor is None and _goes_on(self._read, part):
                return False
            with log.open("rb") as file:
                file.seek(part.begin)
                data = file.read(part.end - part.begin)
        except OSError:  # there is none, or the job was cleaned meanwhile
            return self._forget()
        self._read, self._size = part, status.st_size
        self._show(data)
        return True

    def _part(self, log: Path, size: int, changed: int) -> _Seen:
        """Return which part of a log is to be shown."""
        if self._anchor is not None and self._anchor >= size:
            self._anchor = None  # it was written anew
        if self._anchor is None:
            return _Seen(log, max(0, size - MOST_BYTES), size, changed)
        begin = min(max(0, self._anchor - MOST_BYTES // 2), max(0, size - MOST_BYTES))
        end = min(size, begin + MOST_BYTES)
        return _Seen(log, begin, end, changed if end == size else 0)

    def _show(self, data: bytes) -> None:
        """Split what was read into lines; the first one is left out where it begins further back."""
        assert self._read is not None
        self._begin = self._read.begin
        cut = _BREAK.search(data) if self._begin else None
        needed = len(data) if self._anchor is None else self._anchor - self._begin
        if cut is not None and cut.end() < len(data) and cut.end() <= needed:
            data = data[cut.end() :]
            self._begin += cut.end()
        self._data, self._line_begins = data, []
        text = data.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
        self._texts = text.removesuffix("\n").split("\n") if text else []

    def _forget(self) -> bool:
        changed = self._read is not None
        self._read, self._anchor, self._size = None, None, 0
        self._data, self._begin, self._texts, self._line_begins = b"", 0, [], []
        return changed


def _goes_on(before: _Seen | None, now: _Seen) -> bool:
    """Tell whether a log has grown, and is longer than what is read of it."""
    if before is None or now.log != before.log:
        return False
    return now.end >= max(before.end, MOST_BYTES)


def _folded(text: str, width: int) -> list[str]:
    """Return a line of a log as lines of the screen."""
    shown = harmless(text.expandtabs(TAB))
    if width_of(shown) <= width:
        return [shown]
    if shown.isascii():
        return [shown[at : at + width] for at in range(0, len(shown), width)]
    pieces, piece, taken = [], "", 0
    for char in shown:
        needed = width_of(char)
        if taken + needed > width and piece:
            pieces.append(piece)
            piece, taken = "", 0
        piece += char
        taken += needed
    return [*pieces, piece]


UP = frozenset({"k", "up", "pageup"})
DOWN = frozenset({"j", "down", "pagedown", "space"})
_SHOWN = 16  # columns of what is looked for
_ABOVE = 3  # of so many parts of the window, one is above what was found


class LogPage:
    """Shows a log; a search goes on beside it."""

    def __init__(self, later: Later) -> None:
        """Begin at the end of no log.

        Args:
            later: runs a search beside everything else.
        """
        self._later = later
        self._window = Window(follows=True)
        self._tail = LogTail()
        self._log: Path | None = None
        self._search: LogSearch | None = None
        self._text = ""  # that was looked for last
        self._hit: int | None = None  # the byte that was found last
        self._note = ""  # on the last search
        self._goal: int | None = None  # the byte that is to be brought into sight

    @property
    def searches(self) -> bool:
        """A search is under way."""
        return self._search is not None

    @property
    def place(self) -> str:
        """Where in the log we are, or how far a search is."""
        if self._search is not None:
            text = harmless(shortened(self._search.text, _SHOWN))
            return f"searching {text!r}: {self._search.share:.0%}; Esc leaves"
        if self._note:
            return self._note
        if self._window.follows:
            return "follows; k, PageUp look back; / searches"
        if self._tail.has_before or self._tail.has_after:
            return "G follows again; / searches"
        return f"line {self._window.top + 1} of {self._window.count}; G follows again"

    def search(self, text: str, *, backwards: bool = False) -> None:
        """Look for a text from here on, or from what was found last if it is the same."""
        self.leave_search()
        if not text or self._log is None:
            return
        same = text == self._text and self._hit is not None
        self._text = text
        if same and self._hit is not None:
            start = self._hit if backwards else self._hit + 1
        else:
            start = self._tail.place_of(self._window.top)
        search = LogSearch(self._log, text, start=start, backwards=backwards)
        self._search, self._note = search, ""
        self._later(search.run)

    def leave_search(self) -> bool:
        """End the search that is under way; tell whether there was one."""
        search, self._search = self._search, None
        if search is not None:
            search.leave()
        return search is not None

    def press(self, key: str) -> bool:
        """Scroll, or search on."""
        match key:
            case "n" | "N":
                self.search(self._text, backwards=key == "N")
            case "escape":
                shown = bool(self._note)
                self._note, self._hit = "", None
                return self.leave_search() or shown
            case "G" | "end":
                self._tail.look_at(None)
                self._window.follows, self._note = True, ""
            case "g" | "home":
                self._goal = 0
                self._tail.look_at(0)
                self._window.follows, self._note = False, ""
            case _ if not self._turn(key):
                return self._window.press(key)
        return True

    def draw(self, log: Path | None, width: int, height: int) -> Drawn:
        """Return what the window shows."""
        if log != self._log:
            self.leave_search()
            self._log, self._hit, self._note, self._goal = log, None, "", None
            self._tail.look_at(None)
        self._take_hit()
        lines = self._tail.lines(log, width, back=not self._window.follows)
        self._window.fit(len(lines), height)
        if not lines:
            absence = "it has not run yet" if log is None else "nothing is written yet"
            return Drawn(lines=[line(absence, Tone.DIM)])
        self._reach_goal()
        window = self._window
        row = None if self._hit is None else self._tail.row_of(self._hit)
        shown = [line(text) for text in lines[window.top : window.end]]
        if row is None or not window.top <= row < window.end:
            return Drawn(lines=shown)
        return Drawn(lines=shown, chosen=range(row - window.top, row - window.top + 1))

    def _take_hit(self) -> None:
        """Take in what a search has come to."""
        search = self._search
        if search is None or not search.over:
            return
        self._search = None
        text = harmless(shortened(search.text, _SHOWN))
        if search.trouble:
            self._note = harmless(search.trouble)
        elif search.hit is None:
            self._hit, self._note = None, f"{text!r} is not in this log"
        else:
            self._hit = self._goal = search.hit
            self._tail.look_at(search.hit)
            self._window.follows = False
            again = f" from the {'end' if search.backwards else 'beginning'}" * search.wrapped
            self._note = f"{text!r}{again}: n next, N before"

    def _turn(self, key: str) -> bool:
        """Read what lies beyond the part that is shown, where a key goes there; tell whether it does."""
        window, tail = self._window, self._tail
        if key in UP and window.top == 0 and tail.has_before:
            row = 0
        elif key in DOWN and window.end == window.count and tail.has_after:
            row = window.end - 1
        else:
            return False
        place = tail.place_of(row)
        self._goal = place
        tail.look_at(place)
        window.follows = False
        return True

    def _reach_goal(self) -> None:
        """Scroll to the byte that is to be seen."""
        goal, self._goal = self._goal, None
        row = None if goal is None else self._tail.row_of(goal)
        if row is not None:
            self._window.top = 0
            self._window.move(row - self._window.height // _ABOVE)
