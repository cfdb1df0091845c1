"""The numbers that programs print, and how far they are: one reader for tables, screens, curves and searches.

Three things count, in this order: the line of a known tool, a line that consists of pairs, a row of a table with
headings. The last value of each name counts, and none if it cannot be read. The title of a line or block is part of
a name if two titles have the same name. Names of settings, times and sizes do not count, unless the user asks for them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from launcher.queue.workers.progress.log_lines import log_lines
from launcher.queue.workers.progress.log_reader import LogReader
from launcher.queue.workers.progress.number_names import (
    OF_BATCH,
    name_numbers,
    plain_name,
    table_rank,
)
from launcher.queue.workers.progress.printed_lines import LONGEST_BYTES, last_whole_lines
from launcher.queue.workers.progress.progress_bars import parse_newest_bar
from launcher.queue.workers.progress.steps import ProgressReport
from launcher.system.files import Json

MOST_NUMBERS = 200  # names of one log that count
STEP_BYTES = 16 << 10  # bytes of a log, for its newest step
BAR_BYTES = 4 << 10  # bytes of a log, for its newest bar
ASKED = "asked for"  # rule of names that the user asks for


class PrintedNumber(NamedTuple):
    """A number that counts."""

    value: float
    line: int  # in the log, from 1
    rule: str  # the form or kind of the number's line


class LeftOut(NamedTuple):
    """Why a name does not count."""

    reason: str
    line: int


class PrintedNumbers(NamedTuple):
    """The numbers and steps of a log."""

    numbers: Mapping[str, PrintedNumber]  # those of tests first
    left_out: Mapping[str, LeftOut]
    step: ProgressReport | None  # the newest step
    steps: Sequence[ProgressReport] = ()  # steps with numbers
    has_inner_bars: bool = False  # bars below others were drawn

    @property
    def values(self) -> dict[str, float]:
        """Name → value."""
        return {name: each.value for name, each in self.numbers.items()}


def read_printed_numbers(
    text: bytes,
    asked_names: Sequence[str] = (),
    *,
    first_line: int = 1,
    is_ended: bool = True,
    timestamp: float = 0.0,
) -> PrintedNumbers:
    """Return the numbers in a piece of a log.

    Args:
        text: From the end of a log.
        asked_names: Names that count wherever they are printed as a pair.
        first_line: Number of its first line.
        is_ended: Nothing is written any more, so the last line is whole.
        timestamp: When it was written, in seconds since 1970.
    """
    reader = LogReader(asked_names, timestamp)
    reader.read(log_lines(text, first_line), is_ended=is_ended)
    numbers: dict[str, tuple[str, PrintedNumber]] = {}  # by the plain name
    of_steps: dict[int, dict[str, Json]] = {}
    left_out = {name: LeftOut(reason, line) for name, (reason, line) in reader.left_out.items()}
    for name, found, reason in name_numbers(reader.found, reader.table_rows, reader.evaluated):
        unread = reader.unread.get(plain_name(found.name), 0)
        if found.is_counted and unread > found.line and not reason:
            reason = f"line {unread} has a newer one between other text"
        if found.step >= 0 and reason in {"", OF_BATCH}:
            of_steps.setdefault(found.step, {})[name] = found.value
        reason = reason or _reason_of_newer(reader, found.name, found.value, found.line)
        if reason:
            left_out.setdefault(name, LeftOut(reason, found.line))
        else:
            numbers[plain_name(name)] = name, PrintedNumber(found.value, found.line, found.rule)
    for name, (value, line) in reader.asked_found.items():
        if reason := _reason_of_newer(reader, name, value, line):
            left_out[name] = LeftOut(reason, line)
            numbers.pop(plain_name(name), None)
        else:
            numbers[plain_name(name)] = name, PrintedNumber(value, line, ASKED)
    ordered = sorted(
        numbers.values(), key=lambda item: (item[1].rule != ASKED, table_rank(item[0]))
    )
    kept = dict(ordered[:MOST_NUMBERS])
    return PrintedNumbers(
        kept,
        {name: each for name, each in left_out.items() if plain_name(name) not in numbers},
        reader.newest_step(),
        [step._replace(metrics=of_steps[n]) for n, step in reader.outer_steps() if n in of_steps],
        bool(reader.inner_bars),
    )


def _reason_of_newer(reader: LogReader, name: str, number: float, line: int) -> str:
    """Return why a number is not the last one of its name: a newer one cannot be read. '' if it is the last.

    The newer one may be the same number with more decimals.
    """
    newer, value = reader.unread_values.get(plain_name(name), (0, None))
    decimals = len(repr(number).partition(".")[2])
    if newer <= line or (value is not None and round(value, decimals) == number):
        return ""
    return f"line {newer} has a newer one that cannot be read"


def read_newest_step(
    text: bytes, timestamp: float, more: Callable[[], bytes]
) -> ProgressReport | None:
    """Return the newest step in the end of a growing log, with its numbers.

    Args:
        text: The end.
        timestamp: When it was written, in seconds since 1970.
        more: Returns a longer end, in which the outer one of nested bars is drawn.
    """
    end = last_whole_lines(text, STEP_BYTES)
    found = read_printed_numbers(end, is_ended=False, timestamp=timestamp)
    step = found.step
    if found.has_inner_bars:
        step = parse_newest_bar(text[-BAR_BYTES:], timestamp, more) or step
    if step is None:
        return None
    return step if step.metrics else step._replace(metrics=found.values)


def parse_printed_steps(text: bytes, timestamp: float) -> tuple[list[ProgressReport], int]:
    """Return the steps with numbers in a piece of a log, and where an unfinished line may begin.

    A bar has no end, and is read again with the next piece.
    """
    last = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
    steps = read_printed_numbers(text, timestamp=timestamp, is_ended=False).steps
    return [*steps], last if len(text) - last < LONGEST_BYTES else len(text)
