"""Cost of the run pages with 10,000 jobs in 200 runs. Medians, noisy machine.

python -m benchmarks.web_runs [--jobs N] [--runs N]
"""

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.commands import median_ms
from benchmarks.table import Row, machine, publish
from launcher.queue.home.paths import Home, make_home
from launcher.queue.jobs.states import Done
from launcher.queue.store.queue import NewJob, Store
from tests.build import a_context, a_spec, claimed
from tests.launcher.web.browser import Page, served

PATHS = (
    "runs",
    "runs?before=100",
    "runs?q=lr%3D0.01+seed%3D3",
    "runs?q=run7",
    "runs/1",
    "runs/compare?run=1&run=2",
)
DONE_RUNS = 4  # runs whose jobs have returned something


def fill(home: Home, jobs: int, runs: int) -> None:
    """Queue the jobs of the runs; those of the first runs are done."""
    make_home(home)
    home.stop_record.write_text("{}")  # nobody is to start them
    each = jobs // runs
    with contextlib.closing(Store(home, durable=False)) as store:
        with store.database.writing():
            for run in range(runs):
                number = store.ensure_run(Path("/nowhere"), f"ensure_run{run}")
                store.insert_new(number, a_context(), _new(run, each), time.time())
        for job in range(1, min(DONE_RUNS, runs) * each + 1):
            outcome = Done(at=2.0, result={"auc": job / 1000, "loss": 1 / job})
            store.transitions.finish_attempt(claimed(store, job), outcome, outputs={}, now=2.0)


def _new(run: int, jobs: int) -> Iterator[NewJob]:
    for job in range(jobs):
        words = ("train.py", f"--lr={10.0 ** -(job % 4)}", f"--seed={job}", f"--depth={run % 5}")
        yield NewJob(spec=a_spec(*words, name=f"command/{job}", run=f"run{run}"))


def measured(page: Page, jobs: str) -> Iterator[Row]:
    """Return the rows of each page: the first time, and the median."""
    for path in PATHS:
        began = time.perf_counter()
        _whole(page, path)
        first_ms = 1000 * (time.perf_counter() - began)
        yield Row(what=f"{jobs}: GET /{path}, first, ms", ours=first_ms)
        yield Row(what=f"{jobs}: GET /{path}, again, ms", ours=median_ms(partial(page.get, path)))


def _whole(page: Page, path: str) -> None:
    """Get a page until nothing of it is being read any more."""
    while "being read" in page.get(path).text:
        time.sleep(0.05)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        os.environ |= {"LAUNCHER_HOME": str(home.folder), "LAUNCHER_CONFIG": os.devnull}
        fill(home, options.jobs, options.runs)
        jobs = f"{options.jobs:,} jobs in {options.runs:,} runs"
        with served(Path(folder), "--read-only") as page:
            rows = list(measured(page, jobs))
    print(machine())
    publish(rows, "screens")


if __name__ == "__main__":
    main()
