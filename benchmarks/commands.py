"""How long a person waits for a command; medians, noisy machine.

python -m benchmarks.commands
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from launcher.queue.workers.progress.steps import ProgressWriter

BIN = Path(sys.executable).parent
ROUNDS = 15
REPORTS = 3_000_000  # a few seconds of them


def median_ms(action: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the median duration of some rounds."""
    spans = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        spans.append(1000 * (time.perf_counter() - start))
    return statistics.median(spans)


def command_times(environment: Mapping[str, str]) -> None:
    """Print how long commands take that a person types all the time."""
    for words in (["launcher", "--help"], ["launcher", "status"], ["trueface", "--help"]):
        argv = [str(BIN / words[0]), *words[1:]]
        took = median_ms(partial(subprocess.run, argv, capture_output=True, env=environment))
        print(f"{' '.join(words):<34}{took:8.0f} ms")
    cold = median_ms(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))
    print(f"{'python -c pass':<34}{cold:8.0f} ms")


def progress_time(folder: Path) -> None:
    """Print what it costs a training to say how far it is, at every step of it."""
    report = ProgressWriter(folder / "progress.jsonl")
    start = time.perf_counter()
    for step in range(REPORTS):
        report(step=step, total=REPORTS, loss=0.5, lr=0.001)
    took = 1e6 * (time.perf_counter() - start) / REPORTS
    print(f"{'progress report, average':<34}{took:8.2f} µs")


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        home = str(Path(folder) / "home")
        environment = {**os.environ, "LAUNCHER_HOME": home, "LAUNCHER_CONFIG": os.devnull}
        add = [str(BIN / "launcher"), "add", "--", "true"]
        subprocess.run(add, env=environment, check=True, capture_output=True)
        progress_time(Path(folder))
        command_times(environment)  # after: `status` has a queue to read
        subprocess.run(
            [str(BIN / "launcher"), "stop", "--now"], env=environment, capture_output=True
        )


if __name__ == "__main__":
    main()
