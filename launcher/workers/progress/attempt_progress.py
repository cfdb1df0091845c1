"""How far an attempt is, whatever reported it; every screen asks here.

Of several sources the first that has something counts: reports of the job's own, lines that it prints
for us, TensorBoard's event files, a progress bar. Nothing is read before someone looks.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from launcher.context import job_folder, with_folders
from launcher.system.files import Json, read_bytes, read_end
from launcher.system.paths import Attempt
from launcher.workers.order import Order, read_order
from launcher.workers.progress.event_files import NEWEST_BYTES, event_steps, newest_event
from launcher.workers.progress.growing_files import GrowingFiles
from launcher.workers.progress.printed_lines import (
    last_line,
    newest_printed,
    printed_numbers,
    printed_steps,
    printed_values,
)
from launcher.workers.progress.progress_bars import bar_steps, newest_bar
from launcher.workers.progress.steps import Step, history, latest

MOST_BYTES = 1 << 20  # of what was reported: some ten thousand steps
END_BYTES = 64 << 10  # of a log, for its newest step
BAR_BYTES = 4 << 10  # of these, for the newest bar
BEGIN_BYTES = 16 << 10  # of a log, for its first step

_PRINTED, _BARS = GrowingFiles(printed_steps), GrowingFiles(bar_steps)


class Newest(NamedTuple):
    """The newest that is known of an attempt."""

    step: Step | None = None
    line: str = ""  # the last of its log, where nothing reports a step


NOTHING = Newest()


def newest(attempt: Attempt) -> Newest:
    """Return the newest step of an attempt, or the last line of its log."""
    if (own := latest(attempt.progress)) is not None:
        return Newest(step=own)
    end, at = read_end(attempt.log, END_BYTES)
    if (printed := newest_printed(end, at)) is not None:
        return Newest(step=_with_rate(printed, attempt))
    step = _of_others(attempt, end, at)
    return Newest(step=step, line=last_line(end) if step is None else "")


def last_metrics(attempt: Attempt) -> dict[str, Json]:
    """Return the last value of each number that an ended attempt told, those of its last step first.

    Lines without a step count more than steps.
    """
    end, at = read_end(attempt.log, MOST_BYTES)
    steps = history(attempt.progress, MOST_BYTES)
    printed = {} if steps else printed_values(end)
    if not steps and not printed:
        event = _newest_event(attempt, END_BYTES)
        # to read a bar takes longer than a line, and there are many
        steps = [event] if event else bar_steps(end[-END_BYTES:], at)[0]
        if not steps and (bar := newest_bar(end[-BAR_BYTES:], at, lambda: end)):
            steps = [bar]
    told = {name: value for step in steps for name, value in step.metrics.items()}
    return {**(steps[-1].metrics if steps else {}), **told, **printed, **printed_numbers(end)}


def _of_others(attempt: Attempt, end: bytes, at: float) -> Step | None:
    """Return the newest step in an attempt's event files, else that of a progress bar.

    Args:
        attempt: where it keeps its records.
        end: of its log.
        at: when that was written.
    """
    return _newest_event(attempt, *NEWEST_BYTES) or newest_bar(
        end[-BAR_BYTES:], at, lambda: read_end(attempt.log, MOST_BYTES)[0]
    )


def _newest_event(attempt: Attempt, *sizes: int) -> Step | None:
    folder = _event_folder(attempt)
    return None if folder is None else newest_event(folder, _begun(attempt), sizes)


def newest_step(attempt: Attempt) -> Step | None:
    """Return the newest step of an attempt, or None where nothing reports any."""
    return newest(attempt).step


def reported_steps(attempt: Attempt, most_bytes: int = MOST_BYTES) -> list[Step]:
    """Return the steps of an attempt that were reported, the oldest first.

    Args:
        attempt: where it keeps its records.
        most_bytes: that are read from the end of each file in which it reports.
    """
    return next(filter(None, _histories(attempt, most_bytes)), [])


def _histories(attempt: Attempt, most_bytes: int) -> Iterator[list[Step]]:
    """Give the steps of each source in turn."""
    yield history(attempt.progress, most_bytes)
    yield _PRINTED.items(attempt.log, most_bytes)
    folder = _event_folder(attempt)
    yield [] if folder is None else event_steps(folder, _begun(attempt), most_bytes)
    yield _BARS.items(attempt.log, most_bytes)


def _with_rate(step: Step, attempt: Attempt) -> Step:
    """Return a step that was printed with the mean rate since the attempt began: the lines have no times."""
    first = next(iter(printed_steps(_begin(attempt.log), 0.0)[0]), step)
    passed_s = step.at - _begun(attempt)
    if passed_s <= 0 or step.step <= first.step:
        return step
    return step._replace(rate=(step.step - first.step) / passed_s)


def _begin(log: Path) -> bytes:
    try:
        with log.open("rb", buffering=0) as file:
            return file.read(BEGIN_BYTES)
    except OSError:
        return b""


def _begun(attempt: Attempt) -> float:
    """Return when an attempt's program was started, in seconds since 1970; later at most."""
    try:
        # what is written into the record at the end changes no name in the folder
        return min(attempt.spec.stat().st_mtime, attempt.folder.stat().st_mtime)
    except OSError:
        return 0.0


def _event_folder(attempt: Attempt) -> Path | None:
    """Return where an attempt's program writes event files, None where its job names no folder."""
    try:
        text = read_bytes(attempt.spec)
        # most name none: the whole of it need not be understood
        order = read_order(text) if b'"tensorboard"' in text else None
        if order is None or not order.spec.terms.tensorboard:
            return None
        spec, context = with_folders(order.spec, order.context, partial(_own, attempt, order))
    except (OSError, ValueError):
        return None
    return Path(context.folder, spec.terms.tensorboard)


def _own(attempt: Attempt, order: Order) -> Path:
    """Return where the folder of a program's attempt lies: in its stage, and in its run when it is done."""
    # staging, which the lists of jobs do not need
    from launcher.staging.stages import VIEW

    run_folder = order.spec.run_folder
    done = job_folder(order.spec, order.job)
    staged = Path(attempt.text(VIEW), run_folder.name, done.relative_to(run_folder))
    return staged if staged.exists() else done
