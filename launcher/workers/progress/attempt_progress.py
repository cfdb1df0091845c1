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

from launcher.system.files import Json, read_file_end
from launcher.system.paths import NUMBER_FILES, Attempt
from launcher.workers.progress.event_files import NEWEST_BYTES
from launcher.workers.progress.growing_files import IncrementalFileReader
from launcher.workers.progress.printed_lines import (
    EPOCH_MARKER,
    STEP_MARKER,
    last_line,
    parse_newest_step,
    parse_steps,
)
from launcher.workers.progress.progress_bars import parse_bars, parse_newest_bar
from launcher.workers.progress.reported_numbers import (
    ReportedNumbers,
    parse_reported_numbers,
    read_reported_numbers,
)
from launcher.workers.progress.steps import ProgressReport, read_newest_report, read_reports

MOST_BYTES = 1 << 20  # bytes of reports: about ten thousand steps
END_BYTES = 64 << 10  # bytes of a log, for its newest step
BAR_BYTES = 4 << 10  # bytes of these, for the newest bar
BEGIN_BYTES = 16 << 10  # bytes of a log, for its first step
WHOLE_BYTES = 1 << 19  # no log limit leaves out a part of a shorter log
MOST_NUMBERS = 200  # numbers that a program did not report to us
# reserved keys among the numbers of a program: the source of those that were not reported, and why others are missing
READ_FROM, NUMBER_FAULTS = "read_from", "number_faults"
# stored words: the sources
REPORTED, METRICS_FILE, EVENT_FILES, LOG = "reported", "metrics file", "event files", "log"

_PRINTED, _BARS = IncrementalFileReader(parse_steps), IncrementalFileReader(parse_bars)
# forms of lines that few screens need
_FRAMEWORKS = IncrementalFileReader(lambda text, at: _forms().parse_framework_steps(text, at))
_EPOCHS = IncrementalFileReader(partial(parse_steps, marker=EPOCH_MARKER))


def _forms() -> ModuleType:
    """Return the module of the lines that frameworks print."""
    from launcher.workers.progress import framework_lines

    return framework_lines


_DIGIT = re.compile(rb"[0-9]")


class AttemptProgress(NamedTuple):
    """The newest that is known of an attempt."""

    step: ProgressReport | None = None
    line: str = ""  # the last of its log, where nothing reports a step


NO_PROGRESS = AttemptProgress()


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
    for log, end, at in ends:
        more = partial(_read_end, log)
        if (bar := parse_newest_bar(end[-BAR_BYTES:], at, more)) is not None:
            return AttemptProgress(
                step=bar
                if bar.metrics
                else bar._replace(metrics=_forms().newest_framework_numbers(end))
            )
    for log, end, at in ends:
        if (printed := _forms().parse_newest_framework_step(end, at)) is not None:
            first = _forms().first_framework_steps(_read_beginning(log))
            return AttemptProgress(step=_with_rate(printed, attempt, first))
    newest = max(ends, key=lambda each: (bool(each[1].strip()), each[2]))
    return AttemptProgress(line=last_line(newest[1]))


def _newest_printed(
    attempt: Attempt, ends: Iterable[tuple[Path, bytes, float]], marker: bytes
) -> ProgressReport | None:
    """Return the newest step in the ends of logs, each with the time of its last change."""
    for log, end, at in ends:
        if (printed := parse_newest_step(end, at, marker)) is not None:
            first, _ = parse_steps(_read_beginning(log), 0.0, marker)
            return _with_rate(printed, attempt, first)
    return None


