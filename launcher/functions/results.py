"""`results`: what came out of a run, as a table of pandas where that is installed."""

import importlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from launcher.functions.task_files import Run
from launcher.results.rows import collect
from launcher.results.sweeps import settings_of
from launcher.screens.result_table import read_metric
from launcher.store.client import newest_run, open_queue
from launcher.store.queue import Store
from launcher.store.rows import JobRow


def results(run: str | Run, *, frame: bool | None = None) -> Any:
    """Return what came out of a run: a row for each test, else one for each job with what it was given and returned.

    A number with an interval makes three columns: accuracy, accuracy_low, accuracy_high.

    Args:
        run: its name (the newest of that name), or what `submit` returned.
        frame: True: a DataFrame of pandas; False: a list of dicts; None: a DataFrame where pandas is
            installed.

    Raises:
        UsageError: there is no such run.
        MachineError: packages that its laboratory reads results with are not installed.
        ModuleNotFoundError: `frame` is True, and pandas is not installed.
    """
    with open_queue() as (_, store):
        jobs = newest_run(store, run) if isinstance(run, str) else store.read.jobs_by_id(run.jobs)
        rows = [flat(row) for row in collect(jobs)] or _returned(store, jobs)
    if frame is None:
        frame = importlib.util.find_spec("pandas") is not None
    return importlib.import_module("pandas").DataFrame(rows) if frame else rows


def _returned(store: Store, jobs: Sequence[JobRow]) -> list[dict[str, Any]]:
    rows = []
    for job in jobs:
        own = {"job": job.id, "name": job.name, "state": str(job.state)}
        # an argument may have any name, and what was returned hides it
        more = {**settings_of(job.spec), **flat(store.read.result_of(job.id) or {})}
        rows.append(own | more | own)
    return rows


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row in which a number with an interval has three columns, and what is nested `outer.inner`."""
    return dict(_cells(row))


def _cells(row: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        name = f"{before}{key}"
        if not isinstance(value, Mapping):
            yield name, value
        elif (metric := read_metric(value)) is None:
            yield from _cells(value, f"{name}.")
        else:
            yield name, metric.value
            yield f"{name}_low", metric.low
            yield f"{name}_high", metric.high
