"""A search in a log of any size, chunk by chunk in a thread of its own."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

PIECE = 1 << 20  # bytes that are read at once
PAUSE_S = 0.001  # seconds after each chunk, so that the screen can draw
_MOST_BYTES = 12  # bytes of a character; upper case turns some into three characters


class LogSearch:
    """Searches a log once: from an offset to its end, then from its beginning, or in the opposite direction.

    Case is ignored.
    """

    def __init__(self, file: Path, text: str, *, start: int, backwards: bool = False) -> None:
        """Create the search; `run` starts it.

        Args:
            file: the log.
            text: the text to find; not empty.
            start: offset in bytes where the search begins.
            backwards: search towards the beginning; the nearest match is found.
        """
        self.text, self.backwards = text, backwards
        self.hit: int | None = None  # offset of the match
        self.wrapped = False  # whether the search passed an end of the log to find the match
        self.error = ""  # why the log cannot be read
        self.progress = 0.0  # searched share of the log, 0 to 1
        self.is_finished = False
        self._file, self._start = file, start
        self._is_cancelled = False
        self._lower = text.lower().encode() if text.isascii() else b""
        self._regex = re.compile(b"".join(map(_spellings, text)))
        self._longest = len(self._lower) or _MOST_BYTES * len(text)  # bytes of a match, at most

    def cancel(self) -> None:
        """End the search as soon as possible."""
        self._is_cancelled = True

    def run(self) -> None:
        """Search until the text is found, the whole log was searched, or the search is cancelled."""
        try:
            self._run()
        except OSError as error:
            self.error = f"the log cannot be read: {error.strerror or error}"
        finally:
            self.is_finished = True

    def _run(self) -> None:
        seen = 0
        with self._file.open("rb") as log:
            size = log.seek(0, 2)
            for begin, end, wrapped in pieces(size, self._start, backwards=self.backwards):
                if self._is_cancelled:
                    return
                log.seek(begin)
                # a match may cross the border of two chunks
                place = self._find(log.read(end - begin + self._longest - 1), end - begin)
                if place >= 0:
                    self.hit, self.wrapped = begin + place, wrapped
                    return
                seen += end - begin
                self.progress = seen / size
                time.sleep(PAUSE_S)

    def _find(self, data: bytes, end: int) -> int:
        """Return the first match before `end`, or the last one if backwards; -1 if there is none."""
        if self._lower:  # ten times as fast as a regular expression
            data = data.lower()
            find = data.rfind if self.backwards else data.find
            return find(self._lower, 0, end + len(self._lower) - 1)
        places = [match.start() for match in self._regex.finditer(data) if match.start() < end]
        return places[-1 if self.backwards else 0] if places else -1


def pieces(size: int, start: int, *, backwards: bool) -> Iterator[tuple[int, int, bool]]:
    """Yield begin and end of each chunk of a log, and whether the search has wrapped around before it.

    A match belongs to the chunk in which it begins.

    Args:
        size: size of the log, in bytes.
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
