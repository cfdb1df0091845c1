"""A test of 300 images of 48 px: its time in a queue, and the parts of its time in a new process.

In a queue, a process is a copy of one that has imported everything already. So its time has no imports.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.gpu.bench import ROOT, Bench
from benchmarks.gpu.measurements.queue import Queue, queue

ROUNDS = 3
IMAGES, SIDE = 300, 48
NAME = "short test"
TASKS = """# prose: ok, a task file
name: short
about: a short test

defaults:
  data_root: data/short
  split_path: data/short/splits
  model: slim18
  weights: none
  resize_size: {side}
  batch_size: 32
  num_epochs: 1

resources:
  train: {{cpus: 1{device}}}
  test: {{cpus: 1{device}}}

sample:
  - {{size: {side}, train: 32, val: 16, test: {images}}}

train:
  - {{model: null, data: "gan2:pre"}}

autotest: ["gan2:pre"]
"""
PROGRAM = "benchmarks.gpu.measurements.short_process"


def measure(bench: Bench) -> None:
    """Run the test in a queue, and then in processes of its own."""
    tasks = TASKS.format(
        side=SIDE, images=bench.size(IMAGES, 8), device=", device: cpu" if bench.rehearsal else ""
    )
    with queue(bench) as own:
        own.run("short.yaml", tasks)
        name = next(
            job["name"] for job in json.loads(own.call("status", "--all", "--json"))["jobs"]
            if job["kind"] == "test"
        )  # fmt: skip
        bench.row(f"{NAME} in a queue", median(_in_queue(own, name)), "s")
        spec, folder = own.show(name)["spec"], own.folder
    for part, spent in _in_process(bench, spec, folder).items():
        bench.row(f"{NAME}: {part}", spent, "s")


def _in_queue(own: Queue, test: str) -> list[float]:
    """Repeat a test; return the seconds of each time but the first, which may start a process to copy.

    Raises:
        RuntimeError: it failed.
    """
    record = own.until_ended([test])[test]
    for _ in range(ROUNDS):
        own.call("retry", test, "--force")
        record = own.until_ended([test])[test]
        if record["state"] != "done":
            raise RuntimeError(f"{test} is {record['state']}: {record['reason']}")
    return [each["ended"] - each["claimed"] for each in record["attempts"][1:]]


def _in_process(bench: Bench, spec: Mapping[str, Any], folder: Path) -> dict[str, float]:
    """Run a test in a new process, and return the seconds of its parts."""
    words = ["-m", PROGRAM, json.dumps(spec), bench.device, repr(time.monotonic())]
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=_environment(bench), text=True, check=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    parts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return parts


def _environment(bench: Bench) -> dict[str, str]:
    given = os.environ.get("PYTHONPATH")
    paths = os.pathsep.join(path for path in (str(ROOT), given) if path)
    return {**os.environ, "PYTHONPATH": paths, "TRUEFACE_CACHE": str(bench.path / "cache")}
