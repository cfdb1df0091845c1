"""A file of commands, one a line: its words are those of a shell, and no shell runs; mistakes are drawn as in task files."""

import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import click

from launcher.cli.missing_programs import missing_program
from launcher.errors import MOST_PROBLEMS, Place, Problem, Severity, TaskFileError, UsageError
from launcher.screens.format import harmless

LONGEST_LINE = 128 * 1024  # bytes: the longest argument that Linux gives to a program
_SHOWN = 1000  # characters of a line that is too long
_MOST_NAMED = 5  # further programs


class BadLine(UsageError):
    """A line that holds no command; `offset` counts characters from 0."""

    def __init__(
        self,
        code: str,
        message: str,
        text: str,
        offset: int = 0,
        *,
        length: int = 1,
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.code, self.text, self.offset, self.length, self.hint = code, text, offset, length, hint
        self.last = False  # there is no sense in reading on

    def problem(self, file: str, number: int) -> Problem:
        """Return it with its place."""
        place = Place(
            file=file, line=number, column=self.offset + 1, text=self.text, length=self.length
        )
        return Problem(code=self.code, message=str(self), place=place, hint=self.hint)

    @classmethod
    def too_long(cls, content: bytes) -> Self:
        """Return what is wrong with a line of too many bytes."""
        text = content[:_SHOWN].decode(errors="replace")
        message = f"the line has more than {LONGEST_LINE:,} bytes; what follows was not read"
        error = cls(
            "long-line", message, text, hint="let the program read its arguments from a file"
        )
        error.last = True
        return error

    @classmethod
    def nul(cls, content: bytes) -> Self:
        """Return what is wrong with a line that holds a NUL."""
        before = content[: content.index(0)].decode(errors="replace")
        text = content.decode(errors="replace")
        message = "the line holds a NUL byte; what follows was not read"
        hint = "no argument can hold it; is this a text file?"
        error = cls("nul-byte", message, text, len(before), hint=hint)
        error.last = True
        return error

    @classmethod
    def not_utf8(cls, content: bytes, offset: int) -> Self:
        """Return what is wrong with a line of other bytes.

        Args:
            content: the line.
            offset: of the first byte that is none of UTF-8.
        """
        message = f"the byte 0x{content[offset]:02x} is no UTF-8 text"
        before = content[:offset].decode(errors="replace")
        text = content.decode(errors="replace")
        return cls("not-utf8", message, text, len(before), hint="save the file as UTF-8")

    @classmethod
    def open_quote(cls, text: str, offset: int) -> Self:
        """Return what is wrong where a quote or a backslash has no partner."""
        hint = "a command stands on one line"
        if text[offset] == "\\":
            return cls("lone-backslash", "this backslash escapes nothing", text, offset, hint=hint)
        message = f"this {text[offset]} is not closed"
        return cls("unclosed-quote", message, text, offset, hint=hint)


def operator_problem(file: str, number: int, text: str, offset: int) -> Problem:
    """Return the warning that a program gets what was meant for a shell."""
    word = text[offset:].split()[0]
    place = Place(file=file, line=number, column=offset + 1, text=text, length=len(word))
    return Problem(
        code="no-shell",
        message=f"no shell runs, so {word!r} is an argument of the program",
        severity=Severity.WARNING,
        place=place,
        hint="write sh -c '…' for a shell",
    )


def missing_programs(
    file: str,
    lines: Sequence[tuple[int, str, str]],
    folder: Path,
    environment: Mapping[str, str] = os.environ,
) -> Problem | None:
    """Return the warning that programs cannot be started as they are typed; None if all can.

    Args:
        file: as messages name it.
        lines: number and text of lines, and the program of each.
        folder: in which the programs are started.
        environment: with their PATH.
    """
    first: dict[str, tuple[int, str]] = {}
    for number, text, program in lines:
        first.setdefault(program, (number, text))
    missing = [
        (program, reason)
        for program in first
        if (reason := missing_program(program, folder, environment))
    ]
    if not missing:
        return None
    (program, reason), *others = missing
    number, text = first[program]
    offset = max(0, text.find(program))  # 0: it is quoted
    notes = ["its jobs fail unless it is there when they start"]
    if others:
        named = [f"{other!r} (line {first[other][0]})" for other, _ in others[:_MOST_NAMED]]
        more = f", and {len(others) - len(named)} more" if len(others) > len(named) else ""
        notes.append(f"likewise {', '.join(named)}{more}")
    return Problem(
        code="missing-program",
        message=reason,
        severity=Severity.WARNING,
        place=Place(
            file=file, line=number, column=offset + 1, text=text, length=max(1, len(program))
        ),
        notes=tuple(notes),
    )


STDIN = "-"
MOST_COMMANDS = 200_000  # while so many are written nobody else changes the queue, for seconds
_BYTE_ORDER_MARK = "\ufeff"
_BLANKS = re.compile(r"[ \t\r\n]*+")
_PLAIN = re.compile(r"[^ \t\r\n'\"\\#]*+(?:[ \t\r\n]++[^ \t\r\n'\"\\#]++)*+[ \t\r\n]*+")
# one word up to its end, or to the quote or backslash that has no partner
_WORD = re.compile(r"""(?:[^ \t\r\n'"\\]|\\.|'[^']*+'|"(?:[^"\\]|\\.)*+")*+""", re.DOTALL)
_QUOTING = re.compile(r"['\"\\]")
# what a shell would act upon, and a program gets as an argument
OPERATORS = frozenset({"|", "||", "&", "&&", ";", "<", ">", ">>", "2>", "2>&1", "&>"})


class CommandLine(NamedTuple):
    """One command of a file."""

    number: int  # of its line, from 1
    text: str  # the line
    argv: tuple[str, ...]


class CommandFile(NamedTuple):
    """The commands of a file, and what is odd about them though they can be queued."""

    name: str  # as messages have it
    commands: tuple[CommandLine, ...]
    warnings: tuple[Problem, ...] = ()


def command_file(source: str) -> CommandFile:
    """Read the commands of a file, or of the standard input.

    Args:
        source: its path, or `-`.

    Raises:
        UsageError: the file cannot be read, or holds no command.
        TaskFileError: lines of it are wrong: all of them.
    """
    name = "<stdin>" if source == STDIN else source
    with _opened(source) as stream:
        return read_commands(_lines(stream), name)


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    if source == STDIN:
        if sys.stdin.isatty():
            click.echo("reading commands, one a line; Ctrl-D ends them", err=True)
        yield sys.stdin.buffer
        return
    if not source:
        raise UsageError("--from: the name of the file is empty; - is the standard input")
    try:
        with Path(source).open("rb") as stream:
            yield stream
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"--from: cannot read {harmless(source)}: {why}") from error


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """Give the lines; of one that is too long, so much that it is seen."""
    while line := stream.readline(LONGEST_LINE + len(b"\r\n") + 1):
        yield line


