"""A search in a log of any size, piece by piece in a thread of its own."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

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
        self.error = ""  # why the log cannot be read
        self.progress = 0.0  # of the log that was looked at
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
        """Search until the text is found, all was looked at, or the search is left."""
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
                # what begins in this piece may end in the next one
                place = self._find(log.read(end - begin + self._longest - 1), end - begin)
                if place >= 0:
                    self.hit, self.wrapped = begin + place, wrapped
                    return
                seen += end - begin
                self.progress = seen / size
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
