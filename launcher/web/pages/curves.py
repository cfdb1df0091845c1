"""The curves of several jobs over each other."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from launcher.errors import counted
from launcher.screens.format import harmless
from launcher.store.rows import JobRow
from launcher.web.charts import Point, Series, legend, line_chart
from launcher.web.pages.page import Address, Content, Page, View
from launcher.workers.progress.attempt_progress import reported_steps
from launcher.workers.progress.steps import RATE, curves

MOST_JOBS = 8  # whose curves lie over each other
MOST_SMOOTHING = 0.99
SMOOTHINGS = (0.0, 0.5, 0.8, 0.95)
# what tells the part of the data in a metric's name: `val_loss` stands beside `loss`
_PART = re.compile(
    r"^(?P<before>train|training|val|valid|validation|eval|test)[_/.-](?P<rest>.+)$"
    r"|^(?P<first>.+)[_/.-](?P<after>train|training|val|valid|validation|eval|test)$",
    re.IGNORECASE,
)
_LEARNED_FROM = frozenset({"", "train", "training"})


class Wanted(NamedTuple):
    """Which charts are wanted, and how they are drawn."""

    jobs: tuple[JobRow, ...]
    log: bool = False
    smoothing: float = 0.0


class Plot(NamedTuple):
    """A chart with its legend."""

    title: str
    chart: Markup
    legend: Markup


def wanted_of(address: Address, jobs: Sequence[JobRow]) -> Wanted:
    """Return what an address wants of the curves of jobs."""
    try:
        smoothing = float(address.text("smooth", "0"))
    except ValueError:
        smoothing = 0.0
    if not 0 <= smoothing <= MOST_SMOOTHING:  # NaN is not
        smoothing = 0.0
    return Wanted(jobs=tuple(jobs), log=address.text("scale") == "log", smoothing=smoothing)


def stem_of(metric: str) -> tuple[str, str]:
    """Return what a number measures, and on which part of the data, where its name tells it.

    `val_loss` is ("loss", "val"), and `loss` is ("loss", "").
    """
    match = _PART.match(metric)
    if match is None:
        return metric, ""
    return match["rest"] or match["first"], (match["before"] or match["after"]).lower()


def plots_of(view: View, wanted: Wanted) -> list[Plot]:
    """Return a chart for each number that jobs reported; of training and validation one for both."""
    by_stem: dict[str, list[Series]] = {}
    several = len(wanted.jobs) > 1
    for colour, job in enumerate(wanted.jobs):
        attempt = view.home.attempt(job.id, job.attempts)
        numbers = curves(reported_steps(attempt)) if job.attempts else {}
        for series, stem in _series_of(job, numbers, colour, several=several):
            by_stem.setdefault(stem, []).append(series)
    if RATE in by_stem:  # it is about the machine: the last
        by_stem[RATE] = by_stem.pop(RATE)
    return list(_drawn(by_stem, wanted))


def _series_of(
    job: JobRow, numbers: Mapping[str, Sequence[Point]], colour: int, *, several: bool
) -> Iterator[tuple[Series, str]]:
    """Give a job's curves with what they measure."""
    seen: dict[str, int] = {}
    for metric, points in numbers.items():
        stem, part = stem_of(metric)
        nth = seen[stem] = seen.get(stem, -1) + 1
        dashed = several and part not in _LEARNED_FROM
        name = f"{job.id} {metric}" if several else metric
        own = colour if several else nth
        yield Series(name=harmless(name), points=points, colour=own, dashed=dashed), stem


def _drawn(by_stem: Mapping[str, Sequence[Series]], wanted: Wanted) -> Iterator[Plot]:
    for stem, series in by_stem.items():
        title = "steps per second" if stem == RATE else harmless(stem)
        chart = line_chart(series, title=title, log=wanted.log, smoothing=wanted.smoothing)
        yield Plot(title=title, chart=chart, legend=legend(series))


def jobs_of(view: View, numbers: Iterable[str]) -> list[JobRow]:
    """Return the jobs with these numbers, in that order; what is none is left out."""
    wanted = [
        int(text) for text in numbers if text.isascii() and text.isdecimal() and len(text) < 19
    ]
    rows = {row.id: row for row in view.store.read.jobs_by_id(wanted[:MOST_JOBS])}
    return [rows[number] for number in dict.fromkeys(wanted) if number in rows]


def fill(view: View, address: Address) -> Content:
    """Return the curves of the jobs that the address names."""
    jobs = jobs_of(view, address.texts("job"))
    wanted = wanted_of(address, jobs)
    attempts = [view.home.attempt(row.id, row.attempts) for row in jobs if row.attempts]
    return Content(
        title=f"curves of {counted(len(jobs), 'job')}" if jobs else "curves",
        values={
            "jobs": jobs,
            "wanted": wanted,
            "smoothings": SMOOTHINGS,
            "most": MOST_JOBS,
            "left_out": max(0, len(set(address.texts("job"))) - MOST_JOBS),
            "plots_list": plots_of(view, wanted),
        },
        files=tuple(attempt.progress for attempt in attempts),
    )


PAGE = Page(name="curves", path="curves", fill=fill)
