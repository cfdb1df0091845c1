"""How far a job is, as it was reported: the steps in a progress file.

A job's own reports: how far it is, written by its worker.

The numbers that a job reports, as curves over its steps.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

from launcher.system.files import Json, read_file_end

TAIL_BYTES = 4096  # more than one line
PHASE_METRIC = "doing"  # the text among a job's metrics that names a phase of it
MOST_STEPS = 1 << 53  # no job counts further, and no clock measures that


STEP = "step"


class ProgressReport(NamedTuple):
    """The newest report of a job."""

    at: float
    step: int
    total: int | None
    metrics: Mapping[str, Json]
    rate: float | None = None  # steps a second, of late
    unit: str = STEP  # "step" or "epoch"
    batch: tuple[int, int] | None = None  # within the epoch, of how many

    def estimated_end(self, now: float) -> float | None:
        """Return when all steps will be done at that rate; None if unknown, or if the time is past."""
        if not self.total or not self.rate:
            return None
        end = self.at + max(0, self.total - self.step) / self.rate
        return None if end < now else end

    def __str__(self) -> str:
        done = f"{self.step}/{self.total}" if self.total else str(self.step)
        if self.batch is not None:
            batch, batches = self.batch
            done = f"{self.unit} {done}, {batch}/{batches}"
        return " ".join(
            [done, *(f"{key}={_format_value(value)}" for key, value in self.metrics.items())]
        )


class AttemptProgress(NamedTuple):
    """The newest that is known of an attempt."""

    step: ProgressReport | None = None
    line: str = ""  # the last line of the log, if nothing reports a step


NO_PROGRESS = AttemptProgress()


def read_newest_report(path: Path) -> ProgressReport | None:
    """Return the newest whole report in a progress file, or None when there is none.

    Its rate is that of the last reports of its phase, since the steps last restarted.
    """
    steps = _select_newest_phase(_since_restart(read_reports(path, TAIL_BYTES)))
    if not steps:
        return None
    newest, first = steps[-1], steps[0]
    spent_s = newest.at - first.at
    if spent_s <= 0 or newest.step <= first.step:
        return newest
    return newest._replace(rate=(newest.step - first.step) / spent_s)


def read_reports(path: Path, most_bytes: int) -> list[ProgressReport]:
    """Return the whole reports in the last bytes of a progress file, the oldest first."""
    lines = read_file_end(path, most_bytes)[0].decode(errors="replace").split("\n")
    return [step for line in lines if (step := _parse_report(line)) is not None]


def _since_restart(steps: Sequence[ProgressReport]) -> Sequence[ProgressReport]:
    """Return the reports since the steps last restarted."""
    begin = 0
    for place, (before, after) in enumerate(pairwise(steps), start=1):
        if after.step < before.step:
            begin = place
    return steps[begin:]


def _select_newest_phase(steps: Sequence[ProgressReport]) -> Sequence[ProgressReport]:
    """Return the last reports with the same `doing`: each phase has a speed of its own."""
    begin = len(steps)
    while begin and steps[begin - 1].metrics.get(PHASE_METRIC) == steps[-1].metrics.get(
        PHASE_METRIC
    ):
        begin -= 1
    return steps[begin:]


def _parse_report(line: str) -> ProgressReport | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    match record:
        case {"at": float(at), "step": int(step), "metrics": dict(metrics)} if (
            math.isfinite(at) and abs(step) < MOST_STEPS
        ):
            total = record.get("total")
            count = total if isinstance(total, int) and abs(total) < MOST_STEPS else None
            return ProgressReport(at=at, step=step, total=count, metrics=metrics)
    return None


def _format_value(value: Json) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# seconds; screens may show progress 2 s late, and writing must cost next to nothing
REPORT_EVERY_S = 0.5


class ProgressWriter:
    """Append a job's progress to its attempt's progress file, a few times per second at most.

    Reports with different metrics are limited separately, because a report at an epoch's end directly follows one of
    a step.
    """

    def __init__(self, path: Path, check: Callable[[], None] = lambda: None) -> None:
        """Write to `path`, which is created by the first report; `check` raises if no report is wanted."""
        self._path, self._check_wanted = path, check
        # names of metrics → time of their next report
        self._next: dict[tuple[str, ...], float] = {}
        self._torn = False  # the last report may be there in part

    def __call__(self, *, step: int, total: int | None = None, **metrics: float | str) -> None:
        """Report that `step` of `total` is done, with metrics by name.

        A report that cannot be written, as on a full disk, is left out: it ends no training.
        """
        now, names = time.monotonic(), tuple(metrics)
        if now < self._next.get(names, 0.0) and step != total:
            return
        self._check_wanted()
        self._next[names] = now + REPORT_EVERY_S
        record = {"at": time.time(), "step": step, "total": total, "metrics": metrics}
        text = "\n" * self._torn + json.dumps(record) + "\n"
        try:
            with self._path.open("a", encoding="utf-8") as lines:
                lines.write(text)
            self._torn = False
        except OSError:
            self._torn = True


RATE = "rate"  # steps a second

Point = tuple[float, float]  # step, value


def curves(steps: Sequence[ProgressReport]) -> dict[str, list[Point]]:
    """Return name → points of each number that was reported since the steps last restarted."""
    own = _since_restart(steps)
    curves: dict[str, list[Point]] = {}
    for step in own:
        for name, value in step.metrics.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                curves.setdefault(name, []).append((float(step.step), _finite_float(value)))
    rates = _rates(own)
    return curves | ({RATE: rates} if rates else {})


def unit_of(steps: Sequence[ProgressReport]) -> str:
    """Return the name of what steps count: that of the last one."""
    return steps[-1].unit if steps else STEP


def _rates(steps: Sequence[ProgressReport]) -> list[Point]:
    """Return the reported rates, otherwise those between steps that were read at different times."""
    if own := [(float(step.step), step.rate) for step in steps if step.rate is not None]:
        return own
    last_of_time = {step.at: step for step in steps}.values()
    # a step is reported again with the result of a validation; that time is not part of the steps
    same = [[*group] for _, group in groupby(last_of_time, key=lambda step: step.step)]
    return [
        (float(after[0].step), (after[0].step - before[-1].step) / (after[0].at - before[-1].at))
        for before, after in pairwise(same)
        if after[0].at > before[-1].at
    ]


def _finite_float(value: float) -> float:
    """Return a number as curves know it: JSON has integers that are too large."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
