"""Cost of showing running programs, whose logs are read for it. Medians, noisy machine.

python -m benchmarks.progress [--programs N] [--gib G]
"""

import argparse
import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks.commands import BIN, median_ms
from benchmarks.measured import record
from benchmarks.table import number
from launcher.queue.home.paths import Home, make_home
from launcher.queue.store.queue import Store
from launcher.queue.workers.progress.attempt_progress import (
    read_attempt_progress,
    read_reported_steps,
)
from tests.build import a_spec, an_attempt, claimed, enqueue
from tests.launcher.workers.progress.event_writer import event, simple, write_events

MIB = 1 << 20
LINES = b"".join(b"launcher: step=%d total=99999 loss=0.25\n" % n for n in range(30_000))
BARS = b"".join(
    b"\r 30%%|###       | %d/99999 [00:01<00:02, 31.4it/s, loss=0.25]" % n for n in range(20_000)
)
WORDS = b"working on another file of many\n" * 40_000
ENDS: Mapping[str, bytes] = {
    "nothing printed": b"",
    "lines for us": LINES,
    "tqdm's bar": BARS,
    "other lines": WORDS,
    "a line of 10 MB": b"x" * 10_000_000,
    "event files": b"",
}


def fill(home: Home, programs: int, end: bytes, log_bytes: int, *, events: bool) -> None:
    """Have programs run whose logs are large, and end in one way."""
    make_home(home)
    home.stop_record.write_text("{}")  # nobody is to start others
    with contextlib.closing(Store(home, durable=False)) as store:
        names = [f"command/{number}" for number in range(programs)]
        for job in enqueue(store, *(a_spec(name=name) for name in names)):
            claimed(store, job, time.time() - 60)
            folder = home.folder / "events" / str(job)
            attempt = an_attempt(home, a_spec(), job=job, tensorboard=str(folder) if events else "")
            with attempt.log.open("wb") as log:
                if end:
                    log.seek(max(0, log_bytes - len(end)))
                log.write(end)
            if events:
                write_events(folder / "events.out.tfevents.1", *_scalars())


def _scalars() -> list[bytes]:
    return [event(tag, step, simple(0.5), 1000.0 + step) for step in range(8000) for tag in "ab"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=100)
    parser.add_argument("--gib", type=float, default=1.0, help="of each log; holes take no disk")
    asked = parser.parse_args()
    programs = f"{asked.programs} programs with logs of {asked.gib:g} GiB"
    status_ms = {}
    print(programs)
    print(f"{'what they print':<20}{'status':>12}{'a look':>12}{'curves':>12}{'again':>12}")
    for name, end in ENDS.items():
        with tempfile.TemporaryDirectory() as folder:
            home = Home(Path(folder) / "home")
            os.environ |= {"LAUNCHER_HOME": str(home.folder), "LAUNCHER_CONFIG": os.devnull}
            fill(
                home,
                asked.programs,
                end,
                round(asked.gib * 1024 * MIB),
                events=name == "event files",
            )
            status_ms[f"{programs}, {name}: status, ms"] = _row(home, name)
    record("screens", {name: (number(ms), "") for name, ms in status_ms.items()})


def _row(home: Home, name: str) -> float:
    """Print the milliseconds of `launcher status`, and of its work for one program, first and again.

    Returns the milliseconds of `launcher status`.
    """
    status = partial(
        subprocess.run, [str(BIN / "launcher"), "status"], capture_output=True, check=False
    )
    attempt = home.attempt(1, 1)
    actions: list[Callable[[], object]] = [status, partial(read_attempt_progress, attempt)]
    figures = [median_ms(action) for action in actions]
    began = time.perf_counter()
    read_reported_steps(attempt)
    figures.append((time.perf_counter() - began) * 1000)
    figures.append(median_ms(partial(read_reported_steps, attempt)))
    print(f"{name:<20}" + "".join(f"{figure:9.2f} ms" for figure in figures), flush=True)
    return figures[0]


if __name__ == "__main__":
    main()
