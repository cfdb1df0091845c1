"""The log of a job, of any size: followed as it grows, looked back in, searched piece by piece in a thread of its own."""

import re
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from launcher.screens.dashboard.page import LOG_HINTS, Later, Window, standing_out
from launcher.screens.format import harmless
from launcher.screens.text_table import Line, Tone, folded, line, shortened
from launcher.system.files import LINE_END, Part, read_part
from launcher.units import format_bytes

PIECE = 1 << 20  # bytes that are read at once
PAUSE_S = 0.001  # after each piece: the screen takes its turn
_MOST_BYTES = 12  # of a character: some become three in capitals


class LogSearch:
    """Goes through a log once, from a place to its end and on from its beginning, or the other way round.

    Capitals do not matter.
    """

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
        self._lower = text.lower().encode() if text.isascii() else b""
        self._regex = re.compile(b"".join(map(_spellings, text)))
        self._longest = len(self._lower) or _MOST_BYTES * len(text)  # bytes of a match, at most

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
        seen = 0
        with self._file.open("rb") as log:
            size = log.seek(0, 2)
            for begin, end, wrapped in pieces(size, self._start, backwards=self.backwards):
                if self._left:
                    return
                log.seek(begin)
                # what begins in this piece may end in the next one
                place = self._find(log.read(end - begin + self._longest - 1), end - begin)
                if place >= 0:
                    self.hit, self.wrapped = begin + place, wrapped
                    return
                seen += end - begin
                self.share = seen / size
                time.sleep(PAUSE_S)

    def _find(self, data: bytes, end: int) -> int:
        """Return where the text begins first before `end`, backwards where last; -1 where it does not."""
        if self._lower:  # ten times as fast as a regular expression
            data = data.lower()
            find = data.rfind if self.backwards else data.find
            return find(self._lower, 0, end + len(self._lower) - 1)
        places = [match.start() for match in self._regex.finditer(data) if match.start() < end]
        return places[-1 if self.backwards else 0] if places else -1


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
_NO_PART = Part(b"", 0, 0)


class LogTail:
    """A part of a log in lines of the screen, read again when it has changed."""

    def __init__(self) -> None:
        """Begin with no log."""
        self.anchor: int | None = None  # the byte around which it lies; None: the log's end
        self.log: Path | None = None  # in which it was read last
        self._read: tuple[object, ...] = ()  # of which state of the log it is
        self._part = _NO_PART  # from the beginning of a line on
        self._width = 0
        self._lines: list[str] = []
        self._places: list[int] = []  # of each of these, where its line of the log begins in that

    @property
    def has_before(self) -> bool:
        """There is more of the log before what is shown."""
        return self._part.begin > 0

    @property
    def has_after(self) -> bool:
        """There is more of the log after what is shown."""
        return self._part.end < self._part.size

    def lines(self, log: Path | None, width: int, *, back: bool = False) -> list[str]:
        """Return a part of a log, in lines of so many columns at most.

        Args:
            log: the file, which need not exist.
            width: columns.
            back: the user scrolls back in it: a long log does not move meanwhile.
        """
        size, changed = 0, 0
        if log is not None:
            with suppress(OSError):  # there is none, or the job was cleaned meanwhile
                status = log.stat()
                size, changed = status.st_size, status.st_mtime_ns
        if self.anchor is not None and self.anchor >= size:
            self.anchor = None  # it was written anew
        state = (log, size, changed, self.anchor)
        has_grown = log == self.log and size >= max(self._part.size, MOST_BYTES)
        if state != self._read and not (back and self.anchor is None and has_grown):
            self.log, self._read, self._width = log, state, 0
            self._part = _NO_PART if log is None else _part_around(log, self.anchor)
        if width != self._width:
            self._width = width
            self._fold(width)
        return self._lines

    def row_of(self, place: int) -> int | None:
        """Return on which line of the screen a byte of the log is; None: not on one of these."""
        data, first, _ = self._part
        if not 0 <= place - first < max(1, len(data)) or not self._places:
            return None
        start = self._places[bisect_right(self._places, place) - 1]
        before = data[start - first : place - first].decode(errors="replace")
        return bisect_left(self._places, start) + len(_shown(before + "x", self._width)) - 1

    def place_of(self, row: int) -> int:
        """Return which byte of the log the line begins with that is on a line of the screen."""
        first = self._part.begin
        return max(first, self._places[row]) if row < len(self._places) else first

    def _fold(self, width: int) -> None:
        self._lines, self._places = [], []
        data, first, size = self._part
        if self.has_before:
            self._lines.append(f"… {format_bytes(first)} before this"[:width])
            self._places.append(first - 1)
        begins = [0, *(match.end() for match in LINE_END.finditer(data))]
        for begin, text in zip(begins, LINE_END.split(data), strict=True):
            if begin < len(data):  # what follows the last end is no line
                pieces = _shown(text.decode(errors="replace"), width)
                self._lines += pieces
                self._places += [first + begin] * len(pieces)
        if self.has_after:
            after = format_bytes(size - self._part.end)
            self._lines.append(f"… {after} after this"[:width])
            self._places.append(self._places[-1])


