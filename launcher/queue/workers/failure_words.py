"""The words with which a program says why it failed: the line at the end of its log that names the error.

This line is often not the last one. A progress bar is drawn again, torchrun prints a summary, Python flushes what it
has buffered. So the log is read from its end:

* Bars, separators, blank lines and closing lines of tools are passed over, as is an exception that Python ignores.
* The nearest error counts. Only a few other lines may follow it. More may follow an error that ends a program: Python
  prints a traceback before it flushes the buffer of standard output.
* A line that only says that another process failed counts if there is no error above it.
* If several ranks failed, the error of the rank counts that torchrun names as the root cause, or else the first error.
* Otherwise the last line that is not passed over counts.

A program may report an error, handle it and fail later for another reason. So an error above counts less if the last
line may name one.
"""

import re
from collections.abc import Sequence

from launcher.queue.workers.failure_forms import (
    LineKind,
    is_consequence,
    is_of_parallel_program,
    is_one_of_several,
    mentions_failure,
)
from launcher.queue.workers.failure_lines import LogLine, begins_traceback, message_at, read_lines
from launcher.queue.workers.progress.printed_lines import MOST_CHARACTERS

_MOST_HINTS = 3  # other lines that may follow an error
_MOST_FAREWELLS = 10  # other lines that may follow an error that ends a program
_BUFFERED_CHARACTERS = 8192 + 200  # Python writes a buffer and a line after a traceback
_ROOT_CAUSE = re.compile(r"\s*Root Cause\b[^:]*:\Z")
_ROOT_CAUSE_LINES = 8  # lines in which torchrun describes the rank
_CHILD_FAILED = re.compile(r"\s*(?:\w+\.)*ChildFailedError\b")
_RANK = re.compile(r"\s*rank\s*: (\d+)")
_CAUSE = re.compile(r"\s*traceback\s*: (.+)")
_SIGNAL = re.compile(r"Signal \d+ \((SIG\w+)\)")
_CRASH_SIGNALS = {"SIGABRT", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP"}
_ERRORS = {LineKind.UNCAUGHT, LineKind.ERROR, LineKind.CRASH}


def find_failure_words(end: bytes, *, is_cut: bool = False, was_killed: bool = False) -> str:
    """Return the line that names the error of a program; empty if every line is passed over.

    Args:
        end: The end of its log.
        is_cut: The first line begins above this end.
        was_killed: It was ended from outside. Then an error counts only if nothing else was printed after it.
    """
    lines = read_lines(end, is_cut=is_cut)
    words = "" if was_killed else _find_root_cause(lines)
    if not words:
        place = _find_error(lines, was_killed=was_killed)
        words = "" if place is None else message_at(lines, place)
    return words if len(words) <= MOST_CHARACTERS else f"{words[:MOST_CHARACTERS]}…"


def find_last_error(end: bytes, *, is_cut: bool = False) -> str:
    """Return the uncaught error with which a log ends; empty if something else was printed after it.

    Args:
        end: The end of the log.
        is_cut: The first line begins above this end.
    """
    lines = read_lines(end, is_cut=is_cut)
    for place in reversed(range(len(lines))):
        if lines[place].kind is LineKind.UNCAUGHT:
            return message_at(lines, place)[:MOST_CHARACTERS]
        if lines[place].kind is not LineKind.PASSED:
            break
    return ""


class _Search:
    """A search for the error from the last line upwards."""

    def __init__(self, *, was_killed: bool) -> None:
        """Begin below the last line."""
        self._was_killed = was_killed
        self._others = self._characters = 0  # lines of no known form so far
        self._last: int | None = None  # place of the last line of no known form
        self._may_be_error = False  # whether the last line of no known form may be an error
        self._indented: int | None = None  # place of an indented line below that line
        self._crash_others = 0  # other lines below the crash
        self._spare: dict[LineKind, int] = {}  # lines that count if there is no better one

    def is_over(self) -> bool:
        """Return whether no line further up can count."""
        if self._was_killed or LineKind.CRASH in self._spare:
            return self._others > self._crash_others + _MOST_HINTS
        return self._others > _MOST_FAREWELLS and self._characters > _BUFFERED_CHARACTERS

    def is_found(self, place: int, line: LogLine) -> bool:
        """Return whether the next line upwards names the error."""
        match line.kind:
            case LineKind.OTHER:
                self._add_other(place, line)
            case LineKind.INDENTED if self._indented is None and self._last is None:
                self._indented = place
            case LineKind.UNCAUGHT:
                return self._is_uncaught_near()
            case LineKind.ERROR:
                if self._is_error_near(line):
                    return True
                if self._others <= _MOST_FAREWELLS and not self._was_killed:
                    self._spare.setdefault(line.kind, place)
            case LineKind.CRASH if self._others <= _MOST_HINTS:
                self._spare.setdefault(line.kind, place)
                self._crash_others = self._others
            case LineKind.SUMMARY if self._others <= _MOST_HINTS:
                self._spare[line.kind] = place  # the first one is nearest to the failed process
            case LineKind.SECONDARY if self._others <= _MOST_FAREWELLS:
                self._spare.setdefault(line.kind, place)
        return False

    def best_spare(self, lines: Sequence[LogLine]) -> int | None:
        """Return the place of the line that counts if none names the error."""
        crash = self._spare.get(LineKind.CRASH)
        error = self._last if self._may_be_error and not self._was_killed else None
        if crash is not None and error is not None and self._crash_others == 0:
            # a program prints a message and calls abort(); a segmentation fault needs no message
            return error if "Aborted" in lines[crash].text else crash
        places = (
            error,
            crash,
            self._spare.get(LineKind.ERROR),
            self._spare.get(LineKind.SECONDARY),
            self._spare.get(LineKind.SUMMARY),
            self._indented,
            self._last,
        )
        return next((place for place in places if place is not None), None)

    def _add_other(self, place: int, line: LogLine) -> None:
        if self._last is None:
            self._last, self._may_be_error = place, mentions_failure(line.text)
        self._others += 1
        self._characters += len(line.text) + 1

    def _is_uncaught_near(self) -> bool:
        """Return whether an error that ends a program counts in spite of the lines below it."""
        if self._was_killed:
            return self._others == 0
        if self._may_be_error or LineKind.CRASH in self._spare:
            return self._others <= self._crash_others + _MOST_HINTS
        return self._others <= _MOST_FAREWELLS or self._characters <= _BUFFERED_CHARACTERS

    def _is_error_near(self, line: LogLine) -> bool:
        """Return whether an error counts in spite of the lines below it."""
        if LineKind.CRASH in self._spare:
            return self._others == self._crash_others
        if self._was_killed or self._may_be_error:  # "Fatal error:" continues on the next line
            return self._others == 0 or (self._others == 1 and line.text.endswith(":"))
        return self._others <= _MOST_HINTS


def _find_error(lines: Sequence[LogLine], *, was_killed: bool = False) -> int | None:
    """Return the place of the line that names the error; None if every line is passed over."""
    search = _Search(was_killed=was_killed)
    for place in reversed(range(len(lines))):
        if search.is_found(place, lines[place]):
            return place if was_killed else _first_of_several(lines, place)
        if search.is_over():
            break
    return search.best_spare(lines)


def _first_of_several(lines: Sequence[LogLine], place: int) -> int:
    """Return the place of the first of several errors of which this is the last: of ranks, or of a compiler."""
    line = lines[place]
    above = _errors_above(lines, place)
    if is_one_of_several(line.text):
        return min([place, *(at for at in above if is_one_of_several(lines[at].text))])
    if line.kind is not LineKind.UNCAUGHT:
        return place
    has_ranks = line.process.isdecimal() or any(
        is_of_parallel_program(below.text) for below in lines[place:]
    )
    return _first_cause(lines, [place, *above]) if has_ranks else place


def _errors_above(lines: Sequence[LogLine], place: int) -> list[int]:
    """Return the places of the errors of the same kind above one, with few other lines between them."""
    places, others = [], 0
    for above in reversed(range(place)):
        if lines[above].kind is lines[place].kind:
            places.append(above)
            others = 0
        others += lines[above].kind is LineKind.OTHER
        if others > _MOST_HINTS:
            break
    return places


def _first_cause(lines: Sequence[LogLine], places: Sequence[int]) -> int:
    """Return the place of the first error of a rank that is not a consequence of another rank's end."""
    last_of_rank = {lines[place].process or str(-place): place for place in sorted(places)}
    causes = [at for at in last_of_rank.values() if not is_consequence(lines[at].text)]
    return min(causes or last_of_rank.values())


def _find_root_cause(lines: Sequence[LogLine]) -> str:
    """Return the error of the rank that torchrun names as the root cause; empty if it does not name one."""
    root = max((at for at, line in enumerate(lines) if _ROOT_CAUSE.match(line.text)), default=None)
    if root is None:
        return ""
    if sum(line.kind is LineKind.OTHER for line in lines[root:]) > _MOST_FAREWELLS:
        return ""
    described = range(root, min(root + _ROOT_CAUSE_LINES, len(lines)))
    rank = next((match[1] for at in described if (match := _RANK.match(lines[at].text))), "")
    cause = next((match[1] for at in described if (match := _CAUSE.match(lines[at].text))), "")
    if begins_traceback(cause):
        below = (at for at in range(root, len(lines)) if lines[at].kind is LineKind.UNCAUGHT)
        if (place := next(below, None)) is not None:
            return message_at(lines, place)
    signal = _SIGNAL.match(cause)
    if signal and signal[1] not in _CRASH_SIGNALS:
        return cause
    summary = (at for at in reversed(range(root)) if _CHILD_FAILED.match(lines[at].text))
    above = lines[: next(summary, root)]
    place = _find_error_of_rank(above, rank)
    return message_at(above, place) if place is not None else cause if signal else ""


def _find_error_of_rank(lines: Sequence[LogLine], rank: str) -> int | None:
    """Return the place of a rank's error, or that of the first one if no line names this rank."""
    place = _find_error(lines)
    if place is None or lines[place].kind not in _ERRORS:
        return None
    if lines[place].kind is not LineKind.UNCAUGHT:
        return place
    own = [
        at
        for at, line in enumerate(lines)
        if line.kind is LineKind.UNCAUGHT and line.process == rank
    ]
    return own[-1] if own else _first_cause(lines, [place, *_errors_above(lines, place)])
