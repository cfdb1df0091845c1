"""Escape codes of terminals in the output of programs: removed, or only colours left."""

import re

from launcher.system.lazy_regex import compile_lazily
from launcher.system.text import sanitize_terminal

_OSC = rb"\x1b[\]P^_X][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)"  # a title, a link, a device's own string
_CSI = rb"\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]"  # colours, movements, erasing: ECMA-48, 5.4
_ESC = rb"\x1b[ -/]{0,8}[0-~]"
_SEQUENCE = compile_lazily(b"|".join((_OSC, _CSI, _ESC)))
_UNFINISHED = compile_lazily(
    rb"\x1b(?:[\]P^_X][^\x07\x1b]{0,4096}\x1b?|\[[0-?]{0,64}[ -/]{0,8}|[ -/]{0,8})\Z"
)
_CONTROL = compile_lazily(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")
_COLOUR = compile_lazily(r"\x1b\[([0-9;:]{0,64})m")
_HIDING_CODES = 8  # among a colour's numbers: the text that follows is invisible
_EXTENDED_COLOURS = frozenset({38, 48, 58})  # the numbers that follow one of these define a colour
_BACKSPACES = re.compile("(\b+)")
ESCAPE = "\x1b"
RESET = "\x1b[0m"


class PlainTextFilter:
    """Remove terminal escape sequences from a program's output, for pipes and files.

    Other control characters become visible. Tabs, newlines, carriage returns and every other byte stay
    as they are.
    """

    def __init__(self) -> None:
        """Begin at the beginning of a log, or of a line of it."""
        self._unfinished = b""

    def feed(self, chunk: bytes) -> bytes:
        """Return the filtered text of a piece; an unfinished sequence is kept for the next call."""
        data = self._unfinished + chunk
        unfinished = _UNFINISHED.search(data)
        cut = unfinished.start() if unfinished else len(data) - data.endswith(b"\xc2")
        self._unfinished = data[cut:]
        return _CONTROL.sub(_visible, _SEQUENCE.sub(b"", data[:cut]))

    def flush(self) -> bytes:
        """Return the unfinished rest, at the end of the log."""
        kept, self._unfinished = self._unfinished, b""
        return _CONTROL.sub(_visible, kept)


def apply_backspaces(line: str) -> tuple[str, int]:
    """Return a line as a terminal shows it after its backspaces, and the column of its cursor."""
    cells: list[str] = []
    at = 0
    for piece in _BACKSPACES.split(line) if "\b" in line else (line,):
        if piece.startswith("\b"):
            at = max(0, at - len(piece))
        else:
            cells[at : at + len(piece)] = piece
            at += len(piece)
    return "".join(cells), at


def _visible(match: re.Match[bytes]) -> bytes:
    return b"\\x%02x" % match[0][-1]


def keep_colours_only(text: str) -> str:
    """Return a line without control sequences other than colours.

    The caller resets the colours with RESET after printing it.
    """
    pieces, end = [], 0
    for match in _COLOUR.finditer(text):
        if _makes_invisible(match[1]):
            continue
        pieces += [sanitize_terminal(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*pieces, sanitize_terminal(text[end:])])


def strip_colours(text: str) -> str:
    """Return a line without the colours that it chooses; nothing else of it steers a terminal."""
    return sanitize_terminal(_COLOUR.sub("", text))


def _makes_invisible(numbers: str) -> bool:
    """Return whether a colour's numbers make the text that follows invisible."""
    words = [int(word or 0) for word in numbers.replace(":", ";").split(";")]
    while words:
        if words[0] == _HIDING_CODES:
            return True
        # 38;5;N and 38;2;R;G;B: N may be 8
        if words[0] in _EXTENDED_COLOURS:
            words = words[5:] if words[1:2] == [2] else words[3:]
        else:
            words = words[1:]
    return False
