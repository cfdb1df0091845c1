"""How the command line may draw: with colours, how wide, and with which twins for what lies beyond ASCII."""

import codecs
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO, Any, NamedTuple

import click

from launcher.screens.text_table import Line, Table, Tone, line, tabbed, width_of
from launcher.system.file_digests import Watch, progress_text
from launcher.system.text import harmless

TWINS = str.maketrans(
    "●◐○‖✓✗–—·…→▸◆▲×±°µ█▓▒░╸╺━─│┤└▁▂▃▄▅▆▇\u00a0",
    "*%o=+x--.~>>@^x~ u##%:----||+__--==# ",
)  # one column each, so that tables stay in line
ENCODING = "launcher-twins"


def in_ascii(text: str) -> str:
    """Return a text in ASCII: our own characters as their twins, all others as question marks of their width."""
    return "".join(
        char if char.isascii() else "?" * width_of(char) for char in text.translate(TWINS)
    )


def register() -> None:
    """Make `ENCODING` one that streams may have; not ASCII itself, which click mistakes for UTF-8."""
    codecs.register(_find)


class _Encoder(codecs.IncrementalEncoder):
    """Encodes piece by piece; no character depends on another."""

    def encode(self, text: str, final: bool = False) -> bytes:  # noqa: ARG002  # codecs' own shape
        return _encode(text)[0]


def _encode(text: str, _errors: str = "strict") -> tuple[bytes, int]:
    return in_ascii(text).encode("ascii"), len(text)


def _find(name: str) -> codecs.CodecInfo | None:
    if name.replace("_", "-") != ENCODING:
        return None
    return codecs.CodecInfo(
        _encode, codecs.ascii_decode, incrementalencoder=_Encoder, name=ENCODING
    )


FULL_WIDTH = 140

WIDE, HIGH = 120, 40  # columns and rows where the terminal's size is unknown
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # another screen, no cursor
_TOP, _TO_END, _BELOW = (
    "\x1b[H",
    "\x1b[K",
    "\x1b[J",
)  # go to the top; clear to the line's end, below
_HASHING_AFTER_S = 0.5  # a digest that takes less is not worth a line
_HASHING_AGAIN_S = 0.2  # between two drawings of that line
_ASIDE = (signal.SIGTERM, signal.SIGTSTP)
AUTO, ALWAYS, NEVER = "auto", "always", "never"
# the sixteen colours that every terminal has, in the person's own palette
STYLES: Mapping[Tone, Mapping[str, Any]] = {
    Tone.PLAIN: {},
    Tone.STRONG: {"bold": True},
    Tone.DIM: {"dim": True},
    Tone.HEAD: {"bold": True},
    Tone.GOOD: {"fg": "green"},
    Tone.BAD: {"fg": "red"},
    Tone.WARN: {"fg": "yellow"},
    Tone.OURS: {"fg": "cyan"},
    Tone.OTHERS: {"fg": "magenta"},
    Tone.PROMISED: {"fg": "blue"},
    Tone.CHOSEN: {"reverse": True},
}


def choose_colour(colour: str) -> None:
    """Have everything that draws in this process use colours, or not: auto, always, or never."""
    if colour == NEVER:
        os.environ["NO_COLOR"] = "1"
        os.environ.pop("FORCE_COLOR", None)
    elif colour == ALWAYS:
        os.environ["FORCE_COLOR"] = "1"
        os.environ.pop("NO_COLOR", None)


def choose_characters(*, ascii_only: bool) -> None:
    """Set up the standard streams for a terminal that knows ASCII only, where that is so.

    Whatever draws may then use all of our characters: the streams write their twins. A pipe or a
    file gets every name as it is, unless its own encoding cannot hold it.
    """
    register()
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is None:  # a test's own stream
            continue
        unicode = (stream.encoding or "").lower().startswith("utf")
        if ascii_only or not unicode or (stream.isatty() and not speaks_unicode(os.environ)):
            reconfigure(encoding=ENCODING)


