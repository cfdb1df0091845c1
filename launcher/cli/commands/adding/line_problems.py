"""What may be wrong with a line of a file of commands, drawn as in task files."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from launcher.cli.missing_programs import missing_program
from launcher.errors import Place, Problem, Severity, UsageError

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
