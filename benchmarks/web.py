"""Cost of the live page with 100,000 jobs in the queue. Medians, noisy machine.

python -m benchmarks.web [--jobs N] [--seconds S]
"""

import argparse
import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil

from benchmarks.commands import median_ms
from benchmarks.screens import ENDED, at_work, fill
from benchmarks.table import Row, machine, publish
from launcher.queue.home.paths import Home
from launcher.queue.store.queue import Store
from tests.launcher.web.browser import Page, served

FIRST = ENDED + 1  # first of the jobs that run
PATHS = ("", "jobs", "jobs?state=queued", "jobs?state=waiting", "jobs?q=gan1", f"jobs/{FIRST}")
CHANGES = 20  # changes of the queue; an open page receives each of them
LOG_BYTES = 1 << 30


def cpu_s(page: Page) -> float:
    """Return the seconds of CPU that the server has used."""
    spent = psutil.Process(page.process.pid).cpu_times()
    return spent.user + spent.system


def share_of_a_core(page: Page, path: str, span_s: float) -> float:
    """Return the share of a core that an open page takes, from its first seconds on."""
    with contextlib.closing(page.stream(path)) as connection:
        _read(connection, 5.0)
        before, began = cpu_s(page), time.monotonic()
        _read(connection, span_s)
        return (cpu_s(page) - before) / (time.monotonic() - began)


def update_ms(page: Page, store: Store, path: str, job: int) -> float:
    """Return the CPU that a change of the queue costs until an open page has it."""
    with contextlib.closing(page.stream(path)) as connection:
        _read(connection, 5.0)
        before = cpu_s(page)
        for number in range(CHANGES):
            change = store.job_control.release if number % 2 else store.job_control.hold
            change([job], time.time())
            _read(connection, 3.0)  # an update comes within that
        return 1000 * (cpu_s(page) - before) / CHANGES


def _read(connection: socket.socket, span_s: float) -> None:
    """Read events for this time."""
    until = time.monotonic() + span_s
    while (left := until - time.monotonic()) > 0:
        connection.settimeout(left)
        with contextlib.suppress(TimeoutError):
            connection.recv(1 << 20)
    connection.settimeout(None)


def measured(home: Home, folder: Path, span_s: float, jobs: str) -> Iterator[Row]:
    """Return the rows of a queue, whose names begin with the number of its jobs."""
    with served(folder, "--read-only") as page:
        for path in PATHS:
            yield Row(what=f"{jobs}: GET /{path}, ms", ours=median_ms(partial(page.get, path)))
        log = home.attempt(FIRST, 1).log
        with log.open("wb") as file:
            file.seek(LOG_BYTES)
            file.writelines(b"step %d loss 0.1234\n" % step for step in range(10_000))
        took = median_ms(partial(page.get, f"jobs/{FIRST}/log"))
        yield Row(what=f"{jobs}: GET the end of a log of 1 GiB, ms", ours=took)
        log.unlink()
        with contextlib.closing(Store(home)) as store:
            for path in ("", "jobs"):
                took = update_ms(page, store, path, FIRST + 100)
                yield Row(what=f"{jobs}: an update of /{path}, CPU ms", ours=took)
        used = 100 * share_of_a_core(page, "", span_s)
        yield Row(what=f"{jobs}: an open page, nothing runs, % of a core", ours=used)
        with at_work(home):
            for path in ("", "jobs", f"jobs/{FIRST}"):
                used = 100 * share_of_a_core(page, path, span_s)
                what = f"{jobs}: /{path} open, jobs report 10 times a second, % of a core"
                yield Row(what=what, ours=used)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=30.0, help="for which a page is held open")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        os.environ |= {"LAUNCHER_HOME": str(home.folder), "LAUNCHER_CONFIG": os.devnull}
        fill(home, options.jobs)
        rows = list(measured(home, Path(folder), options.seconds, f"{options.jobs:,} jobs"))
    print(machine())
    publish(rows, "screens")


if __name__ == "__main__":
    main()
