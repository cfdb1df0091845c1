"""The progress of an attempt from any source; all screens use it.

The first of several sources that has something counts: reports of the job's own, lines that it prints
for us, TensorBoard's event files, a progress bar. Nothing is read before a screen needs it.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from launcher.queue.home.paths import NUMBER_FILES, Attempt
from launcher.queue.workers.progress.event_files import NEWEST_BYTES
from launcher.queue.workers.progress.growing_files import IncrementalFileReader
from launcher.queue.workers.progress.printed_lines import (
    EPOCH_MARKER,
    STEP_MARKER,
    has_pairs,
    last_line,
    last_whole_lines,
    parse_newest_step,
    parse_steps,
)
from launcher.queue.workers.progress.progress_bars import parse_bars
from launcher.queue.workers.progress.reported_numbers import (
    ReportedNumbers,
    parse_reported_numbers,
    read_reported_numbers,
)
from launcher.queue.workers.progress.steps import (
    AttemptProgress,
    ProgressReport,
    read_newest_report,
    read_reports,
)
from launcher.system.files import Json, read_bytes, read_file_end

MOST_BYTES = 1 << 20  # bytes of reports: about ten thousand steps
END_BYTES = 64 << 10  # bytes of a log, for its newest step
BEGIN_BYTES = 16 << 10  # bytes of a log, for its first step
WHOLE_BYTES = 1 << 19  # no log limit leaves out a part of a shorter log
_RATED_S = (
    1.0  # shortest time with a mean rate: the files of an ended function are all as old as its end
)
MOST_NUMBERS = 200  # numbers that a program did not report to us
# reserved keys among the numbers of a program: the source of those that were not reported, why others are missing, and
# the printed names that do not count
READ_FROM, NUMBER_FAULTS, LEFT_OUT = "read_from", "number_faults", "left_out"
_RESERVED = frozenset({NUMBER_FAULTS, LEFT_OUT})
_COUNTS = frozenset({"epoch", "step", "total"})  # counters, such as `epoch=2/5`
MOST_LEFT_OUT = 30  # names that are stored
# stored words: the sources
REPORTED, METRICS_FILE, EVENT_FILES, LOG = "reported", "metrics file", "event files", "log"

_PRINTED, _BARS = IncrementalFileReader(parse_steps), IncrementalFileReader(parse_bars)
# forms of lines that few screens need
_LINES = IncrementalFileReader(
    lambda text, timestamp: _forms().parse_printed_steps(text, timestamp)
)
_EPOCHS = IncrementalFileReader(partial(parse_steps, marker=EPOCH_MARKER))


def _forms() -> ModuleType:
    """Return the module that reads the lines of any program."""
    # compiling the patterns takes milliseconds
    from launcher.queue.workers.progress import printed_numbers

    return printed_numbers


_DIGIT = re.compile(rb"[0-9]")
_BEGINS_AS_NUMBER = re.compile(r"[\[({'\"]?[+-]?\.?\d")


def read_attempt_progress(attempt: Attempt) -> AttemptProgress:
    """Return the newest step of an attempt, or the last line of its log."""
    if (own := read_newest_report(attempt.progress)) is not None:
        return AttemptProgress(step=own)
    ends = [(log, *read_file_end(log, END_BYTES)) for log in (attempt.log, attempt.stderr)]
    if (printed := _newest_printed(attempt, ends, STEP_MARKER)) is not None:
        return AttemptProgress(step=printed)
    if (event := _newest_event(attempt, *NEWEST_BYTES)) is not None:
        return AttemptProgress(step=event)
    if rows := _metrics_file_steps(attempt, END_BYTES):
        return AttemptProgress(step=rows[-1])
    if (printed := _newest_printed(attempt, ends, EPOCH_MARKER)) is not None:
        return AttemptProgress(step=printed)
    lines = [_newest_of_lines(attempt, *end) for end in ends if _DIGIT.search(end[1])]
    found = [step for step in lines if step is not None]
    if found:  # the file with a bar says more than the other one
        _, rated = max(found, key=lambda each: (each[0], each[1].at))
        return AttemptProgress(step=rated)
    newest = max(ends, key=lambda each: (bool(each[1].strip()), each[2]))
    return AttemptProgress(line=last_line(newest[1]))


def _newest_of_lines(
    attempt: Attempt, log: Path, end: bytes, timestamp: float
) -> tuple[bool, ProgressReport] | None:
    """Return the newest step in the lines of a log, and whether a bar shows it; None if there is none."""
    step: ProgressReport | None = _forms().read_newest_step(end, timestamp, partial(_read_end, log))
    if step is None or step.rate is not None:
        return None if step is None else (True, step)
    first, _ = _forms().parse_printed_steps(_read_beginning(log), 0.0)
    return False, _with_rate(step, attempt, first)


def _newest_printed(
    attempt: Attempt, ends: Iterable[tuple[Path, bytes, float]], marker: bytes
) -> ProgressReport | None:
    """Return the newest step in the ends of logs, each with the time of its last change."""
    for log, end, at in ends:
        if (printed := parse_newest_step(end, at, marker)) is not None:
            first, _ = parse_steps(_read_beginning(log), 0.0, marker)
            return _with_rate(printed, attempt, first)
    return None


def read_last_metrics(attempt: Attempt, *, may_be_cut: bool = False) -> dict[str, Json]:
    """Return the last value of each number of an ended attempt, those of its last step first.

    Reported numbers count more than those of files, and these more than printed ones, which are read if the program
    reports none. The last line that reports a name counts, with or without a step. Names that the job asks
    for count wherever they are printed. `READ_FROM` is the source of the numbers that were not reported: a word, or a
    word for each number if there are several sources. `NUMBER_FAULTS` is a list of sentences, if numbers are missing
    that were to be read, and `LEFT_OUT` contains the printed names that do not count.

    Args:
        attempt: The attempt.
        may_be_cut: Its program was killed, so a last line without an end does not count.
    """
    log, _ = read_file_end(attempt.log, MOST_BYTES)
    errors, _ = read_file_end(attempt.stderr, MOST_BYTES)
    in_errors, in_log = (
        _read_reported_numbers(attempt.stderr, errors, may_be_cut=may_be_cut),
        _read_reported_numbers(attempt.log, log, may_be_cut=may_be_cut),
    )
    steps = read_reports(attempt.progress, MOST_BYTES)
    printed = {} if steps else {**in_log.steps, **in_errors.steps, **in_log.steps}
    reported = {**_last_values(steps), **printed, **in_errors.others, **in_log.others}
    reported = reported if has_pairs(reported) else {}
    found: dict[str, Mapping[str, Json]] = {
        REPORTED: reported,
        METRICS_FILE: _file_results(_metrics_file_steps(attempt, MOST_BYTES)),
    }
    if not (steps or printed):
        found[EVENT_FILES] = _file_results(_event_file_steps(attempt, MOST_BYTES))
    asked = _asked_names(attempt)
    is_alone = not (reported or found.get(EVENT_FILES))
    lines = _read_lines((errors, log), asked, alone=is_alone, may_be_cut=may_be_cut)
    found[LOG] = lines.numbers
    faults = [
        *read_file_faults(attempt),
        *texts_for_numbers(reported),
        *(
            f"the log has no number {name!r}"
            for name in asked
            if name not in lines.numbers and name not in reported
        ),
    ]
    return {
        **_combine(found),
        **({NUMBER_FAULTS: [*faults]} if faults else {}),
        **({LEFT_OUT: [*lines.left_out]} if lines.left_out else {}),
    }


def _file_results(steps: Sequence[ProgressReport]) -> dict[str, Json]:
    """Return the last value of each number of files that is a result, those of tests and validations first."""
    if not steps:
        return {}
    from launcher.queue.workers.progress.metrics_files import is_result  # tables, of few jobs
    from launcher.queue.workers.progress.number_names import table_rank

    found = {name: value for name, value in _last_values(steps).items() if is_result(name)}
    return dict(sorted(found.items(), key=lambda item: table_rank(item[0])))


class _Lines(NamedTuple):
    """The numbers of lines that were not written for launcher."""

    numbers: Mapping[str, Json]
    left_out: Sequence[str]  # printed names that do not count


def _read_lines(
    texts: Iterable[bytes], asked_names: Sequence[str], *, alone: bool, may_be_cut: bool
) -> _Lines:
    """Return the numbers in the ends of logs.

    Args:
        texts: the ends; those of the last one count more.
        asked_names: names that count wherever they are printed.
        alone: nothing else has numbers; otherwise only those that are asked for count.
        may_be_cut: a last line without an end does not count.
    """
    numbers: dict[str, Json] = {}
    left_out: dict[str, None] = {}
    for text in texts if alone or asked_names else ():
        end = last_whole_lines(text, END_BYTES)
        if not _DIGIT.search(end):  # the forms are imported for programs that print numbers
            continue
        printed = _forms().read_printed_numbers(end, asked_names, is_ended=not may_be_cut)
        if alone:
            left_out |= dict.fromkeys(printed.left_out)
        for name, number in printed.numbers.items():
            if alone or number.rule == _forms().ASKED:
                numbers.pop(name, None)
                numbers[name] = number.value
    kept = [name for name in left_out if name not in numbers]
    return _Lines(numbers, kept[:MOST_LEFT_OUT])


def texts_for_numbers(reported_numbers: Mapping[str, Json]) -> list[str]:
    """Return a sentence for each reported word that was to be a number."""
    texts = {name: value for name, value in reported_numbers.items() if isinstance(value, str)}
    if not texts:
        return []
    from launcher.queue.workers.progress.result_names import (
        reason_against,  # few programs report words
    )

    return [
        f"{name} was reported as a text: {value}"
        for name, value in texts.items()
        if name not in _COUNTS and (_BEGINS_AS_NUMBER.match(value) or not reason_against(name))
    ]


def _asked_names(attempt: Attempt) -> tuple[str, ...]:
    """Return the names of printed numbers that an attempt's job asks for."""
    try:
        text = read_bytes(attempt.spec)
        if b'"numbers"' not in text:
            return ()
        # the reader of specs, which the screens do not need
        from launcher.queue.workers.attempt_spec import read_attempt_spec

        order = read_attempt_spec(text)
    except (OSError, ValueError):
        return ()
    return order.spec.terms.numbers


