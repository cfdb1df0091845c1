"""Characters beyond ASCII that screens draw with, and their twins for terminals without them."""

import codecs

from launcher.screens.text_table import width_of

TWINS = str.maketrans(
    {
        "●": "*",
        "○": "o",
        "‖": "=",
        "✓": "+",
        "✗": "x",
        "–": "-",
        "—": "-",
        "·": ".",
        "…": "~",
        "→": ">",
        "▸": ">",
        "◆": "@",
        "▲": "^",
        "×": "x",
        "±": "~",
        "°": " ",
        "µ": "u",
        "█": "#",
        "▓": "#",
        "▒": "%",
        "░": ":",
        "╸": "-",
        "╺": "-",
        "━": "-",
        "─": "-",
        "│": "|",
        "┤": "|",
        "└": "+",
        "▁": "_",
        "▂": "_",
        "▃": "-",
        "▄": "-",
        "▅": "=",
        "▆": "=",
        "▇": "#",
        "\u00a0": " ",
    }
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
