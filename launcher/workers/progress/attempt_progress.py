"""The progress of an attempt from any source; all screens use it.

The first of several sources that has something counts: reports of the job's own, lines that it prints
for us, TensorBoard's event files, a progress bar. Nothing is read before a screen needs it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from launcher.context import job_folder, substitute_folders
from launcher.system.files import Json, read_bytes, read_file_end
from launcher.system.paths import Attempt
from launcher.workers.attempt_spec import AttemptSpec, read_attempt_spec
from launcher.workers.progress.event_files import NEWEST_BYTES, read_event_steps, read_newest_event
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
READ_FROM = "read_from"  # key of the source of such numbers among them
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
    reported: a word, or a word for each number if there are several sources.
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
        METRICS_FILE: _last_values(_metrics_file_steps(attempt, MOST_BYTES)),
    }
    if not (steps or printed):
        event = _newest_event(attempt, END_BYTES)
        found[EVENT_FILES] = {} if event is None else event.metrics
    if not (steps or printed or found[EVENT_FILES]):
        end, bars = log[-END_BYTES:], _bar_steps(errors, errors_at) + _bar_steps(log, at)
        plain = _printed_numbers(errors) | _printed_numbers(end)
        found[LOG] = {**({} if reported else plain), **_last_values(bars)}
    return _combine(found)


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
    folder = _event_folder(attempt)
    return None if folder is None else read_newest_event(folder, start_time(attempt), sizes)


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
    folder = _event_folder(attempt)
    yield [] if folder is None else read_event_steps(folder, start_time(attempt), most_bytes)
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


def _event_folder(attempt: Attempt) -> Path | None:
    """Return where an attempt's program writes event files; None if its job names no folder."""
    return _named_path(attempt, "tensorboard")


def _metrics_file_steps(attempt: Attempt, most_bytes: int) -> list[ProgressReport]:
    """Return the rows of the file in which an attempt's program writes numbers; empty if its job names no file."""
    path = _named_path(attempt, "metrics")
    if path is None:
        return []
    from launcher.workers.progress.metrics_files import newest_file, read_metrics_file

    file = newest_file(path, start_time(attempt))
    return [] if file is None else read_metrics_file(file, most_bytes)


def _named_path(attempt: Attempt, term: str) -> Path | None:
    """Return the path that one of the terms of an attempt's job names, None if it names none."""
    try:
        text = read_bytes(attempt.spec)
        # most name none: the whole of it need not be understood
        order = read_attempt_spec(text) if f'"{term}"'.encode() in text else None
        if order is None or not getattr(order.spec.terms, term):
            return None
        spec, context = substitute_folders(
            order.spec, order.context, partial(_program_folder, attempt, order)
        )
    except (OSError, ValueError):
        return None
    return Path(context.folder, getattr(spec.terms, term))


def _program_folder(attempt: Attempt, order: AttemptSpec) -> Path:
    """Return where the folder of a program's attempt lies: in its staging folder, and in its run when it is done."""
    # staging, which the lists of jobs do not need
    from launcher.staging.stages import VIEW_LINK

    run_folder = order.spec.run_folder
    done = job_folder(order.spec, order.job)
    staged = Path(attempt.path_text(VIEW_LINK), run_folder.name, done.relative_to(run_folder))
    return staged if staged.exists() else done
