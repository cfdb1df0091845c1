"""Errors that are shown to users, and how an error with a location is printed.

The classes, with their exit codes:

    Error: 3
        UsageError: 2, invalid argument, name or path
            IdError: 2, invalid data ID or model ID
            UnknownName: 2, unknown subset, model or key
            TaskFileError: 2, all errors of a task file or file of commands
        JobError: 1, failure of a job for a reason that its owner can fix
        MachineError: 3, queue busy, disk full, no scheduler
            StoreError: 3, the queue's database cannot be used
"""

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import ClassVar, NamedTuple, Protocol

from launcher.system.lazy_regex import compile_lazily

MOST_PROBLEMS = 20  # as in a compiler: more than one screen does not help
MOST_LISTED_ALWAYS = 9  # known words; if there are more, a message lists the nearest
MOST_LISTED = 5
MOST_LISTED_WHOLE = 50  # known words, if none is close and no command lists them
CLOSE_MISTAKES = 2  # letters; a name with more mistakes is not suggested
CLOSE_PREFIX = 3  # letters; a name that begins with the same ones is suggested
WIDTH = 100  # columns of a printed problem; longer lines of the file are cut around the caret

_SENTENCE_END = compile_lazily(r"(?:(?<=[?!])|\.)\s+(?=[A-Z])")
_UNPRINTABLE = r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"


class Severity(StrEnum):
    """How bad a problem is: an error stops the plan, a warning does not."""

    ERROR = "error"
    WARNING = "warning"


class SourceLocation(NamedTuple):
    """A stretch of one line in a user's file; line and column count from 1."""

    file: str
    line: int
    column: int
    text: str
    length: int = 1


