"""How long it takes to submit functions, and to have their values; medians, noisy machine.

python -m benchmarks.functions
"""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import wait
from pathlib import Path

CALLS = 1000
ROUNDS = 5
LARGE = 1 << 30  # bytes of an argument, which comes back


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"LAUNCHER_HOME": f"{folder}/home", "LAUNCHER_CONFIG": os.devnull}
        try:
            _measure(large="--large" in sys.argv[1:])
        finally:
            stop = [str(Path(sys.executable).parent / "launcher"), "stop", "--now"]
            subprocess.run(stop, capture_output=True)


def _measure(*, large: bool) -> None:
    began = time.perf_counter()
    from launcher.api import submit, submit_many

    _print("import submit", began)
    began = time.perf_counter()
    submit(abs, -1).result()
    _print("first call, with the start of a scheduler", began)
    spans = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        submit(abs, -1).result()
        spans.append(time.perf_counter() - began)
    print(f"{'a call and its value':<44}{1000 * sorted(spans)[ROUNDS // 2]:10.0f} ms")
    bias = 1
    began = time.perf_counter()
    futures = submit_many(lambda x: x + bias, range(CALLS))
    _print(f"submit_many of {CALLS:,} calls", began)
    wait(futures)
    assert [future.result() for future in futures] == [*range(1, CALLS + 1)]
    _print(f"{CALLS:,} calls and their values", began)
    if large:
        began = time.perf_counter()
        future = submit(bytes.swapcase, bytes(LARGE))
        _print("submit with an argument of 1 GiB", began)
        assert len(future.result()) == LARGE
        _print("and its value of 1 GiB", began)


def _print(what: str, began: float) -> None:
    print(f"{what:<44}{1000 * (time.perf_counter() - began):10.0f} ms", flush=True)


if __name__ == "__main__":
    main()