def speaks_unicode(environ: Mapping[str, str]) -> bool:
    """Tell whether a terminal knows more characters than ASCII, as far as its environment says.

    Python takes the locale C for UTF-8 and says so in LC_CTYPE (PEP 538): that is no word of the
    terminal's. One that says nothing, as in most containers, knows them.
    """
    if environ.get("TERM") == "dumb":
        return False
    ours = environ.get("LC_CTYPE") == "C.UTF-8"
    names = ("LC_ALL", "LANG") if ours else ("LC_ALL", "LC_CTYPE", "LANG")
    encoding = next((environ[name] for name in names if environ.get(name)), "utf-8")
    return "utf" in encoding.lower()


def coloured(stream: IO[str]) -> bool:
    """Tell whether to draw with colours: NO_COLOR, FORCE_COLOR, TERM=dumb, else a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return os.environ.get("TERM") != "dumb" and stream.isatty()


def width() -> int:
    """Return the terminal's columns."""
    return terminal_size()[0]


def terminal_size(stream: IO[str] | None = None) -> tuple[int, int]:
    """Return the terminal's columns and rows; of a stream, where it is one, if the standard output is none."""
    size = _size(WIDE, HIGH)
    if stream is not None and stream.isatty() and not sys.stdout.isatty():
        size = os.get_terminal_size(stream.fileno())
    return size.columns or WIDE, size.lines or HIGH  # a terminal may not know its size


def _size(columns: int, rows: int) -> os.terminal_size:
    import shutil  # which loads what compresses archives into every command

    return shutil.get_terminal_size((columns, rows))


def styled(drawn: Line) -> str:
    """Return a line with the escape codes of its tones."""
    return "".join(
        click.style(span.text, **style) if (style := STYLES[span.tone]) else span.text
        for span in drawn.spans
    )


def say(lines: Iterable[Line | str]) -> None:
    """Print lines on the standard output."""
    colour = coloured(sys.stdout)
    for row in lines:
        text = row if isinstance(row, str) else styled(row) if colour else row.text
        click.echo(text, color=colour)


def remark(text: str) -> None:
    """Print on the standard error, where everything goes that is no answer."""
    click.echo(text, err=True)


class Answer(NamedTuple):
    """What there is to print once, each part made when it is asked for; each form has one renderer."""

    record: Callable[[], Mapping[str, Any]]  # the object, without its schema
    tables: Callable[[], Iterable[Table]] = tuple  # as people read it
    # of what has other forms, too: the names of the columns with rows in full precision
    cells: Callable[[], Sequence[Sequence[Any]]] = tuple
    rows: Callable[[], Iterable[Sequence[Any]]] = tuple  # for a pipe, where that is neither of both
    # what a terminal of so many columns gets, where that is more than the tables
    drawn: Callable[[int], Iterable[Line | str]] | None = None
    # with the titles and intervals of LaTeX, where people read others
    latex: Callable[[], Iterable[Table]] | None = None


def tell(answer: Answer, *, as_json: bool, drawn: bool | None = None) -> None:
    """Print an answer; a pipe gets nothing where there is no row.

    Args:
        answer: what to print.
        as_json: print the object.
        drawn: print what a terminal gets, or what a pipe gets; None: as the standard output is.
    """
    if as_json:
        say_json(answer.record())
    elif sys.stdout.isatty() if drawn is None else drawn:
        width = terminal_width()
        if answer.drawn is None:
            say(row for table in answer.tables() for row in table.drawn(width))
        else:
            say(answer.drawn(width))
    else:
        rows = answer.rows() or answer.cells()
        rows = rows or (row for table in answer.tables() for row in table.cells)
        click.echo(tabbed(rows), nl=False)


def tell_table(record: Mapping[str, Any], table: Table, *, as_json: bool, nothing: str) -> None:
    """Print what a verb lists.

    Args:
        record: the object of `--json`, without its schema.
        table: the same for people.
        as_json: print the object.
        nothing: what is said on stderr where there is no row.
    """
    if table.rows or as_json:
        tell(Answer(lambda: record, lambda: [table]), as_json=as_json)
    else:
        remark(nothing)


