"""Data of runs that is not in the database: results, pictures and reports."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from launcher.experiments.results.result_jobs import ResultJob, result_jobs
from launcher.experiments.results.table import RunResults
from launcher.frontends.screens.job_actions import one_line
from launcher.frontends.web.comparison import RunComparison, compare_runs
from launcher.frontends.web.run_pictures import (
    RUN_FOLDER,
    Gallery,
    Picture,
    find_pictures,
    folders_of,
    open_below,
    picture_of,
)
from launcher.queue.home.paths import Home
from launcher.queue.store.listings import ListingQueries
from launcher.queue.store.queue import Store
from launcher.system.errors import Error
from launcher.system.text import sanitize_terminal

MOST_JOBS = 20_000  # jobs of the runs whose results are shown
MOST_REPORTS = 8
REPORT_BYTES = 16 << 20
REPORT_SUFFIX = ".html"
_NO_PICTURES = Gallery()
_NO_RESULTS = RunComparison(results=RunResults(rows=(), columns=()), kinds={})


class RunData(NamedTuple):
    """The data of one run, or of several compared runs."""

    comparison: RunComparison = _NO_RESULTS
    error: str = ""  # why there are no results
    gallery: Gallery = _NO_PICTURES
    reports: tuple[Picture, ...] = ()  # HTML pages that a plugin package wrote


def read_runs(home: Home, runs: Sequence[int]) -> RunData:
    """Return the results of runs; of a single run also its pictures and reports.

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
    return RunData(
        comparison=compared,
        error=trouble,
        gallery=find_pictures(folders),
        reports=tuple(_reports(folders.get(RUN_FOLDER))),
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