def _part_around(log: Path, anchor: int | None) -> Part:
    """Read what lies before a byte and after it; None: the last lines."""
    if anchor is None:
        return read_part(log, most_bytes=MOST_BYTES) or _NO_PART
    before = read_part(log, end=anchor, most_bytes=MOST_BYTES // 2) or _NO_PART
    after = read_part(log, begin=before.end, most_bytes=MOST_BYTES // 2) or _NO_PART
    return Part(before.data + after.data, before.begin, after.size)


def _shown(text: str, width: int) -> list[str]:
    """Return a line of a log as lines of the screen."""
    return folded(harmless(text.expandtabs(TAB)), width)


_SHOWN = 16  # columns of what is looked for
_ABOVE = 3  # of so many parts of the window, one is above what was found


class LogPage:
    """Shows a log; a search goes on beside it."""

    hints = LOG_HINTS

    def __init__(self, later: Later) -> None:
        """Begin at the end of no log.

        Args:
            later: runs a search beside everything else.
        """
        self.log: Path | None = None  # that is to be shown
        self._later = later
        self._window = Window(follows=True)
        self._tail = LogTail()
        self._search: LogSearch | None = None
        self._text = ""  # that was looked for last
        self._hit: int | None = None  # the byte that was found last
        self._note = ""  # on the last search
        self._goal: int | None = None  # the byte that is to be brought into sight

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
        if not text or self._tail.log is None:
            return
        hit = self._hit if text == self._text else None
        self._text = text
        start = self._tail.place_of(self._window.top) if hit is None else hit + (not backwards)
        search = LogSearch(self._tail.log, text, start=start, backwards=backwards)
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
            case "G":
                self._tail.anchor = None
                self._window.follows, self._note = True, ""
            case "g":
                self._look_at(0)
                self._note = ""
            case _ if not self._turn(key):
                return self._window.press(key)
        return True

    def draw(self, width: int, height: int) -> list[Line]:
        """Return what the window shows."""
        log = self.log
        if log != self._tail.log:
            self.leave_search()
            self._hit, self._note, self._goal = None, "", None
            self._tail.anchor = None
        self._take_hit()
        lines = self._tail.lines(log, width, back=not self._window.follows)
        self._window.fit(len(lines), height)
        if not lines:
            absence = "it has not run yet" if log is None else "nothing is written yet"
            return [line(absence, Tone.DIM)]
        self._reach_goal()
        window = self._window
        row = None if self._hit is None else self._tail.row_of(self._hit)
        shown = [line(text) for text in lines[window.top : window.end]]
        if row is not None and window.top <= row < window.end:
            shown[row - window.top] = standing_out(shown[row - window.top], width)
        return shown

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
            self._hit = search.hit
            self._look_at(search.hit)
            again = f" from the {'end' if search.backwards else 'beginning'}" * search.wrapped
            self._note = f"{text!r}{again}: n next, N before"

    def _turn(self, key: str) -> bool:
        """Read what lies beyond the part that is shown, where a key goes there; tell whether it does."""
        window, tail = self._window, self._tail
        if key in {"k", "pageup"} and window.top == 0 and tail.has_before:
            row = 0
        elif key in {"j", "pagedown"} and window.end == window.count and tail.has_after:
            row = window.end - 1
        else:
            return False
        self._look_at(tail.place_of(row))
        return True

    def _look_at(self, place: int) -> None:
        """Show what lies around a byte of the log."""
        self._goal = self._tail.anchor = place
        self._window.follows = False

    def _reach_goal(self) -> None:
        """Scroll to the byte that is to be seen."""
        goal, self._goal = self._goal, None
        row = None if goal is None else self._tail.row_of(goal)
        if row is not None:
            self._window.top = 0
            self._window.move(row - self._window.height // _ABOVE)
