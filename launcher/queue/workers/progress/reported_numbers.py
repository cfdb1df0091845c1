"""The last value of each number that a program reported in its log, however long the log is.

A log is read in pieces, each once: by the supervisor while the program runs, and the rest after its end. What was read
of a long log is kept in a file beside it, because the log limit may leave out the lines that contained the numbers.
"""

import os
import re
from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from launcher.queue.workers.progress.printed_lines import (
    LINE_END,
    LONGEST_BYTES,
    REPORT,
    STEP_MARKER,
    is_report,
    parse_report,
    parse_step,
)
from launcher.system.files import Json, open_descriptor, read_json, write_json_keeping_time

CHUNK_BYTES = 1 << 20
KEPT_BYTES = 8 << 20  # between two writes of the file; a reader reads so much of a log again
MOST_NAMES = 100_000  # names of numbers of one log; a table has fewer columns
SUFFIX = ".numbers"  # end of the name of the file with kept numbers; the rest is the log's name
_MARKER = b"launcher: "
_NAMES = re.compile(rb"([^\s=,;]+?)(?:=| ?[:=] ?(?=[+-]?\.?[0-9]))")


class ReportedNumbers:
    """The last value of each number that was reported in the text so far."""

    def __init__(
        self,
        steps: Mapping[str, Json] | None = None,
        others: Mapping[str, Json] | None = None,
        rest: bytes = b"",
    ) -> None:
        self.steps = dict(steps or {})  # numbers of lines with a step, those of the last step first
        self.others = dict(
            others or {}
        )  # numbers of lines without a step, in the order of the first reports
        self._rest = rest  # a line that has not ended

    def feed(self, text: bytes) -> None:
        """Read the next piece of a log."""
        text = self._rest + text
        end = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        self._read_lines(text[:end])
        self._rest = text[end:]
        if len(self._rest) > CHUNK_BYTES:
            self._read_begun_line()

    def finish(self) -> None:
        """Read the last line if it has no end."""
        self._read_lines(self._rest)
        self._rest = b""

    def to_json(self) -> dict[str, Json]:
        """Return the numbers as JSON."""
        rest = self._rest.decode("latin-1")
        return {"steps": self.steps, "others": self.others, "rest": rest}

    def _read_lines(self, text: bytes) -> None:
        """Read whole lines. Among thousands of lines with the same names, only the last one is parsed."""
        if _MARKER not in text:
            return
        # name → the last report that contains it, the newest one last
        steps: dict[bytes, bytes] = {}
        others: dict[bytes, tuple[int, bytes]] = {}  # in the order of the names, with the place
        in_steps: dict[str, int] = {}  # name → place of the last report of a step
        begins = [
            match.start() for match in REPORT.finditer(text) if is_report(text, match.start())
        ]
        for begin, after in pairwise([*begins, len(text)]):
            end = LINE_END.search(text, begin, after)
            report = _shorten(text[begin : end.start() if end else after])
            names = _NAMES.findall(report)
            if report.startswith(STEP_MARKER):
                for name in names:
                    steps.pop(name, None)
                steps |= dict.fromkeys(names, report)
                # the last value of a name counts, with or without a step
                in_steps |= {name.decode(errors="replace"): begin for name in names}
            else:
                others |= dict.fromkeys(names, (begin, report))
        self._add_steps(dict.fromkeys(steps.values()))
        self.others = _drop_names(self.others, in_steps)
        self._add_others(others, in_steps)

    def _add_steps(self, reports: Iterable[bytes]) -> None:
        for report in reports:
            if (step := parse_step(report, 0.0)) is not None:
                self.steps = _limit({**step.metrics, **_drop_names(self.steps, step.metrics)})

    def _add_others(
        self, reports: Mapping[bytes, tuple[int, bytes]], in_steps: Mapping[str, int]
    ) -> None:
        values: dict[str, Json] = {}
        for place, report in sorted(set(reports.values())):
            pairs = parse_report(report[len(_MARKER) :].decode(errors="replace"))
            values |= {
                name: value for name, value in pairs.items() if in_steps.get(name, -1) < place
            }
        names = [name.decode(errors="replace") for name in reports]
        in_order = {name: values[name] for name in names if name in values}
        self.others = _limit(self.others | in_order | values)

    def _read_begun_line(self) -> None:
        """Read the words so far of a very long line; hold the last one only."""
        text = self._rest
        found = next((m for m in REPORT.finditer(text) if is_report(text, m.start())), None)
        if found is None:
            self._rest = text[-LONGEST_BYTES:]
            return
        cut = text.rfind(b" ", found.end())
        if cut < 0:  # the first word of the line continues
            self._rest = text[found.start() :][:LONGEST_BYTES]
            return
        self._read_lines(text[found.start() : cut])
        # otherwise a pair without a value, so that the words that follow belong to a report
        begin = found[0] if found[0].startswith(STEP_MARKER) else _MARKER + b"_="
        self._rest = begin + text[cut:][:LONGEST_BYTES]


