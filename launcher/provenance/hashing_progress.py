"""The progress of the digest of a large file, as a line on the standard error."""

import sys
import time
from collections.abc import Callable

import click

from launcher.provenance.file_digests import HashProgress, progress_text
from launcher.system.terminal import in_ascii, terminal_size
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import line

_TO_END = "\x1b[K"  # clears the rest of the line
_DRAW_AFTER_S = 0.5  # a digest that takes less is not worth a line
_DRAW_AGAIN_S = 0.2  # seconds between two drawings of the line


def watch_hashing(clock: Callable[[], float] = time.monotonic) -> HashProgress | None:
    """Return what draws how far the digest of a large file is, as a line on the standard error.

    None without a terminal.
    """
    if not sys.stderr.isatty():
        return None
    file, next_at, drawn = "", 0.0, False

    def show(path: str, read: int, size: int) -> None:
        nonlocal file, next_at, drawn
        now = clock()
        if path != file:
            file, next_at = path, now + _DRAW_AFTER_S
        text = _hashing_line(path, read, size) if now >= next_at and read < size else ""
        if text or (drawn and read >= size):
            click.echo(f"\r{text}{_TO_END}", err=True, nl=False, color=True)
            next_at, drawn = now + _DRAW_AGAIN_S, bool(text)

    return show


def _hashing_line(path: str, read: int, size: int) -> str:
    # the code that clears the rest of a full line would clear its last character
    columns = terminal_size(sys.stderr)[0] - 1
    return in_ascii(line(sanitize_terminal(progress_text(path, read, size))).truncate(columns).text)
