"""Terminal output of the command line: colours, width, and ASCII replacements (twins) for other characters."""

import codecs
import os
import sys
from collections.abc import Iterable, Mapping
from typing import IO, Any

import click

from launcher.system.text_table import TextLine, TextStyle, width_of

TWINS = str.maketrans(
    "●◐○‖✓✗–—·…→▸◆▲×±°µ█▓▒░╸╺━─│┤└▁▂▃▄▅▆▇\u00a0",
    "*%o=+x--.~>>@^x~ u##%:----||+__--==# ",
)  # one column each, so that tables stay in line
ENCODING = "launcher-twins"
FULL_WIDTH = 140
WIDE, HIGH = 120, 40  # columns and rows where the terminal's size is unknown
AUTO, ALWAYS, NEVER = "auto", "always", "never"
# the sixteen colours that every terminal has, in the person's own palette
STYLES: Mapping[TextStyle, Mapping[str, Any]] = {
    TextStyle.PLAIN: {},
    TextStyle.STRONG: {"bold": True},
    TextStyle.DIM: {"dim": True},
    TextStyle.HEAD: {"bold": True},
    TextStyle.GOOD: {"fg": "green"},
    TextStyle.BAD: {"fg": "red"},
    TextStyle.WARN: {"fg": "yellow"},
    TextStyle.OURS: {"fg": "cyan"},
    TextStyle.OTHERS: {"fg": "magenta"},
    TextStyle.RESERVED: {"fg": "blue"},
    TextStyle.CHOSEN: {"reverse": True},
}


def in_ascii(text: str) -> str:
    """Return a text in ASCII: our own characters as their twins, all others as question marks of their width."""
    return "".join(
        char if char.isascii() else "?" * width_of(char) for char in text.translate(TWINS)
    )


def register_encoding() -> None:
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


def choose_colour(colour: str) -> None:
    """Have everything that draws in this process use colours, or not: auto, always, or never."""
    if colour == NEVER:
        os.environ["NO_COLOR"] = "1"
        os.environ.pop("FORCE_COLOR", None)
    elif colour == ALWAYS:
        os.environ["FORCE_COLOR"] = "1"
        os.environ.pop("NO_COLOR", None)


def choose_characters(*, ascii_only: bool) -> None:
    """Set up the standard streams for a terminal that supports only ASCII, if it does.

    All screens may then use all of our characters, because the streams write their twins. Names are
    written unchanged to a pipe or a file, unless its own encoding cannot represent them.
    """
    register_encoding()
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is None:  # a test's own stream
            continue
        unicode = (stream.encoding or "").lower().startswith("utf")
        if ascii_only or not unicode or (stream.isatty() and not supports_unicode(os.environ)):
            reconfigure(encoding=ENCODING)


def supports_unicode(environ: Mapping[str, str]) -> bool:
    """Return whether a terminal supports more characters than ASCII, according to its environment.

    Python changes the locale C to UTF-8 and sets LC_CTYPE (PEP 538), so that value does not describe
    the terminal. Without any locale variable, as in most containers, the result is true.
    """
    if environ.get("TERM") == "dumb":
        return False
    ours = environ.get("LC_CTYPE") == "C.UTF-8"
    names = ("LC_ALL", "LANG") if ours else ("LC_ALL", "LC_CTYPE", "LANG")
    encoding = next((environ[name] for name in names if environ.get(name)), "utf-8")
    return "utf" in encoding.lower()


def uses_colour(stream: IO[str]) -> bool:
    """Return whether to use colours, by NO_COLOR, FORCE_COLOR, TERM=dumb, and whether it is a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return os.environ.get("TERM") != "dumb" and stream.isatty()


def width() -> int:
    """Return the terminal's columns."""
    return terminal_size()[0]


def terminal_size(stream: IO[str] | None = None) -> tuple[int, int]:
    """Return the columns and rows of the terminal of the standard output, otherwise of that of a stream."""
    size = _size(WIDE, HIGH)
    if stream is not None and stream.isatty() and not sys.stdout.isatty():
        size = os.get_terminal_size(stream.fileno())
    return size.columns or WIDE, size.lines or HIGH  # a terminal may not know its size


def _size(columns: int, rows: int) -> os.terminal_size:
    import shutil  # a global import loads archive modules into every command

    return shutil.get_terminal_size((columns, rows))


def styled_text(row: TextLine) -> str:
    """Return a line with the escape codes of its tones."""
    return "".join(
        click.style(span.text, **style) if (style := STYLES[span.style]) else span.text
        for span in row.spans
    )


def print_lines(lines: Iterable[TextLine | str]) -> None:
    """Print lines on the standard output."""
    colour = uses_colour(sys.stdout)
    for row in lines:
        text = row if isinstance(row, str) else styled_text(row) if colour else row.text
        click.echo(text, color=colour)


def print_stderr(text: str) -> None:
    """Print on the standard error, which is for everything except answers."""
    click.echo(text, err=True)


def terminal_width() -> int:
    """Return the terminal's columns; in a pipe or a file, where no name is cut, enough for all."""
    if not sys.stdout.isatty():
        return sys.maxsize
    return _size(FULL_WIDTH, 24).columns
