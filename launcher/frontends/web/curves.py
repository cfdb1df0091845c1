"""The curves of one job, or of several jobs in the same chart."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from launcher.frontends.web.chart_library import missing_library
from launcher.frontends.web.page import Address, PageContent
from launcher.frontends.web.plots import Line, Plot, common_unit, one_line, sort_metrics, title_of
from launcher.frontends.web.view import QueueView
from launcher.queue.jobs.params import format_params, varying_names
from launcher.queue.store.rows import JobRow
from launcher.queue.workers.progress.attempt_progress import read_reported_steps
from launcher.queue.workers.progress.steps import ProgressReport, curves, unit_of
from launcher.system.errors import pluralize
from launcher.system.text import sanitize_terminal

MOST_JOBS = 8  # jobs whose curves are drawn in one chart
MOST_SMOOTHING = 0.99
SMOOTHINGS = (0.0, 0.5, 0.8, 0.95)
# the dataset split in a metric's name: `val_loss` is drawn together with `loss`
_PART = re.compile(
    r"^(?P<before>train|training|val|valid|validation|eval|test)[_/.-](?P<rest>.+)$"
    r"|^(?P<first>.+)[_/.-](?P<after>train|training|val|valid|validation|eval|test)$",
    re.IGNORECASE,
)
_LEARNED_FROM = frozenset({"", "train", "training"})


def curves_context(view: QueueView, address: Address) -> PageContent:
    """Return the curves of the jobs that the address names."""
    numbers = address.integers("job")
    rows = {row.id: row for row in view.store.read.jobs_by_id(numbers[:MOST_JOBS])}
    jobs = [rows[job] for job in numbers if job in rows]
    return PageContent(
        title=f"curves of {pluralize(len(jobs), 'job')}" if jobs else "curves",
        values={
            "jobs": jobs,
            "most": MOST_JOBS,
            "left_out": max(0, len(numbers) - MOST_JOBS),
            **curves_values(view, address, jobs),
        },
        files=view.progress_of(jobs),
    )


def curves_values(view: QueueView, address: Address, jobs: Sequence[JobRow]) -> dict[str, object]:
    """Return the values of a template's part with curves.

    There is one chart per metric. Training and validation share a chart.
    """
    by_stem: dict[str, list[Line]] = {}
    steps = {job.id: _steps_of(view, job) for job in jobs}
    unit = common_unit([unit_of(own) for own in steps.values() if own])
    names = varying_names([job.params for job in jobs]) if jobs else []
    log = is_log_axis(address)
    draw = partial(one_line, log=log, smoothing=smoothing_of(address))
    for colour, job in enumerate(jobs):
        called = " ".join(filter(None, (str(job.id), format_params(job.params, names))))
        own_colour = colour if len(jobs) > 1 else None
        for stem, line in _lines_of(steps[job.id], called, own_colour, draw):
            by_stem.setdefault(stem, []).append(line)
    return {
        "plots_list": [
            Plot(title=title_of(stem), lines=lines, log=log, unit=unit)
            for stem, lines in sort_metrics(by_stem).items()
        ],
        **scale_values(address),
    }


def scale_values(address: Address) -> dict[str, object]:
    """Return the values of a template's choice of scale and smoothing."""
    return {
        "log_scale": is_log_axis(address),
        "smoothing": smoothing_of(address),
        "smoothings": SMOOTHINGS,
        "missing_library": missing_library(),
    }


def is_log_axis(address: Address) -> bool:
    """Return whether an address requests a logarithmic axis."""
    return address.text("scale") == "log"


def smoothing_of(address: Address) -> float:
    """Return the smoothing of curves that an address requests, in [0, MOST_SMOOTHING]."""
    try:
        smoothing = float(address.text("smooth", "0"))
    except ValueError:
        return 0.0
    return smoothing if 0 <= smoothing <= MOST_SMOOTHING else 0.0  # NaN is not


def stem_of(metric: str) -> tuple[str, str]:
    """Return what a metric measures, and the dataset split in its name, or "".

    `val_loss` is ("loss", "val"), and `loss` is ("loss", "").
    """
    match = _PART.match(metric)
    if match is None:
        return metric, ""
    return match["rest"] or match["first"], (match["before"] or match["after"]).lower()


def _steps_of(view: QueueView, job: JobRow) -> Sequence[ProgressReport]:
    return read_reported_steps(job.attempt_in(view.home)) if job.attempts else ()


def _lines_of(
    steps: Sequence[ProgressReport], job_name: str, colour: int | None, draw: Callable[..., Line]
) -> Iterator[tuple[str, Line]]:
    """Yield the lines of a job by metric; without `colour` each line gets its own colour."""
    seen: Counter[str] = Counter()
    for metric, points in curves(steps).items():
        stem, part = stem_of(metric)
        if colour is None:
            yield stem, draw(sanitize_terminal(metric), points, colour=seen[stem])
        else:
            name = sanitize_terminal(f"{job_name} {metric}")
            yield stem, draw(name, points, colour=colour, is_dashed=part not in _LEARNED_FROM)
        seen[stem] += 1