class Problem(NamedTuple):
    """One thing that is wrong, where it is, and what to do about it."""

    code: str
    message: str
    severity: Severity = Severity.ERROR
    place: SourceLocation | None = None
    hint: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.severity}[{self.code}]: {re.sub(_UNPRINTABLE, '·', self.message)}"]
        gutter = " " if self.place is None else " " * len(str(self.place.line))
        if self.place is not None:
            lines += _draw_location(self.place, self.hint)
        elif self.hint:
            lines.append(f"{gutter} = help: {self.hint}")
        for note in self.notes:
            lines += textwrap.wrap(
                re.sub(_UNPRINTABLE, "·", note),
                width=WIDTH,
                initial_indent=f"{gutter} = ",
                subsequent_indent=f"{gutter}   ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        return "\n".join(lines)


class HasPlace(Protocol):
    """A part of a user's file."""

    @property
    def place(self) -> SourceLocation:
        """Its location in the file."""


class Problems(list[Problem]):
    """The problems of a user's file, collected while it is read."""

    def add_error(
        self,
        location: HasPlace | SourceLocation | None,
        code: str,
        message: str,
        hint: str = "",
        *notes: str,
    ) -> None:
        """Add one error."""
        place = (
            location if isinstance(location, SourceLocation) or location is None else location.place
        )
        self.append(Problem(code=code, message=message, place=place, hint=hint, notes=notes))

    def add_warning(
        self,
        location: HasPlace | SourceLocation | None,
        code: str,
        message: str,
        hint: str = "",
        *notes: str,
    ) -> None:
        """Add one warning."""
        self.add_error(location, code, message, hint, *notes)
        self[-1] = self[-1]._replace(severity=Severity.WARNING)

    def has_errors(self, first_index: int = 0) -> bool:
        """Return whether the problems after the first `first_index` contain an error."""
        return any(problem.severity is Severity.ERROR for problem in self[first_index:])


class Error(Exception):
    """Base class of errors that are printed as a message without a traceback."""

    exit_code: ClassVar[int] = 3


class UsageError(Error):
    """An argument, a name or a path is wrong."""

    exit_code = 2


class IdError(UsageError):
    """A data ID or model ID does not follow the grammar; `offset` counts characters from 0."""

    def __init__(self, text: str, offset: int, length: int, message: str) -> None:
        super().__init__(f"{message} (in ID {text!r}, at character {offset + 1})")
        self.text, self.offset, self.length, self.message = text, offset, length, message


class UnknownName(UsageError):
    """An unknown name, with the names that are known.

    `where` names the command or page that lists all of them. `suggestion` is the likely name if it is known
    from something other than its letters. `advice` is the remedy.
    """

    def __init__(
        self,
        subject: str,
        name: str,
        names: Iterable[str],
        *,
        where: str = "",
        suggestion: str | None = None,
        advice: str = "",
    ) -> None:
        self.what, self.name, self.known = subject, name, tuple(sorted(names))
        self.suggestion, self.advice = suggestion or nearest(name, self.known), advice
        self.listing = list_known_names(name, self.known, where)
        hint = f". Did you mean {self.suggestion!r}?" if self.suggestion else ""
        end = f"{'' if hint else '.'} {advice}" if advice else ""
        super().__init__(f"unknown {subject} {name!r} ({self.listing}){hint}{end}")


class TaskFileError(UsageError):
    """All errors of a task file. `str` prints them with their places and a count."""

    def __init__(self, problems: Sequence[Problem], *, outcome: str = "nothing was queued") -> None:
        self.problems, self.outcome = tuple(problems), outcome
        drawn = [str(problem) for problem in self.problems[:MOST_PROBLEMS]]
        super().__init__("\n\n".join([*drawn, self.summary]))

    @property
    def summary(self) -> str:
        """One line that counts the errors: `2 errors in tasks/a.yaml; nothing was queued`."""
        errors = sum(problem.severity is Severity.ERROR for problem in self.problems)
        files = sorted({problem.place.file for problem in self.problems if problem.place})
        where = f" in {', '.join(files)}" if files else ""
        hidden = len(self.problems) - MOST_PROBLEMS
        more = f" (the first {MOST_PROBLEMS} are shown)" if hidden > 0 else ""
        return f"{pluralize(errors, 'error')}{where}{more}; {self.outcome}"


class JobError(Error):
    """A job cannot do its work, for a reason that its owner can fix."""

    exit_code = 1


class MachineError(Error):
    """The machine prevents something: disk, lock, process or permission."""


class StoreError(MachineError):
    """The queue's database cannot be used."""


def pluralize(number: int, noun: str) -> str:
    """Return a number with its noun: `1 error`, `2 errors`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def split_advice(message: str) -> tuple[str, str]:
    """Return the first sentence of a message as a headline, and the sentences after it as a hint; '' if none."""
    headline, *rest = _SENTENCE_END.split(message, maxsplit=1)
    hint = "".join(rest)
    if hint[1:2].islower():
        hint = hint[0].lower() + hint[1:]
    return headline.removesuffix("."), hint.removesuffix(".")


def list_known_names(name: str, names: Iterable[str], context: str = "") -> str:
    """Return a list of the known words or, if there are many, of those that are similar to `name`.

    Args:
        name: Unknown name.
        names: All valid words.
        context: Command or page that lists all of them.
    """
    words = list(dict.fromkeys(names))
    if len(words) <= MOST_LISTED_ALWAYS:
        return f"known: {', '.join(words) or 'none'}"
    alike = _close_matches(name, words)[:MOST_LISTED]
    if not alike and not context and len(words) <= MOST_LISTED_WHOLE:
        return f"known: {', '.join(words)}"
    if not alike:
        return f"see all {len(words):,}: {context}" if context else f"{len(words):,} are known"
    closest = f"closest of {len(words):,}: {', '.join(alike)}"
    return f"{closest}; see all: {context}" if context else closest


def meant(name: str, names: Iterable[str], prefix: str = "") -> str:
    """Return `. Did you mean 'x'?` for the closest known name. Empty if none is close.

    Args:
        name: Unknown name.
        names: Known names.
        prefix: Text before the name.
    """
    close = nearest(name, names)
    if close in {None, name}:  # known, but not valid here
        return ""
    return f". Did you mean {f'{prefix}{close}' if prefix else repr(close)}?"


def suggestion_or_known_names(name: str, names: Iterable[str], prefix: str = "") -> str:
    """Return the question of `meant`, or a list of the known names if none is close. It follows a name."""
    names = [*names]
    return meant(name, names, prefix) or f" ({list_known_names(name, names)})"


def did_you_mean(close: str | None) -> str:
    """Return the hint that asks whether a name was meant; '' for none."""
    return f"did you mean '{close}'?" if close else ""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the known name that is closest to `name`, or None if none is close."""
    return next(iter(_close_matches(name, names)), None)


def _close_matches(name: str, names: Iterable[str]) -> list[str]:
    """Return the known names that are close to `name`, the closest first."""
    typed = name.casefold()
    by_fold = {candidate.casefold(): candidate for candidate in names}
    ranks = {word: rank for word in by_fold if (rank := _closeness(typed, word)) is not None}
    return [by_fold[word] for word in sorted(ranks, key=lambda word: ranks[word])]


def _closeness(typed_text: str, word: str) -> tuple[int, int, int] | None:
    """Return the distance of a known word from the typed text, or None if it is not close.

    The order of closeness is: few mistakes, then one word as a prefix of the other, then a common prefix.
    """
    longer, shorter = max(len(typed_text), len(word)), min(len(typed_text), len(word))
    prefix = next((at for at in range(shorter) if typed_text[at] != word[at]), shorter)
    begins_alike = prefix >= CLOSE_PREFIX and 2 * prefix >= shorter
    if not begins_alike and longer - shorter > CLOSE_MISTAKES:
        return None
    mistakes = _edit_distance(typed_text, word)
    # most letters of a short word must match unless letters are only missing:
    # 'ls' may be 'logs', but 'nope' is not 'open' and 'amp' is not 'name'
    most = min(CLOSE_MISTAKES, (longer - (mistakes > longer - shorter)) // 2)
    if mistakes <= most:
        return 0, mistakes, longer - shorter
    return (1 if prefix == shorter else 2, mistakes, longer - shorter) if begins_alike else None


def _edit_distance(first: str, second: str) -> int:
    """Return the number of added, missing, replaced or transposed letters."""
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, a in enumerate(first):
        before, last, row = row, before, [i + 1]
        for j, b in enumerate(second):
            cost = min(before[j + 1] + 1, row[j] + 1, before[j] + (a != b))
            if i and j and a == second[j - 1] and first[i - 1] == b:
                cost = min(cost, last[j - 1] + 1)
            row.append(cost)
    return row[-1]


def _draw_location(place: SourceLocation, hint: str) -> list[str]:
    number = str(place.line)
    gutter = " " * len(number)
    before, marked, after = _clip_line(place)
    # a tab before the caret must stay a tab, or the caret points elsewhere
    lead = "".join("\t" if char == "\t" else " " * _display_width(char) for char in before)
    marks = "^" * max(1, sum(map(_display_width, marked)))
    text = f"{before}{marked}{after}".rstrip()
    return [
        f"{gutter}--> {place.file}:{place.line}:{place.column}",
        f"{gutter} |",
        f"{number} | {text}".rstrip(),
        f"{gutter} | {lead}{marks}{' ' + hint if hint else ''}",
    ]


def _clip_line(place: SourceLocation) -> tuple[str, str, str]:
    """Cut a long line around its marked part; return the text before, in and after it."""
    text = re.sub(_UNPRINTABLE, "·", place.text)
    start = min(max(0, place.column - 1), len(text))
    end = min(start + max(1, place.length), len(text))
    before, marked, after = text[:start], text[start:end], text[end:]
    if len(text) > WIDTH:
        if len(marked) > WIDTH // 2:
            marked, after = marked[: WIDTH // 2] + "…", ""
        if len(before) > WIDTH // 3:
            before = "…" + before[-WIDTH // 3 :]
        room = max(0, WIDTH - len(before) - len(marked))
        after = after if len(after) <= room else after[:room] + "…"
    return before, marked, after


def _display_width(char: str) -> int:
    """Return the width of a character in columns of a terminal."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
