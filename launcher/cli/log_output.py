"""The printing of a log: as bytes, as plain text for a pipe, or as coloured text for a terminal."""

import codecs
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Protocol

import click

from launcher.errors import UsageError
from launcher.screens.follow_logs import (
    CHUNK_BYTES,
    FOLLOW_EVERY_S,
)
from launcher.screens.terminal import coloured
from launcher.system.files import tail_offset
from launcher.system.text import RESET, Plain, with_colours, without_colours

_BEGUN = re.compile(r"\x1b(?:\[[0-9;:]{0,64})?\Z")  # a colour whose end is still to be read


class Output(Protocol):
    """A destination for a log."""

    def write(self, chunk: bytes) -> None:
        """Print a chunk of bytes."""

    def close(self) -> None:
        """Print what is still buffered."""


def print_log(log: Path, lines: int | None, *, until: Callable[[], bool], raw: bool) -> None:
    """Print a log, and follow it until `until` returns True.

    Args:
        log: the file.
        lines: print the last ones only; None: all.
        until: tells whether nothing is written any more.
        raw: print every byte unchanged.

    Raises:
        UsageError: there is no such file.
    """
    try:
        file = log.open("rb")
    except FileNotFoundError:
        raise no_log(log) from None
    say: Output = _Raw() if raw else _Terminal() if sys.stdout.isatty() else _Pipe()
    with file, closing(say):
        if lines is not None:
            file.seek(tail_offset(file, lines))
        over = False
        while not over:
            over = until()  # asked before reading, so that the last output is read
            if os.fstat(file.fileno()).st_size < file.tell():  # the file was truncated
                file.seek(0)
            while chunk := file.read(CHUNK_BYTES):
                say.write(chunk)
            if not over:
                sys.stdout.flush()
                time.sleep(FOLLOW_EVERY_S)


def no_log(log: Path) -> UsageError:
    """Return the error for an attempt without a log."""
    job, folder = log.parent.name.partition("-")[0], log.parent
    if folder.is_symlink() and not folder.exists():
        return UsageError(
            f"the folder of its attempt cannot be reached: {folder.readlink()}, on the file system of "
            "its pilot; is that mounted?"
        )
    return UsageError(
        f"there is no log at {log}; its attempt was never started: `launcher show {job}` tells more"
    )


class _Raw:
    """Prints every byte."""

    def write(self, chunk: bytes) -> None:
        click.echo(chunk, nl=False)

    def close(self) -> None:
        """Nothing is buffered."""


class _Pipe:
    """Prints all but escape sequences."""

    def __init__(self) -> None:
        self._plain = Plain()

    def write(self, chunk: bytes) -> None:
        click.echo(self._plain.feed(chunk), nl=False)

    def close(self) -> None:
        click.echo(self._plain.rest(), nl=False)


class _Terminal:
    """Prints text, with its colours where they are enabled."""

    def __init__(self) -> None:
        # a character may be cut in two where one reading ends, and so may a colour
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._colour = coloured(sys.stdout)
        self._kept = ""

    def write(self, chunk: bytes) -> None:
        text = self._kept + self._decoder.decode(chunk)
        begun = _BEGUN.search(text)
        cut = begun.start() if begun else len(text)
        text, self._kept = text[:cut], text[cut:]
        self._show(text)

    def close(self) -> None:
        self._show(self._kept)
        if self._colour:
            click.echo(RESET, nl=False, color=True)

    def _show(self, text: str) -> None:
        shown = with_colours if self._colour else without_colours
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        texts = ("\t".join(map(shown, line.split("\t"))) for line in lines)
        click.echo("\n".join(texts), nl=False, color=True)
