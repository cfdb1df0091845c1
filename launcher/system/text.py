"""Text from outside, shown without its power over terminals."""

import shlex
from collections.abc import Iterable


class _Visible(dict[int, str]):
    """The replacement of each control character; other characters stay as they are."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        self[code] = char if char.isprintable() else char.encode("unicode_escape").decode()
        return self[code]


_VISIBLE = _Visible()


def sanitize_terminal(text: str) -> str:
    """Return text that cannot steer a terminal: control characters become visible ones."""
    return text if text.isprintable() else text.translate(_VISIBLE)


def is_utf8(text: str) -> bool:
    """Return whether a text can be stored; surrogates from a command line mean bytes that are not UTF-8."""
    return text == text.encode(errors="replace").decode()


def shell_line(argv: Iterable[str]) -> str:
    """Return a command line that a shell reads back word by word; it is one line, whatever the words hold."""
    return " ".join(map(_quote_word, argv))


def _quote_word(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_escape_char, word))}'"


def _escape_char(char: str) -> str:
    if char in "'\\":
        return f"\\{char}"
    if char.isprintable():
        return char
    return "".join(f"\\{byte:03o}" for byte in char.encode(errors="surrogateescape"))
