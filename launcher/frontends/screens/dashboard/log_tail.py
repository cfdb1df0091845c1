"""A part of a log as screen lines, read again when the log changes."""

from bisect import bisect_left, bisect_right
from contextlib import suppress
from pathlib import Path

from launcher.system.log_files import LINE_END, FilePart, read_file_part
from launcher.system.terminal_codes import apply_backspaces
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import fold
from launcher.system.units import format_bytes

MOST_BYTES = 1 << 20  # bytes that are read at once
TAB = 8
_NO_PART = FilePart(b"", 0, 0)


class LogTail:
    """A part of a log as screen lines, read again when the log has changed."""

    def __init__(self) -> None:
        """Create the part without a log."""
        self.anchor: int | None = None  # offset of the window's middle; None: the log's end
        self.log: Path | None = None  # the log that was read last
        self._read: tuple[object, ...] = ()  # log, stamp and anchor of the last read
        self._part = _NO_PART  # begins at the start of a line
        self._width = 0
        self._lines: list[str] = []
        # screen line → offset of the log line to which the screen line belongs
        self._places: list[int] = []

    @property
    def has_before(self) -> bool:
        """Whether the log has bytes before the part."""
        return self._part.begin_offset > 0

    @property
    def has_after(self) -> bool:
        """Whether the log has bytes after the part."""
        return self._part.end_offset < self._part.size

    def lines(self, log: Path | None, width: int, *, is_backwards: bool = False) -> list[str]:
        """Return a part of a log as lines of at most `width` columns.

        Args:
            log: the file, which need not exist.
            width: columns.
            is_backwards: the user scrolls back in it: a long log does not move meanwhile.
        """
        size, changed = 0, 0
        if log is not None:
            with suppress(OSError):  # the log does not exist, or the job was deleted
                status = log.stat()
                size, changed = status.st_size, status.st_mtime_ns
        if self.anchor is not None and self.anchor >= size:
            self.anchor = None  # the log was rewritten
        state = (log, size, changed, self.anchor)
        has_grown = log == self.log and size >= max(self._part.size, MOST_BYTES)
        if state != self._read and not (is_backwards and self.anchor is None and has_grown):
            self.log, self._read, self._width = log, state, 0
            self._part = _NO_PART if log is None else _part_around(log, self.anchor)
        if width != self._width:
            self._width = width
            self._fold(width)
        return self._lines

    def row_of_byte(self, place: int) -> int | None:
        """Return the screen line of an offset in the log, or None if it is outside of the part."""
        data, first, _ = self._part
        if not 0 <= place - first < max(1, len(data)) or not self._places:
            return None
        start = self._places[bisect_right(self._places, place) - 1]
        before = data[start - first : place - first].decode(errors="replace")
        return bisect_left(self._places, start) + len(_wrap_line(before + "x", self._width)) - 1

    def byte_of_row(self, row: int) -> int:
        """Return the offset in the log at which the log line of a screen line begins."""
        first = self._part.begin_offset
        return max(first, self._places[row]) if row < len(self._places) else first

    def _fold(self, width: int) -> None:
        self._lines, self._places = [], []
        data, first, size = self._part
        if self.has_before:
            self._lines.append(f"… {format_bytes(first)} before this"[:width])
            self._places.append(first - 1)
        begins = [0, *(match.end() for match in LINE_END.finditer(data))]
        for begin, text in zip(begins, LINE_END.split(data), strict=True):
            if begin < len(data):  # no line follows the last line break
                pieces = _wrap_line(text.decode(errors="replace"), width)
                self._lines += pieces
                self._places += [first + begin] * len(pieces)
        if self.has_after:
            after = format_bytes(size - self._part.end_offset)
            self._lines.append(f"… {after} after this"[:width])
            self._places.append(self._places[-1])


def _part_around(log: Path, anchor: int | None) -> FilePart:
    """Read the bytes around an offset; with None those at the end."""
    if anchor is None:
        return read_file_part(log, most_bytes=MOST_BYTES) or _NO_PART
    before = read_file_part(log, end=anchor, most_bytes=MOST_BYTES // 2) or _NO_PART
    after = read_file_part(log, begin=before.end_offset, most_bytes=MOST_BYTES // 2) or _NO_PART
    return FilePart(before.data + after.data, before.begin_offset, after.size)


def _wrap_line(text: str, width: int) -> list[str]:
    """Return a log line as screen lines."""
    shown, _ = apply_backspaces(text)
    return fold(sanitize_terminal(shown.expandtabs(TAB)), width)
