"""How long it takes to submit functions, and to have their values; medians, noisy machine.

python -m benchmarks.functions
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import wait
from pathlib import Path

from benchmarks.table import Row, machine, publish

CALLS = 1000
ROUNDS = 5
LARGE = 1 << 30  # bytes of an argument, which comes back


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"LAUNCHER_HOME": f"{folder}/home", "LAUNCHER_CONFIG": os.devnull}
        try:
            rows = _measured(large="--large" in sys.argv[1:])
        finally:
            stop = [str(Path(sys.executable).parent / "launcher"), "stop", "--now"]
            subprocess.run(stop, capture_output=True)
    print(machine())
    publish(rows, "screens")


def _measured(*, large: bool) -> list[Row]:
    rows = []
    began = time.perf_counter()
    from launcher.api import submit, submit_many

    rows.append(Row(what="import submit, ms", ours=1000 * _since(began)))
    began = time.perf_counter()
    submit(abs, -1).result()
    rows.append(
        Row(what="first call, with the start of a scheduler, ms", ours=1000 * _since(began))
    )
    spans = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        submit(abs, -1).result()
        spans.append(1000 * _since(began))
    rows.append(Row(what="a call and its value, ms", ours=statistics.median(spans)))
    bias = 1
    began = time.perf_counter()
    futures = submit_many(lambda x: x + bias, range(CALLS))
    rows.append(Row(what=f"submit_many of {CALLS:,} calls, s", ours=_since(began)))
    wait(futures)
    assert [future.result() for future in futures] == [*range(1, CALLS + 1)]
    rows.append(Row(what=f"{CALLS:,} calls and their values, s", ours=_since(began)))
    if large:
        began = time.perf_counter()
        future = submit(bytes.swapcase, bytes(LARGE))
        rows.append(Row(what="submit with an argument of 1 GiB, s", ours=_since(began)))
        assert len(future.result()) == LARGE
        rows.append(Row(what="and its value of 1 GiB, s", ours=_since(began)))
    return rows


def _since(began: float) -> float:
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
