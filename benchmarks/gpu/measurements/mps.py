"""Two trainings on one card, taking turns and through MPS, where a daemon may be started.

The card's settings stay as they are: the daemon is a process of ours with a pipe of its own.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping

from benchmarks.gpu.bench import ROOT, Bench, NotMeasured

CONTROL = "nvidia-cuda-mps-control"
SECONDS = 5.0  # of training, when both are warm
START_S = 40.0  # for both to be warm
PROGRAM = (sys.executable, "-m", "benchmarks.gpu.measurements.mps")


def measure(bench: Bench) -> None:
    """Compare the sum of both speeds."""
    alone = _speeds(bench, 1, {})
    turns = _speeds(bench, 2, {})
    folder = bench.path / "mps"
    folder.mkdir()
    variables = {"CUDA_MPS_PIPE_DIRECTORY": str(folder), "CUDA_MPS_LOG_DIRECTORY": str(folder)}
    environment = {**os.environ, **variables}
    started = subprocess.run(
        [CONTROL, "-d"], env=environment, capture_output=True, text=True, timeout=20, check=False
    )
    if started.returncode != 0:
        raise NotMeasured(f"{CONTROL} cannot start: {(started.stderr or started.stdout).strip()}")
    try:
        shared = _speeds(bench, 2, variables)
    finally:
        subprocess.run(
            [CONTROL], env=environment, input="quit\n", text=True, timeout=20, check=False
        )
    bench.row(
        "two trainings through MPS, together", sum(shared), "images/s",
        without_mps=sum(turns), one_alone=sum(alone),
    )  # fmt: skip


def _speeds(bench: Bench, count: int, variables: Mapping[str, str]) -> list[float]:
    """Return the speeds of trainings that run at once."""
    gate = bench.path / f"gate-{count}-{len(variables)}"
    processes = [
        subprocess.Popen(
            [*PROGRAM, bench.record(), str(gate)], cwd=ROOT, env={**os.environ, **variables},
            stdout=subprocess.PIPE, text=True,
        )
        for _ in range(count)
    ]  # fmt: skip
    ready = [(process.stdout.readline() if process.stdout else "") for process in processes]
    if any(line.strip() != "ready" for line in ready):
        raise RuntimeError("a training did not start")
    gate.touch()
    return [float(process.communicate(timeout=START_S)[0]) for process in processes]


def train(bench: Bench, gate: str) -> None:
    """Train on a batch that is on the card; print the speed when the gate was open."""
    from benchmarks.gpu.measurements.networks import Case, rate  # with torch
    from benchmarks.gpu.measurements.variants import parts, steps

    case = Case(bench=bench, side=bench.size(96, 16), precision="bf16")
    model, optimizer = parts(case)
    step = steps(case, model, optimizer, "bf16")
    step()
    print("ready", flush=True)
    while not os.path.exists(gate):  # noqa: PTH110
        time.sleep(0.01)
    print(rate(step, bench.size(5, 0) or 0.05))


if __name__ == "__main__":
    train(Bench.of(sys.argv[1]), sys.argv[2])
