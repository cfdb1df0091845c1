"""Errors that a person may meet, and how a located error is drawn.

    Error                      exit code 3
    ├── UsageError             2   wrong arguments, wrong name, wrong path
    │   ├── IdError            2   a data ID or model ID that the grammar refuses
    │   ├── UnknownName        2   a subset, model, key … that nobody knows
    │   └── TaskFileError      2   everything that is wrong with a task file, in one go
    ├── JobError               1   a job cannot do its work, for a reason its owner can mend
    └── MachineError           3   store busy, disk full, no scheduler, another machine's home
        └── StoreError         3   the queue's database cannot be used
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

MOST_PROBLEMS = 20  # like a compiler: more than a screen helps nobody


class Severity(StrEnum):
    """How bad a problem is: an error stops the plan, a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A stretch of one line in a user's file; line and column count from 1."""

    file: str
    line: int
    column: int
    text: str
    length: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, where it is, and what to do about it."""

    code: str
    message: str
    severity: Severity = Severity.ERROR
    place: Place | None = None
    hint: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.severity}[{self.code}]: {self.message}"]
        if self.place is not None:
            lines += _caret(self.place, self.hint)
        elif self.hint:
            lines.append(f"   = help: {self.hint}")
        lines += [f"   = {note}" for note in self.notes]
        return "\n".join(lines)


class Error(Exception):
    """Base of everything that ends with a message instead of a traceback."""

    exit_code: ClassVar[int] = 3


class UsageError(Error):
    """The caller asked for something that cannot be: wrong argument, name or path."""

    exit_code = 2


class IdError(UsageError):
    """A data ID or model ID does not follow the grammar; `offset` counts characters from 0."""

    def __init__(self, text: str, offset: int, length: int, message: str) -> None:
        super().__init__(f"{message} in ID {text!r}, at character {offset + 1}")
        self.text, self.offset, self.length, self.message = text, offset, length, message


class UnknownName(UsageError):
    """A name that nobody knows, with the names that are known."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        self.what, self.name, self.known = what, name, tuple(sorted(known))
        self.suggestion = nearest(name, self.known)
        hint = f", did you mean {self.suggestion}?" if self.suggestion else ""
        super().__init__(f"unknown {what} {name!r}{hint} (known: {', '.join(self.known)})")


class TaskFileError(UsageError):
    """All that is wrong with a task file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n\n".join(str(problem) for problem in self.problems[:MOST_PROBLEMS]))


class JobError(Error):
    """A job cannot do its work for a reason its owner can mend; shown without a traceback."""

    exit_code = 1


class MachineError(Error):
    """Something of this machine is in the way: disk, lock, process, permission."""


class StoreError(MachineError):
    """The queue's database cannot be used."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like `name`, or None when none is close."""
    by_fold = {candidate.casefold(): candidate for candidate in known}
    if name.casefold() in by_fold:
        return by_fold[name.casefold()]
    found = difflib.get_close_matches(name.casefold(), list(by_fold), n=1, cutoff=0.6)
    return by_fold[found[0]] if found else None


def _caret(place: Place, hint: str) -> list[str]:
    number = str(place.line)
    gutter = " " * len(number)
    # a tab before the caret must stay a tab, or the caret points elsewhere
    lead = "".join("\t" if char == "\t" else " " for char in place.text[: place.column - 1])
    marks = "^" * max(1, place.length)
    return [
        f"{gutter}--> {place.file}:{place.line}:{place.column}",
        f"{gutter} |",
        f"{number} | {place.text}",
        f"{gutter} | {lead}{marks}{' ' + hint if hint else ''}",
    ]
