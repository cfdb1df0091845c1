"""Data of runs that is not in the database: results, pictures and reports."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from launcher.errors import Error
from launcher.kind_interface import Role
from launcher.results.metric import read_metric
from launcher.results.metric_direction import lower_is_better
from launcher.results.result_jobs import ResultJob, result_jobs
from launcher.results.table import RunResults
from launcher.screens.job_actions import one_line
from launcher.states import State
from launcher.store.listings import ListingQueries
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.store.tags import REMOVED_TAG
from launcher.system.paths import Home
from launcher.system.text import sanitize_terminal
from launcher.web.comparison import NUMBER, RunComparison, compare_runs
from launcher.web.run_pictures import (
    RUN_FOLDER,
    Gallery,
    Picture,
    find_pictures,
    folders_of,
    open_below,
    picture_of,
)
from launcher.workers.progress.attempt_progress import read_newest_step

MOST_JOBS = 20_000  # of the runs whose results are shown
MOST_REPORTS = 8
MOST_CURVES = 8  # jobs whose curves are drawn in one chart
_MOST_PROGRESS_READ = 200  # jobs whose progress is read to find those with metrics
REPORT_BYTES = 16 << 20
REPORT_SUFFIX = ".html"
_MAKERS = frozenset({Role.TRAIN, Role.METHOD})
_NO_PICTURES = Gallery()
_NO_RESULTS = RunComparison(results=RunResults(rows=(), columns=()), kinds={})


class RunData(NamedTuple):
    """The data of one run, or of several compared runs."""

    comparison: RunComparison = _NO_RESULTS
    error: str = ""  # why there are no results
    gallery: Gallery = _NO_PICTURES
    reports: tuple[Picture, ...] = ()  # HTML pages that a plugin package wrote
    curves: tuple[int, ...] = ()  # jobs whose curves are drawn in one chart
    curves_note: str = ""  # which of the jobs these are, in words; "" if all


def read_runs(home: Home, runs: Sequence[int]) -> RunData:
    """Return the results of runs; of a single run also its pictures, reports and curves.

    Args:
        home: whose.
        runs: their numbers.
    """
    with contextlib.closing(Store(home, reading=True)) as store:
        listing = ListingQueries(store.database)
        numbers = [listing.job_numbers(run) for run in runs]
        total = sum(map(len, numbers))
        if total > MOST_JOBS:
            return RunData(
                error=f"this page shows at most {MOST_JOBS:,} jobs, but there are {total:,}. "
                "To print their results: launcher results RUN"
            )
        jobs = [rows for ids in numbers if (rows := store.read.jobs_by_id(ids))]
        chosen = [result_jobs(home, store, rows) for rows in jobs]
        compared, trouble = _results(home, store, chosen)
    if len(jobs) != 1:
        return RunData(comparison=compared, error=trouble)
    folders = folders_of(home, jobs[0])
    curves, curves_note = _with_curves(home, [_with_steps(each) for each in chosen[0]], compared)
    return RunData(
        comparison=compared,
        error=trouble,
        gallery=find_pictures(folders),
        reports=tuple(_reports(folders.get(RUN_FOLDER))),
        curves=curves,
        curves_note=curves_note,
    )


def _results(
    home: Home, store: Store, runs: Sequence[Sequence[ResultJob]]
) -> tuple[RunComparison, str]:
    try:
        return compare_runs(home, store, runs), ""
    except (Error, OSError) as error:
        return _NO_RESULTS, one_line(error)
    except Exception as error:  # noqa: BLE001  # code of a plugin package may raise anything
        return _NO_RESULTS, sanitize_terminal(
            f"cannot read the results: {type(error).__name__}: {error}"
        )


def _with_steps(each: ResultJob) -> JobRow:
    """Return the job whose curves represent a name: the one with a result, unless a newer one runs."""
    return each.newest if each.newest.state is State.RUNNING else each.job


def _with_curves(
    home: Home, jobs: Sequence[JobRow], compared: RunComparison
) -> tuple[tuple[int, ...], str]:
    """Return the jobs whose curves are drawn, and a description of the selection; "" if all.

    Only jobs with reported metrics are drawn. Progress is read until one more job is found than is drawn. Jobs that
    make models come first, then the best results.

    Args:
        home: whose jobs.
        jobs: of a run, each name once.
        compared: the results of the run.
    """
    rows = compared.results.rows
    removed = {row[NUMBER] for row in rows if row.get(REMOVED_TAG)}
    ranks, by = _ranks(compared)
    began = [job for job in jobs if job.attempts and job.id not in removed]
    began.sort(
        key=lambda job: (
            job.spec_without_sources.role not in _MAKERS,
            ranks.get(job.id, len(ranks)),
            job.id,
        )
    )
    steps = (
        (job.id, read_newest_step(job.attempt_in(home))) for job in began[:_MOST_PROGRESS_READ]
    )
    reported = (job for job, step in steps if step is not None and step.metrics)
    drawn = tuple(islice(reported, MOST_CURVES))
    if next(reported, None) is None:
        return drawn, ""
    by = by if any(job in ranks for job in drawn) else ""
    return drawn, f"the {len(drawn)} jobs with {by}" if by else f"the first {len(drawn)} jobs"


def _ranks(compared: RunComparison) -> tuple[dict[int, int], str]:
    """Return job → its rank by the first metric, best first, and a description of that order."""
    metric = next(iter(compared.results.metrics), None)
    if metric is None:
        return {}, ""
    low = lower_is_better(metric, compared.kinds.values())
    values: dict[int, float] = {}
    for row in compared.results.rows:
        number, found = row.get(NUMBER), read_metric(row.get(metric))
        if isinstance(number, int) and found is not None and not math.isnan(found.value):
            values.setdefault(number, found.value)
    ordered = sorted(values, key=lambda job: values[job] if low else -values[job])
    by = f"the {'lowest' if low else 'highest'} {sanitize_terminal(metric)}"
    return {job: place for place, job in enumerate(ordered)}, by


def _reports(folder: Path | None) -> Iterator[Picture]:
    """Yield the HTML pages directly in a run's folder."""
    if folder is None:
        return
    try:
        names = sorted(path.name for path in folder.iterdir() if path.suffix == REPORT_SUFFIX)
    except OSError:
        return
    for name in names[:MOST_REPORTS]:
        with contextlib.suppress(OSError, ValueError), open_below(folder, name) as (_, status):
            if status.st_size <= REPORT_BYTES:
                yield picture_of(RUN_FOLDER, name, status)