def read_last_metrics(attempt: Attempt) -> dict[str, Json]:
    """Return the last value of each number of an ended attempt, those of its last step first.

    Reported numbers count more than those of files, and these more than printed ones, which are read if the program
    reports none. Lines without a step count more than steps. `READ_FROM` is the source of the numbers that were not
    reported: a word, or a word for each number if there are several sources. `NUMBER_FAULTS` is a list of sentences, if
    numbers are missing that were to be read.
    """
    log, at = read_file_end(attempt.log, MOST_BYTES)
    errors, errors_at = read_file_end(attempt.stderr, MOST_BYTES)
    in_errors, in_log = _reported(attempt.stderr, errors), _reported(attempt.log, log)
    errors = errors[-END_BYTES:]
    steps = read_reports(attempt.progress, MOST_BYTES)
    printed = {} if steps else {**in_log.steps, **in_errors.steps, **in_log.steps}
    reported = {**_last_values(steps), **printed, **in_errors.others, **in_log.others}
    found: dict[str, Mapping[str, Json]] = {
        REPORTED: reported,
        METRICS_FILE: _file_results(_metrics_file_steps(attempt, MOST_BYTES)),
    }
    if not (steps or printed):
        found[EVENT_FILES] = _file_results(_event_file_steps(attempt, MOST_BYTES))
    if not (steps or printed or found[EVENT_FILES]):
        end, bars = log[-END_BYTES:], _bar_steps(errors, errors_at) + _bar_steps(log, at)
        plain = _printed_numbers(errors) | _printed_numbers(end)
        found[LOG] = {**({} if reported else plain), **_last_values(bars)}
    faults = read_file_faults(attempt)
    return {**_combine(found), **({NUMBER_FAULTS: [*faults]} if faults else {})}


def without_faults(numbers: Mapping[str, Json]) -> tuple[dict[str, Json], tuple[str, ...]]:
    """Return the numbers of a program without the reserved key of faults, and the faults."""
    faults = numbers.get(NUMBER_FAULTS)
    left = {name: value for name, value in numbers.items() if name != NUMBER_FAULTS}
    return left, tuple(map(str, faults)) if isinstance(faults, list) else ()


def _file_results(steps: Sequence[ProgressReport]) -> dict[str, Json]:
    """Return the last value of each number of files that is a result."""
    if not steps:
        return {}
    from launcher.workers.progress.metrics_files import is_result  # tables, of few jobs

    return {name: value for name, value in _last_values(steps).items() if is_result(name)}


def _printed_numbers(text: bytes) -> dict[str, float]:
    # a supervisor of a program that prints none does not import the forms
    found: dict[str, float] = _forms().parse_printed_numbers(text) if _DIGIT.search(text) else {}
    return found


def _combine(found: Mapping[str, Mapping[str, Json]]) -> dict[str, Json]:
    """Return the numbers of several sources, and where they are from; the first source of a number counts."""
    sources: dict[str, str] = {}
    for source, numbers in found.items():
        for name in islice(numbers, MOST_NUMBERS if source != REPORTED else None):
            sources.setdefault(name, source)
    values = {name: found[source][name] for name, source in sources.items()}
    words = {*sources.values()} - {REPORTED}
    if not words:
        return values
    if len({*sources.values()}) == 1:
        return {**values, READ_FROM: words.pop()}
    return {**values, READ_FROM: {**sources}}


def _reported(log: Path, end: bytes) -> ReportedNumbers:
    """Return the numbers that were reported in a file, of which the end is read already."""
    if len(end) < WHOLE_BYTES:
        return parse_reported_numbers(end)
    return read_reported_numbers(log)


def _last_values(steps: Sequence[ProgressReport]) -> dict[str, Json]:
    """Return the last value of each metric, those of the last step first."""
    told = {name: value for step in steps for name, value in step.metrics.items()}
    return {**(steps[-1].metrics if steps else {}), **told}


def _bar_steps(end: bytes, at: float) -> list[ProgressReport]:
    # reading a bar takes longer than reading a line, and there are many
    steps = parse_bars(end[-END_BYTES:], at)[0]
    if not steps and (bar := parse_newest_bar(end[-BAR_BYTES:], at, lambda: end)):
        return [bar]
    return steps


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
    bars = [_BARS.items(log, most_bytes) for log in (attempt.log, attempt.stderr)]
    yield from (steps for steps in bars if any(step.metrics for step in steps))
    yield _FRAMEWORKS.items(attempt.log, most_bytes)
    yield _FRAMEWORKS.items(attempt.stderr, most_bytes)
    yield from bars


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
    if passed_s <= 0 or step.step <= begin:
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
    from launcher.workers.progress import named_files  # tables and event files, of few jobs

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


def end_named_files(attempt: Attempt) -> None:
    """Read the files that an attempt's job names after its end: later content does not count."""
    module = _named_files(attempt)
    if module is not None:
        module.end_named_files(attempt)


def read_file_faults(attempt: Attempt) -> tuple[str, ...]:
    """Return why numbers of the files that an attempt's job names do not count, a sentence each."""
    module = _named_files(attempt)
    faults: tuple[str, ...] = () if module is None else module.read_file_faults(attempt)
    return faults
