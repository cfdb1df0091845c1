"""The log of an attempt: a window of it at a time, for it may have gigabytes; and all of it as the program wrote it."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from launcher.screens.format import harmless
from launcher.store.rows import JobRow
from launcher.system.text import Plain
from launcher.web.pages.page import Address, Content, NotThere, View, job_of

WINDOW_BYTES = 1 << 16
LONGEST_LINE = 2000  # characters; a program may write 10 MB without a line's end
CHUNK_BYTES = 1 << 18
TAB = 8
_ATTEMPTS = 20  # that have a link, the newest ones


class LogWindow(NamedTuple):
    """Some lines of a log, and where in it they are, in bytes."""

    lines: tuple[str, ...]
    begin: int
    end: int
    size: int

    @property
    def at_end(self) -> bool:
        """Nothing follows."""
        return self.end >= self.size


def fill(view: View, address: Address) -> Content:
    """Return some lines of a log: its last ones where the address names no place."""
    row, attempt, log = _asked_for(view, address)
    begin, end = address.whole("from"), address.whole("to")
    return Content(
        title=f"log of {harmless(row.name)}",
        values={
            "row": row,
            "attempt": attempt,
            "attempts": range(max(1, row.attempts - _ATTEMPTS + 1), row.attempts + 1),
            "window": read_window(log, begin=begin, end=end),
            "follows": begin is None and end is None and attempt == row.attempts,
        },
        files=(log,),
    )


def whole_log(view: View, address: Address) -> tuple[Iterator[bytes], int]:
    """Return a log piece by piece, and its length as it is now.

    Raises:
        NotThere: there is none.
    """
    row, _, log = _asked_for(view, address)
    try:
        size = log.stat().st_size
    except OSError as error:
        raise NotThere(f"job {row.id} has no log yet") from error
    return _pieces(log, size), size


def _asked_for(view: View, address: Address) -> tuple[JobRow, int, Path]:
    """Return a job, the attempt of it that an address names, else the newest; 0: it has none yet; and its log.

    Raises:
        NotThere: there is no such job, or no such attempt.
    """
    row, number = job_of(view.store, address.number), address.whole("attempt")
    if number is not None and not 1 <= number <= row.attempts:
        raise NotThere(f"job {row.id} has no attempt {number}: there are {row.attempts}")
    attempt = number or row.attempts
    return row, attempt, view.home.attempt(row.id, attempt).log


def _pieces(log: Path, size: int) -> Iterator[bytes]:
    """Give so many bytes of a file, which may grow meanwhile."""
    with log.open("rb") as file:
        while size > 0 and (piece := file.read(min(CHUNK_BYTES, size))):
            size -= len(piece)
            yield piece


def read_window(
    log: Path, *, begin: int | None = None, end: int | None = None, most_bytes: int = WINDOW_BYTES
) -> LogWindow | None:
    """Return the lines of a log from a byte on, or up to one; without either, its last ones.

    What is read does not depend on how long the log is.

    Args:
        log: the file.
        begin: where the first line begins.
        end: where the last one ends.
        most_bytes: that are read.

    Returns:
        None where there is no such file.
    """
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            if begin is not None:
                first = min(begin, size)
                last = min(size, first + most_bytes)
            else:
                last = size if end is None else min(end, size)
                first = max(0, last - most_bytes)
            file.seek(first)
            data = file.read(last - first)
    except OSError:
        return None
    last = first + len(data)
    if begin is None and first:  # it begins within a line
        cut = data.find(b"\n") + 1
        if 0 < cut < len(data):
            data, first = data[cut:], first + cut
    elif last < size:  # it ends within one
        cut = data.rfind(b"\n") + 1
        if cut:
            data, last = data[:cut], first + cut
    return LogWindow(lines=tuple(_lines(data)), begin=first, end=last, size=size)


def _lines(data: bytes) -> Iterator[str]:
    """Give the lines as a terminal would show them: of what a carriage return overwrites, the last."""
    plain = Plain()
    text = (plain.feed(data) + plain.rest()).decode(errors="replace")
    for line in text.removesuffix("\n").split("\n") if text else ():
        shown = line.rstrip("\r").rpartition("\r")[2]
        cut = len(shown) - LONGEST_LINE
        note = f" … {cut:,} more characters" if cut > 0 else ""
        yield harmless(shown[:LONGEST_LINE].expandtabs(TAB)) + note