class NumbersReader:
    """Reads the reported numbers of one log in pieces, and keeps them in a file beside it."""

    def __init__(self, log: Path, numbers: ReportedNumbers | None = None, offset: int = 0) -> None:
        """Begin with a log, or continue at an offset with the numbers before it."""
        self.numbers = numbers or ReportedNumbers()
        self._log, self._offset, self._kept = log, offset, offset

    def read(self, descriptor: int, size: int, *, end: int | None = None) -> None:
        """Read a log up to an offset, by default to its end.

        Args:
            descriptor: descriptor of the log.
            size: size of the log.
            end: where to stop.

        Raises:
            OSError: the disk does not answer.
        """
        if size < self._offset:  # the program has cut the log
            self._offset = self._kept = 0
        end = size if end is None else end
        while self._offset < end and (
            text := os.pread(descriptor, min(CHUNK_BYTES, end - self._offset), self._offset)
        ):
            self.numbers.feed(text)
            self._offset += len(text)

    def read_backlog(self, descriptor: int, size: int) -> None:
        """Read a log to its end if there is much to read; so little is left when its program ends.

        Raises:
            OSError: the disk does not answer.
        """
        if not self._kept <= size < self._kept + KEPT_BYTES:
            self.read(descriptor, size)
            self.keep()

    def move(self, shift: int) -> None:
        """Follow a move of the last part of the log by so many bytes towards its beginning."""
        self._offset -= shift
        self.keep()

    def keep(self) -> None:
        """Write the file; if the disk is full, the next call does it."""
        record = {"offset": self._offset, **self.numbers.to_json()}
        with suppress(OSError):
            write_json_keeping_time(_file_of(self._log), record)
            self._kept = self._offset


def report_names(report: bytes) -> list[str]:
    """Return the names of the pairs in a report."""
    return [name.decode(errors="replace") for name in _NAMES.findall(report)]


def read_reported_numbers(log: Path, *, may_be_cut: bool = False) -> ReportedNumbers:
    """Return the numbers in the whole log of an ended program, also in the parts that the log limit left out.

    Args:
        log: The log.
        may_be_cut: The program was killed, so a last line without an end does not count.
    """
    numbers, offset = ReportedNumbers(), 0
    with suppress(OSError):
        match read_json(_file_of(log)):
            case {
                "offset": int(at),
                "steps": dict(steps),
                "others": dict(others),
                "rest": str(rest),
            }:
                offset = at
                numbers = ReportedNumbers(steps, others, rest.encode("latin-1", errors="replace"))
    with suppress(OSError), open_descriptor(log, os.O_RDONLY | os.O_NONBLOCK) as descriptor:
        NumbersReader(log, numbers, offset).read(descriptor, os.fstat(descriptor).st_size)
    if not may_be_cut:
        numbers.finish()
    return numbers


def parse_reported_numbers(log: bytes, *, may_be_cut: bool = False) -> ReportedNumbers:
    """Return the numbers in the text of a whole log. See `read_reported_numbers`."""
    numbers = ReportedNumbers()
    numbers.feed(log)
    if not may_be_cut:
        numbers.finish()
    return numbers


def _file_of(log: Path) -> Path:
    return log.with_name(log.name + SUFFIX)


def _shorten(report: bytes) -> bytes:
    """Return a report with the words that can be pairs; a list of a million numbers takes seconds otherwise."""
    if len(report) <= LONGEST_BYTES:
        return report
    words = report[len(_MARKER) :].split()
    return _MARKER + b" ".join(word[:LONGEST_BYTES] for word in words if b"=" in word)


def _drop_names(values: Mapping[str, Json], names: Container[str]) -> dict[str, Json]:
    return {name: value for name, value in values.items() if name not in names}


def _limit(values: dict[str, Json]) -> dict[str, Json]:
    while len(values) > MOST_NAMES:
        values.popitem()
    return values