class NumberNotes(NamedTuple):
    """Notes about the numbers of a job."""

    faults: tuple[str, ...] = ()  # why numbers that were to be read are missing
    left_out: tuple[str, ...] = ()  # printed names that are no results


def split_reserved_keys(numbers: Mapping[str, Json]) -> tuple[dict[str, Json], NumberNotes]:
    """Return the numbers of a program without the reserved keys, and what these say."""
    faults, left_out = numbers.get(NUMBER_FAULTS), numbers.get(LEFT_OUT)
    left = {name: value for name, value in numbers.items() if name not in _RESERVED}
    return left, NumberNotes(
        tuple(map(str, faults)) if isinstance(faults, list) else (),
        tuple(map(str, left_out)) if isinstance(left_out, list) else (),
    )


def _combine(numbers_by_source: Mapping[str, Mapping[str, Json]]) -> dict[str, Json]:
    """Return the numbers of several sources, and where they are from; the first source of a number counts."""
    sources: dict[str, str] = {}
    for source, numbers in numbers_by_source.items():
        for name in islice(numbers, MOST_NUMBERS if source != REPORTED else None):
            sources.setdefault(name, source)
    values = {name: numbers_by_source[source][name] for name, source in sources.items()}
    words = {*sources.values()} - {REPORTED}
    if not words:
        return values
    if len({*sources.values()}) == 1:
        return {**values, READ_FROM: words.pop()}
    return {**values, READ_FROM: {**sources}}


