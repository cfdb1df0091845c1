"""Cost of the screens with 100,000 jobs in the queue. Medians, noisy machine.

python -m benchmarks.screens [--jobs N] [--seconds S]
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil

from benchmarks.commands import BIN, median_ms
from benchmarks.ours import insert
from benchmarks.table import Row, machine, publish
from launcher.queue.home.paths import Home, make_home
from launcher.queue.jobs.states import Done, Failed
from launcher.queue.store.queue import Store
from launcher.queue.workers.progress.steps import ProgressWriter
from tests.build import a_spec, claimed
from tests.terminal import in_a_terminal, seen

ENDED, RUNNING = 2000, 4
SIZE = (120, 40)
STEPS = 1_000_000
REPORT_EVERY_S = 0.1


def fill(home: Home, jobs: int) -> None:
    """Queue jobs; some have ended, some run, all others wait."""
    make_home(home)
    home.stop_record.write_text("{}")  # nobody is to start them
    store = Store(home, durable=False)
    with contextlib.closing(store):
        insert(store, (a_spec(name=f"train/gan{n % 7}:pre@seed={n}") for n in range(jobs)))
        now = time.time()
        for job in range(1, ENDED + 1):
            at = now - ENDED + job
            failed = Failed(at=at, error="boom") if job % 10 == 0 else None
            outcome = failed or Done(at=at, result={"loss": 0.1})
            store.transitions.finish_attempt(
                claimed(store, job, at - 1), outcome, outputs={}, now=at
            )
        for job in range(ENDED + 1, ENDED + RUNNING + 1):
            claimed(store, job, now)
            home.attempt(job, 1).folder.mkdir(mode=0o700, parents=True)


@contextlib.contextmanager
def at_work(home: Home) -> Iterator[None]:
    """Have the running jobs report their progress, as trainings do."""
    over = threading.Event()

    def report(job: int) -> None:
        progress = ProgressWriter(home.attempt(job, 1).progress)
        step = 0
        while not over.wait(REPORT_EVERY_S):
            step += 1
            progress(step=step, total=STEPS, loss=1 / step)

    threads = [
        threading.Thread(target=report, args=(job,))
        for job in range(ENDED + 1, ENDED + RUNNING + 1)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def share_of_top(span_s: float, *keys: str) -> float:
    """Return the share of a core that `launcher top` takes, from its start on."""
    columns, rows = SIZE
    with seen("top", "--read-only", columns=columns, rows=rows, colour=True) as window:
        began = time.monotonic()
        window.shows("RUNNING")
        for key in keys:
            window.type(key)
        window.look_for(span_s - (time.monotonic() - began))
        spent = psutil.Process(window.child.pid).cpu_times()
        share = (spent.user + spent.system) / (time.monotonic() - began)
        window.type("\x03")
        window.ends()
    return share


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="for which top is watched")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        os.environ |= {"LAUNCHER_HOME": str(home.folder), "LAUNCHER_CONFIG": os.devnull}
        fill(home, said.jobs)
        launcher = str(BIN / "launcher")
        shell = {"_LAUNCHER_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
        typed = os.environ | shell | {"COMP_WORDS": "launcher show train/gan1:pre@seed=1"}
        quiet = partial(subprocess.run, capture_output=True, check=False)
        actions: dict[str, Callable[[], object]] = {
            "launcher --help": partial(quiet, [launcher, "--help"]),
            "launcher status, in a pipe": partial(quiet, [launcher, "status"]),
            "launcher status, in a terminal": partial(in_a_terminal, "status"),
            "launcher status --json": partial(quiet, [launcher, "status", "--json"]),
            "launcher show 5000": partial(quiet, [launcher, "show", "5000"]),
            "completion of a job's name (bash)": partial(quiet, [launcher], env=typed),
            "launcher doctor": partial(quiet, [launcher, "doctor"]),
            "launcher history": partial(quiet, [launcher, "history"]),
        }
        jobs = f"{said.jobs:,} jobs"
        empty = partial(quiet, [sys.executable, "-c", "pass"])
        peers = {"launcher --help": {"an empty Python start": median_ms(empty)}}
        rows = [
            Row(what=f"{jobs}: {name}, ms", ours=median_ms(action), peers=peers.get(name, {}))
            for name, action in actions.items()
        ]
        with at_work(home):
            for name, keys in (
                ("launcher top", ()),
                ("launcher top, with a filter", ("/gan1", "\r")),
            ):
                used = 100 * share_of_top(said.seconds, *keys)
                rows.append(Row(what=f"{jobs}: {name}, % of a core", ours=used))
    print(machine())
    publish(rows, "screens")


if __name__ == "__main__":
    main()
