"""Lines that are drawn again as they change: on a screen of their own, and below messages."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO

import click

from launcher.system.terminal import styled_text, terminal_size, uses_colour
from launcher.system.text_table import TextLine, TextStyle, line, width_of

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # another screen, no cursor
# go to the top; clear to the line's end, below
_TOP, _TO_END, _BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_COUNT_AFTER_S = 1.0  # a shorter task is not worth a line
_DRAW_AGAIN_S = 0.2  # seconds between two drawings of a line
_SUSPENDING = (signal.SIGTERM, signal.SIGTSTP)


@contextmanager
def alternate_screen() -> Iterator[Callable[[Sequence[TextLine], int, int], None]]:
    """Draw on a screen of its own, and give the terminal back as it was, also to Ctrl-Z and `kill`.

    Inside, a function shows lines in this many columns and rows; what does not fit is counted.
    """

    def show(lines: Sequence[TextLine], columns: int, rows: int) -> None:
        drawn = "\n".join(_screen_texts(lines, columns, rows, sys.stdout))
        click.echo(_TOP + drawn + _BELOW, nl=False, color=True)
        sys.stdout.flush()

    before = {number: signal.signal(number, _leave_terminal) for number in _SUSPENDING}
    try:
        click.echo(_ENTER, nl=False, color=True)
        yield show
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        click.echo(_LEAVE, nl=False, color=True)
        sys.stdout.flush()


def _screen_texts(lines: Sequence[TextLine], columns: int, rows: int, stream: IO[str]) -> list[str]:
    """Return lines as they are drawn over those before."""
    if len(lines) > rows - 1:
        kept = lines[: max(0, rows - 2)]
        lines = [*kept, line(f"… and {len(lines) - len(kept)} more lines", TextStyle.DIM)]
    colour = uses_colour(stream)
    return [
        # behind a line as wide as the screen, its last character would be cleared
        (styled_text(row) if colour else row.text) + _TO_END * (width_of(row.text) < columns)
        for row in (row.truncate(columns) for row in lines)
    ]


@contextmanager
def live_area(*, live: bool) -> Iterator[Callable[[Sequence[TextLine], Sequence[TextLine]], None]]:
    """Print messages on the standard error, and draw changing lines below them that are removed at the end.

    The context is a function that prints messages and replaces the lines.

    Args:
        live: whether it is a terminal; otherwise only messages are printed.
    """
    colour, height = uses_colour(sys.stderr), 0

    def show(messages: Sequence[TextLine], lines: Sequence[TextLine]) -> None:
        nonlocal height
        texts = [styled_text(row) if colour else row.text for row in messages]
        back = f"\r\x1b[{height}A{_BELOW}" if height else ""
        drawn = _screen_texts(lines, *terminal_size(sys.stderr), sys.stderr) if live else []
        height = len(drawn)
        text = "".join(f"{text}\n" for text in (*texts, *drawn))
        click.echo(back + text, err=True, nl=False, color=True)

    try:
        yield show
    finally:
        show((), ())


@contextmanager
def live_count(
    text: str, total: int, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[int], None]]:
    """Draw how much of a long task is done, as a line on the standard error that is removed at the end.

    The context is a function that takes the number of finished parts. Nothing is drawn without a terminal.

    Args:
        text: what is done with the parts, such as "files of jobs deleted".
        total: number of parts.
        clock: seconds.
    """
    next_at = clock() + _COUNT_AFTER_S
    with live_area(live=sys.stderr.isatty()) as show:

        def count(number: int) -> None:
            nonlocal next_at
            if (now := clock()) >= next_at:
                next_at = now + _DRAW_AGAIN_S
                show([], [line(f"{text}: {number:,} of {total:,}")])

        yield count


def _leave_terminal(signal_number: int, _frame: FrameType | None) -> None:
    """Give the terminal back, and end or halt as everybody does; who goes on takes it again."""
    stdout = sys.stdout.fileno()  # not through the stream, which may be writing just now
    os.write(stdout, _LEAVE.encode())
    signal.signal(signal_number, signal.SIG_DFL)
    os.kill(os.getpid(), signal_number)
    signal.signal(signal_number, _leave_terminal)
    os.write(stdout, _ENTER.encode())