def _read_reported_numbers(log: Path, end: bytes, *, may_be_cut: bool) -> ReportedNumbers:
    """Return the numbers that were reported in a file, of which the end is read already."""
    if len(end) < WHOLE_BYTES:
        return parse_reported_numbers(end, may_be_cut=may_be_cut)
    return read_reported_numbers(log, may_be_cut=may_be_cut)


def _last_values(steps: Sequence[ProgressReport]) -> dict[str, Json]:
    """Return the last value of each metric, those of the last step first."""
    told = {name: value for step in steps for name, value in step.metrics.items()}
    return {**(steps[-1].metrics if steps else {}), **told}


def _read_end(log: Path) -> bytes:
    return read_file_end(log, MOST_BYTES)[0]


def _newest_event(attempt: Attempt, *sizes: int) -> ProgressReport | None:
    module = _named_files(attempt)
    step: ProgressReport | None = (
        None if module is None else module.read_newest_event_file_step(attempt, sizes)
    )
    return step


def read_newest_step(attempt: Attempt) -> ProgressReport | None:
    """Return the newest step of an attempt, or None if nothing reports any."""
    return read_attempt_progress(attempt).step


def read_reported_steps(attempt: Attempt, most_bytes: int = MOST_BYTES) -> list[ProgressReport]:
    """Return the steps of an attempt that were reported, the oldest first.

    Args:
        attempt: where it keeps its records.
        most_bytes: that are read from the end of each file in which it reports.
    """
    return next(filter(None, _steps_by_source(attempt, most_bytes)), [])


