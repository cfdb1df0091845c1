"""The log of an attempt: a window of it on a page, or the whole file.

A page shows a window of a log, which may have gigabytes. The whole file is sent as the program wrote it.
"""

from collections.abc import Iterator
from pathlib import Path

from launcher.frontends.web.page import Address, PageContent
from launcher.frontends.web.view import NotFound, QueueView, job_of
from launcher.queue.store.rows import JobRow
from launcher.system.log_files import read_file_part
from launcher.system.text import sanitize_terminal

WINDOW_BYTES = 1 << 16
CHUNK_BYTES = 1 << 18
_ATTEMPTS = 20  # attempts that have a link, the newest ones


def log_context(view: QueueView, address: Address) -> PageContent:
    """Return a window of a log: its end if the address names no offset."""
    row, attempt, log = _requested_log(view, address)
    begin, end = address.integer("from"), address.integer("to")
    return PageContent(
        title=f"log of {sanitize_terminal(row.name)}",
        values={
            "row": row,
            "attempt": attempt,
            "attempts": range(max(1, row.attempts - _ATTEMPTS + 1), row.attempts + 1),
            "window": read_file_part(log, begin=begin, end=end, most_bytes=WINDOW_BYTES),
            "follows": begin is None and end is None and attempt == row.attempts,
        },
        files=(log,),
    )


def whole_log(view: QueueView, address: Address) -> Iterator[bytes]:
    """Return the chunks of a log up to its current length. The log may become shorter while the chunks are sent.

    Raises:
        NotFound: the log does not exist.
    """
    row, _, log = _requested_log(view, address)
    try:
        size = log.stat().st_size
    except OSError as error:
        raise NotFound(f"job {row.id} has no log yet") from error
    return _pieces(log, size)


def _requested_log(view: QueueView, address: Address) -> tuple[JobRow, int, Path]:
    """Return a job, the requested attempt (the newest by default, 0 if there is none yet), and its log.

    Raises:
        NotFound: there is no such job, or no such attempt.
    """
    row, number = job_of(view.store, address.number), address.integer("attempt")
    if number is not None and not 1 <= number <= row.attempts:
        raise NotFound(f"job {row.id} has no attempt {number} (attempts: {row.attempts})")
    attempt = number or row.attempts
    return row, attempt, view.home.attempt(row.id, attempt).log


def _pieces(log: Path, size: int) -> Iterator[bytes]:
    """Yield `size` bytes of a file, which may grow while it is read."""
    with log.open("rb") as file:
        while size > 0 and (piece := file.read(min(CHUNK_BYTES, size))):
            size -= len(piece)
            yield piece
