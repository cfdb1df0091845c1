"""What the queue reads from a log, with the lines where it stands: for `launcher numbers` and `launcher show`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from launcher.queue.workers.progress.attempt_progress import END_BYTES, texts_for_numbers
from launcher.queue.workers.progress.printed_lines import (
    EPOCH_MARKER,
    LINE_END,
    LONGEST_BYTES,
    REPORT,
    has_pairs,
    is_report,
    last_whole_lines,
    parse_newest_step,
)
from launcher.queue.workers.progress.printed_numbers import (
    ASKED,
    LeftOut,
    PrintedNumber,
    PrintedNumbers,
    read_newest_step,
    read_printed_numbers,
)
from launcher.queue.workers.progress.reported_numbers import (
    CHUNK_BYTES,
    read_reported_numbers,
    report_names,
)
from launcher.queue.workers.progress.steps import ProgressReport
from launcher.system.files import Json, read_file_end

REPORTED_RULE = "launcher: line"
BESIDE_REPORTS = "the program reports its numbers in lines with `launcher:`"


class LogReport(NamedTuple):
    """The numbers of a log."""

    numbers: Mapping[str, PrintedNumber]
    left_out: Mapping[str, LeftOut]
    step: ProgressReport | None
    notes: tuple[str, ...] = ()  # words that were to be numbers, and names that were never printed


def read_log_report(log: Path, asked_names: Sequence[str] = ()) -> LogReport:
    """Return the numbers of a log of an ended program.

    Raises:
        OSError: the file cannot be read.
    """
    with log.open("rb"):  # a file that is missing has no numbers otherwise
        pass
    more, at = read_file_end(log, END_BYTES + 1)
    end = last_whole_lines(more, END_BYTES)
    reported = read_reported_numbers(log)
    printed = read_printed_numbers(end, asked_names, first_line=_first_line(log, end))
    words: dict[str, Json] = {**reported.steps, **reported.others}
    words = words if has_pairs(words) else {}
    numbers, left_out = dict(printed.numbers), dict(printed.left_out)
    if words:
        numbers = _reported_numbers(log, words)
        left_out = {
            name: LeftOut(BESIDE_REPORTS, each.line)
            for name, each in printed.numbers.items()
            if each.rule != ASKED and name not in numbers
        }
        numbers |= {name: each for name, each in printed.numbers.items() if each.rule == ASKED}
    missing = [f"the log has no number {name!r}" for name in asked_names if name not in numbers]
    return LogReport(
        numbers, left_out, _newest(end, at, printed), (*texts_for_numbers(words), *missing)
    )


def _newest(end: bytes, timestamp: float, printed_numbers: PrintedNumbers) -> ProgressReport | None:
    step = parse_newest_step(end, timestamp) or parse_newest_step(end, timestamp, EPOCH_MARKER)
    if step is not None or printed_numbers.step is None:
        return step
    return read_newest_step(end, timestamp, lambda: end) or printed_numbers.step


def _reported_numbers(log: Path, words: Mapping[str, Json]) -> dict[str, PrintedNumber]:
    lines: dict[str, int] = {}
    for number, report in _reports(log):
        lines |= dict.fromkeys(report_names(report), number)
    return {
        name: PrintedNumber(float(value), lines.get(name, 0), REPORTED_RULE)
        for name, value in words.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _reports(log: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the beginnings of lines with reports, each with the number of its line."""
    number, rest = 1, b""
    with log.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            text = rest + chunk
            place = 0
            for match in REPORT.finditer(text):
                if is_report(text, match.start()):
                    number += text.count(b"\n", place, match.start())
                    place = match.start()
                    end = LINE_END.search(text, place, place + LONGEST_BYTES)
                    yield number, text[place : end.start() if end else place + LONGEST_BYTES]
            # a report may go on in the next piece
            keep = max(place, len(text) - LONGEST_BYTES)
            number += text.count(b"\n", place, keep)
            rest = text[keep:]


def _first_line(log: Path, end: bytes) -> int:
    """Return the number of the line in which the end of a log begins."""
    left, lines = log.stat().st_size - len(end), 1
    with log.open("rb") as file:
        while left > 0 and (chunk := file.read(min(CHUNK_BYTES, left))):
            lines += chunk.count(b"\n")
            left -= len(chunk)
    return lines