def read_commands(lines: Iterable[bytes], file: str) -> CommandFile:
    """Return the commands of some lines; empty lines and comments are none.

    Args:
        lines: with their ends. After one of a file that is no text nothing is read.
        file: as messages name it.

    Raises:
        UsageError: there is no command, or there are too many.
        TaskFileError: what is wrong with each line.
    """
    commands: list[CommandLine] = []
    problems: list[Problem] = []
    odd: Problem | None = None
    for number, line in enumerate(lines, 1):
        try:
            text = _text(line, first=number == 1)
            argv, operator = split_line(text)
        except BadLine as error:
            problems.append(error.problem(file, number))
            if error.last or len(problems) == MOST_PROBLEMS:
                break
            continue
        if argv:
            commands.append(CommandLine(number, text, tuple(argv)))
            if operator is not None and odd is None:
                odd = operator_problem(file, number, text, operator)
        if len(commands) > MOST_COMMANDS:
            raise UsageError(
                f"{file} holds more than {MOST_COMMANDS:,} commands; divide it, as `split -l` does"
            )
    if problems:
        raise TaskFileError(problems)
    if not commands:
        raise UsageError(f"{file} holds no command, so nothing was queued")
    return CommandFile(file, tuple(commands), () if odd is None else (odd,))


def _text(line: bytes, *, first: bool) -> str:
    """Return a line as text, without its end.

    Raises:
        BadLine: it is too long, or holds bytes that no argument can have, or no UTF-8.
    """
    content = line.removesuffix(b"\n").removesuffix(b"\r")
    if len(content) > LONGEST_LINE:
        raise BadLine.too_long(content)
    if b"\0" in content:
        raise BadLine.nul(content)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise BadLine.not_utf8(content, error.start) from error
    return text.removeprefix(_BYTE_ORDER_MARK) if first else text


def split_line(text: str) -> tuple[list[str], int | None]:
    """Return the words of a line as a shell reads them, and where the first operator of a shell stands.

    A word that begins with `#` begins a comment. Variables, globs and operators mean nothing here.

    Raises:
        BadLine: a quote or a backslash has no partner.
    """
    if _PLAIN.fullmatch(text):
        words = [word for word in re.split(r"[ \t\r\n]+", text) if word]
        operator = next((word for word in words if word in OPERATORS), None)
        return words, None if operator is None else _place_of(text, operator)
    words, operator_at, at = [], None, 0
    while True:
        at = _end(_BLANKS, text, at)
        if at == len(text) or text[at] == "#":
            return words, operator_at
        end = _end(_WORD, text, at)
        if end < len(text) and text[end] in "'\"\\":
            raise BadLine.open_quote(text, end)
        word = text[at:end]
        if operator_at is None and word in OPERATORS:
            operator_at = at
        words.append(shlex.split(word)[0] if _QUOTING.search(word) else word)
        at = end


def _place_of(text: str, word: str) -> int:
    place = re.search(rf"(?<![^ \t\r\n]){re.escape(word)}(?![^ \t\r\n])", text)
    return place.start() if place else 0


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    match = pattern.match(text, start)
    return match.end() if match else start
