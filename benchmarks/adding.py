"""Commands queued per second by `launcher add --from -`; medians, noisy machine.

python -m benchmarks.adding [--commands 10000] [--rounds 5]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.table import Row, machine, publish

LINES = {  # a line of each sort, with the place of a number
    "plain words": "python train.py --lr 0.1 --seed {}\n",
    "with quotes": "python train.py --note 'try {}' --out \"runs/a b\"\n",
}
WAYS = {"": (), ", --name": ("--name", "sweep")}


def seconds(text: str, *words: str) -> float:
    """Return how long it takes to queue the lines of a text in a new home, the process included."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "LAUNCHER_HOME": folder, "LAUNCHER_CONFIG": os.devnull}
        # without a scheduler: it would start jobs meanwhile
        argv = [str(Path(sys.executable).parent / "launcher"), "add", "--from", "-", *words]
        subprocess.run(
            [*argv[:2], "--hold", "--", "true"], env=environment, check=True, capture_output=True
        )
        subprocess.run([argv[0], "stop"], env=environment, check=True, capture_output=True)
        began = time.perf_counter()
        subprocess.run(
            argv, input=text, env=environment, text=True, check=True, capture_output=True
        )
        return time.perf_counter() - began


def main() -> None:
    """Print a row for each sort."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows = []
    for name, line in LINES.items():
        text = "".join(line.format(number) for number in range(options.commands))
        for way, words in WAYS.items():
            spans = [seconds(text, *words) for _ in range(options.rounds)]
            rate = options.commands / statistics.median(spans)
            rows.append(Row(what=f"{options.commands:,} lines, {name}{way}, lines/s", ours=rate))
    print(machine())
    publish(rows, "screens")


if __name__ == "__main__":
    main()