def say_json(record: Mapping[str, Any]) -> None:
    """Print the object of `--json`; null stands for what it has no number for: NaN and infinity."""
    record = {"schema": 1, **record}
    try:
        text = json.dumps(record, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(record))
    click.echo(text)


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return list(map(_finite, value)) if isinstance(value, list | tuple) else value


@contextmanager
def whole_screen() -> Iterator[Callable[[Sequence[Line], int, int], None]]:
    """Draw on a screen of its own, and give the terminal back as it was, also to Ctrl-Z and `kill`.

    Inside, a function shows lines in so many columns and rows; what does not fit is counted.
    """

    def show(lines: Sequence[Line], columns: int, rows: int) -> None:
        drawn = "\n".join(_drawn(lines, columns, rows, sys.stdout))
        click.echo(_TOP + drawn + _BELOW, nl=False, color=True)
        sys.stdout.flush()

    before = {number: signal.signal(number, _step_aside) for number in _ASIDE}
    try:
        click.echo(_ENTER, nl=False, color=True)
        yield show
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        click.echo(_LEAVE, nl=False, color=True)
        sys.stdout.flush()


def _drawn(lines: Sequence[Line], columns: int, rows: int, stream: IO[str]) -> list[str]:
    """Return lines as they are drawn over those before."""
    if len(lines) > rows - 1:
        kept = lines[: max(0, rows - 2)]
        lines = [*kept, line(f"… and {len(lines) - len(kept)} more lines", Tone.DIM)]
    colour = coloured(stream)
    return [
        # behind a line as wide as the screen, its last character would be cleared
        (styled(row) if colour else row.text) + _TO_END * (width_of(row.text) < columns)
        for row in (row.cut(columns) for row in lines)
    ]


@contextmanager
def below_messages(*, live: bool) -> Iterator[Callable[[Sequence[Line], Sequence[Line]], None]]:
    """Tell messages on the standard error, and draw lines below them that change and are gone at the end.

    Inside, a function tells messages, and shows lines in the place of those before.

    Args:
        live: it is a terminal; else there are only messages.
    """
    colour, height = coloured(sys.stderr), 0

    def show(messages: Sequence[Line], lines: Sequence[Line]) -> None:
        nonlocal height
        texts = [styled(row) if colour else row.text for row in messages]
        back = f"\r\x1b[{height}A{_BELOW}" if height else ""
        drawn = _drawn(lines, *terminal_size(sys.stderr), sys.stderr) if live else []
        height = len(drawn)
        text = "".join(f"{text}\n" for text in (*texts, *drawn))
        click.echo(back + text, err=True, nl=False, color=True)

    try:
        yield show
    finally:
        show((), ())


def watch_hashing(clock: Callable[[], float] = time.monotonic) -> Watch | None:
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
            file, next_at = path, now + _HASHING_AFTER_S
        text = _hashing_line(path, read, size) if now >= next_at and read < size else ""
        if text or (drawn and read >= size):
            click.echo(f"\r{text}{_TO_END}", err=True, nl=False, color=True)
            next_at, drawn = now + _HASHING_AGAIN_S, bool(text)

    return show


def _hashing_line(path: str, read: int, size: int) -> str:
    # what clears the rest of a full line would clear its last character
    columns = terminal_size(sys.stderr)[0] - 1
    return in_ascii(line(harmless(progress_text(path, read, size))).cut(columns).text)


def _step_aside(number: int, _frame: FrameType | None) -> None:
    """Give the terminal back, and end or halt as everybody does; who goes on takes it again."""
    stdout = sys.stdout.fileno()  # not by way of the stream: it may be at work just now
    os.write(stdout, _LEAVE.encode())
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    signal.signal(number, _step_aside)
    os.write(stdout, _ENTER.encode())


def terminal_width() -> int:
    """Return the terminal's columns; in a pipe or a file, where no name is cut, enough for all."""
    if not sys.stdout.isatty():
        return sys.maxsize
    return _size(FULL_WIDTH, 24).columns
