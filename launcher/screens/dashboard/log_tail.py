"""The end of a log, as it grows."""

import os
from pathlib import Path

from launcher.screens.format import harmless
from launcher.screens.text_table import width_of

MOST_BYTES = 1 << 20  # what lies further back is for `launcher logs`
TAB = 8

_Seen = tuple[Path, int, int]  # which log, its size and its time


class LogTail:
    """Reads the last of a log again when it has changed."""

    def __init__(self) -> None:
        """Begin with no log."""
        self._read: _Seen | None = None
        self._texts: list[str] = []
        self._cut = False
        self._width = 0
        self._lines: list[str] = []

    def lines(self, log: Path | None, width: int, *, back: bool = False) -> list[str]:
        """Return what a log ends with, in lines of so many columns at most.

        Args:
            log: the file, which need not exist.
            width: columns.
            back: the user scrolls back in it: a long log does not move meanwhile.
        """
        changed = self._take(log, back=back)
        if changed or width != self._width:
            self._width = width
            self._lines = [piece for text in self._texts for piece in _folded(text, width)]
            if self._cut:
                note = f"… only the last {MOST_BYTES >> 20} MiB; `launcher logs` prints all"
                self._lines.insert(0, note[:width])
        return self._lines

    def _take(self, log: Path | None, *, back: bool) -> bool:
        """Read the log where it is not as it was; tell whether that was so."""
        try:
            state = None
            if log is not None:
                status = log.stat()
                state = (log, status.st_size, status.st_mtime_ns)
            if state == self._read or (back and _goes_on(self._read, state)):
                return False
            self._read, self._texts, self._cut = state, [], False
            if log is None:
                return True
            with log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                self._cut = size > MOST_BYTES
                file.seek(max(0, size - MOST_BYTES))
                text = file.read(MOST_BYTES).decode(errors="replace")
        except OSError:  # there is none, or the job was cleaned meanwhile
            changed = bool(self._texts)
            self._read, self._texts, self._cut = None, [], False
            return changed
        lines = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
        if self._cut and len(lines) > 1:
            del lines[0]  # its beginning lies further back
        self._texts = lines if text else []
        return True


def _goes_on(before: _Seen | None, now: _Seen | None) -> bool:
    """Tell whether a log has grown, and is longer than what is read of it."""
    if before is None or now is None or now[0] != before[0]:
        return False
    return now[1] >= max(before[1], MOST_BYTES)


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
