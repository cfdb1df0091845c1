"""A part of a log: its end as it grows, or what lies around a place in it."""

import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from launcher.screens.format import harmless
from launcher.screens.text_table import width_of
from launcher.units import format_bytes

MOST_BYTES = 1 << 20  # that are read at once
TAB = 8
_BREAK = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class _Seen:
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