def _steps_by_source(attempt: Attempt, most_bytes: int) -> Iterator[list[ProgressReport]]:
    """Yield the steps of each source in turn."""
    yield read_reports(attempt.progress, most_bytes)
    yield _PRINTED.items(attempt.log, most_bytes)
    yield _PRINTED.items(attempt.stderr, most_bytes)
    yield _event_file_steps(attempt, most_bytes)
    yield _metrics_file_steps(attempt, most_bytes)
    yield _EPOCHS.items(attempt.log, most_bytes)
    yield _EPOCHS.items(attempt.stderr, most_bytes)
    yield _LINES.items(attempt.log, most_bytes)
    yield _LINES.items(attempt.stderr, most_bytes)
    yield from (_BARS.items(log, most_bytes) for log in (attempt.log, attempt.stderr))


def _with_rate(
    step: ProgressReport, attempt: Attempt, first: Sequence[ProgressReport]
) -> ProgressReport:
    """Return a step that was printed with the mean rate since the attempt began: the lines have no times.

    Args:
        step: the newest.
        attempt: that printed it.
        first: the steps in the beginning of its log.
    """
    begin = first[0].step if first else step.step
    passed_s = step.at - start_time(attempt)
    if passed_s < _RATED_S or step.step <= begin:
        return step
    return step._replace(rate=(step.step - begin) / passed_s)


def _read_beginning(log: Path) -> bytes:
    try:
        with log.open("rb", buffering=0) as file:
            return file.read(BEGIN_BYTES)
    except OSError:
        return b""


def start_time(attempt: Attempt) -> float:
    """Return when an attempt's program was started, in seconds since 1970; later at most."""
    try:
        # a write into the record at the end changes no name in the folder
        return min(attempt.spec.stat().st_mtime, attempt.folder.stat().st_mtime)
    except OSError:
        return 0.0


def _named_files(attempt: Attempt) -> ModuleType | None:
    """Return the module that reads the files of numbers of an attempt; None if its job names none."""
    if not os.path.exists(attempt.path_text(NUMBER_FILES)):  # noqa: PTH110  # done for every attempt
        return None
    from launcher.queue.workers.progress import named_files  # tables and event files, of few jobs

    return named_files


def _metrics_file_steps(attempt: Attempt, most_bytes: int) -> list[ProgressReport]:
    """Return the rows of the file in which an attempt's program writes numbers; empty if its job names no file."""
    module = _named_files(attempt)
    steps: list[ProgressReport] = (
        [] if module is None else module.read_metrics_steps(attempt, most_bytes)
    )
    return steps


def _event_file_steps(attempt: Attempt, most_bytes: int) -> list[ProgressReport]:
    """Return the steps of the event files of an attempt's program; empty if its job names no folder."""
    module = _named_files(attempt)
    steps: list[ProgressReport] = (
        [] if module is None else module.read_event_file_steps(attempt, most_bytes)
    )
    return steps


def end_named_files(attempt: Attempt, *, may_be_cut: bool = False) -> None:
    """Read the files that an attempt's job names after its end: later content does not count.

    Args:
        attempt: The attempt.
        may_be_cut: Its program failed or was killed, so a last line without an end does not count.
    """
    module = _named_files(attempt)
    if module is not None:
        module.end_named_files(attempt, may_be_cut=may_be_cut)


def read_file_faults(attempt: Attempt) -> tuple[str, ...]:
    """Return why numbers of the files that an attempt's job names do not count, a sentence each."""
    module = _named_files(attempt)
    faults: tuple[str, ...] = () if module is None else module.read_file_faults(attempt)
    return faults
