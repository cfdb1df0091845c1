"""Programs of unknown and of declared memory through a queue, compared with a fixed number of them at a time.

`python -m benchmarks.filling` has more workloads, on simulated cards.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.filling.at_once import Fixed, Started, run_at_once
from benchmarks.gpu.bench import GIB, ROOT, Bench, NotMeasured
from benchmarks.gpu.measurements.queue import Queue, queue
from benchmarks.gpu.measurements.waiting import Sampler
from launcher.queue.gpu.nvml import Nvml
from launcher.queue.jobs.states import OutOfMemory
from launcher.queue.workers.attempt_journal import read_recorded_outcome

PROGRAM = "benchmarks.gpu.measurements.load"
SLICE_S = 0.05  # in which a program uses the card once
PATIENCE = 4.0  # multiples of the fixed number's time, after which a queue is stopped
LEAST_S = 30.0  # the queue has at least so long
LATE = 3 / 8  # fraction of the card: two programs of this size fit
SHORTAGES_MOST = 3  # programs that may run out of memory until their need is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Equal programs; a rehearsal takes fewer and shorter ones."""

    count: int
    number: int  # programs at a time without a queue
    seconds: float  # seconds of work while nothing else keeps the card busy
    percent: float  # percentage of the card that its work takes
    part: float = 0.0  # fraction of the card's memory; 0: `gib`
    gib: float = 0.7
    delay_s: float = 0.0
    options: tuple[str, ...] = ("--gpus", "1")
    most: float  # wanted multiple of the fixed number's time

    def rehearsed(self) -> "Workload":
        """Return the workload in tiny."""
        return replace(self, count=3, seconds=0.5, delay_s=min(self.delay_s, 0.5))


WORKLOADS: Mapping[str, Workload] = {
    "unknown": Workload(count=28, number=14, seconds=5, percent=5, most=1.8),
    "declared": Workload(
        count=28, number=14, seconds=5, percent=5, options=("--vram", "2GiB"), most=1.5
    ),
    "full": Workload(count=4, number=1, seconds=5, percent=95, gib=10, most=1.05),
    "late": Workload(count=4, number=2, seconds=4, percent=20, part=LATE, delay_s=6, most=1.5),
    "short": Workload(count=84, number=14, seconds=1, percent=3, most=1.3),
}


def measure(bench: Bench) -> None:
    """Run each workload a fixed number at a time, then through a queue of its own."""
    cards = Nvml().snapshot()
    if not cards:
        raise NotMeasured("the driver lists no GPU")
    card = cards[0]
    product_s = seconds_of_product(card.uuid)
    fixed: dict[object, Fixed | None] = {}
    for name, full_size in WORKLOADS.items():
        workload = full_size.rehearsed() if bench.rehearsal else full_size
        work = commands(workload, card.total or 80 * GIB, product_s)
        same = (tuple(work), workload.number)  # unknown and declared differ in nothing here
        if same not in fixed:
            fixed[same] = run_at_once(
                work,
                workload.number,
                lambda argv, _: Started(start(argv, card.uuid)),
                lambda _: bench.left_s < LEAST_S,
            )
        best = fixed[same]
        if best is None:
            bench.row(f"{name}: {workload.number} at a time", "failed", holds=False)
        else:
            through_queue(bench, name, workload, work, best)


def commands(workload: Workload, total: int, product_s: float) -> list[tuple[str, ...]]:
    """Return the command line of each program.

    Args:
        workload: what they do.
        total: bytes of the card.
        product_s: how long a product takes on an idle card.
    """
    busy_s = SLICE_S * workload.percent / 100
    count = round(workload.part * total or workload.gib * GIB)
    products = max(1, round(busy_s / product_s))
    rounds = max(1, round(workload.seconds / SLICE_S))
    numbers = (count, workload.delay_s, rounds, products, SLICE_S - busy_s)
    program = (sys.executable, "-m", PROGRAM, *map(str, numbers))
    return [(*program, f"--fold={fold}") for fold in range(workload.count)]


def seconds_of_product(uuid: str) -> float:
    """Return how long a product takes on the idle card; measured by a process that is gone then."""
    timing = subprocess.run(
        (sys.executable, "-m", PROGRAM, "time"),
        env=_environment(uuid),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(timing.stdout)


def start(argv: Sequence[str], uuid: str) -> subprocess.Popen[bytes]:
    """Start a program on the card without a queue."""
    silent = subprocess.DEVNULL
    return subprocess.Popen(
        argv, env=_environment(uuid), stdin=silent, stdout=silent, stderr=silent, cwd=ROOT
    )


def _environment(uuid: str) -> dict[str, str]:
    return os.environ | {"CUDA_VISIBLE_DEVICES": uuid, "PYTHONPATH": str(ROOT)}


def through_queue(
    bench: Bench, name: str, workload: Workload, work: Sequence[Sequence[str]], best: Fixed
) -> None:
    """Run the programs through a queue, and write down how that went."""
    own_bench = bench.for_part(name, max(LEAST_S, PATIENCE * best.seconds))
    with queue(own_bench) as own:
        file = Path(own_bench.folder) / "commands.txt"
        file.write_text("".join(f"{' '.join(argv)}\n" for argv in work), encoding="utf-8")
        sampler = Sampler()
        sampler.start()
        began, late = time.monotonic(), ""
        own.call("add", "--cpus", "1", *workload.options, "--from", str(file))
        try:
            own.until(lambda: _left(own) == 0, f"the programs of {name} have ended")
        except TimeoutError as error:
            late = str(error)
        seconds = time.monotonic() - began
        ratio, busy = seconds / best.seconds, sampler.mean()
        bench.row(
            f"{name}: through the queue", seconds, "s",
            holds=None if bench.rehearsal else not late and ratio <= workload.most,
            note=late or f"{ratio:.2f} × {best}; wanted: {workload.most:g} ×", fixed=best.seconds,
        )  # fmt: skip
        bench.row(f"{name}: utilisation of the card, mean", busy, "%")
        failed = _counts(own).get("failed", 0)
        bench.row(f"{name}: failed jobs", failed, holds=failed == 0)
        shortages = _shortages(own)
        bench.row(
            f"{name}: programs that ended out of memory", shortages,
            holds=shortages <= (SHORTAGES_MOST if name == "late" else 0),
        )  # fmt: skip


def _counts(own: Queue) -> dict[str, int]:
    counts: dict[str, int] = json.loads(own.call("status", "--json"))["counts"]
    return counts


def _left(own: Queue) -> int:
    counts = _counts(own)
    return sum(counts.values()) - counts.get("done", 0) - counts.get("failed", 0)


def _shortages(own: Queue) -> int:
    numbers = {int(path.name.split("-")[0]) for path in own.home.attempts.glob("*-*")}
    attempts = [attempt for number in numbers for attempt in own.attempts(number)]
    return sum(isinstance(read_recorded_outcome(attempt), OutOfMemory) for attempt in attempts)
