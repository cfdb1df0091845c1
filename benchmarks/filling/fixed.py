"""The best that a fixed number of jobs at a time does without a queue, as `xargs -P` would."""

import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from benchmarks.filling.machine import TOTAL, Job, Machine, Maker
from tests.nvml.standin import GIB

NUMBERS = (1, 2, 4, 8, 14)
POLL_S = 0.02


class Fixed(NamedTuple):
    """How a list of jobs went with so many at a time."""

    number: int
    seconds: float
    first_s: float  # after which the first job had ended

    def __str__(self) -> str:
        return "one after another" if self.number == 1 else f"{self.number} at a time"


class Impossible(Exception):
    """No fixed number gets all jobs done."""


@dataclass(slots=True)
class _Best:
    """The shortest time so far; a run that takes longer is given up."""

    seconds: float = inf
    lock: threading.Lock = field(default_factory=threading.Lock)

    def improve(self, seconds: float) -> None:
        with self.lock:
            self.seconds = min(self.seconds, seconds)


def best_fixed(
    maker: Maker, jobs: Sequence[Job], *, cards: int = 1, numbers: Sequence[int] = NUMBERS
) -> Fixed:
    """Return the fixed number that finishes soonest, of those with which no job fails.

    The runs go on at the same time, each on a machine of its own: their programs only sleep.

    Raises:
        Impossible: with each number a job fails.
    """
    best = _Best()

    def run(number: int) -> Fixed | None:
        with maker.machine(cards) as machine:
            return _run(machine, jobs, number, best)

    with ThreadPoolExecutor(len(numbers)) as pool:
        found = [fixed for fixed in pool.map(run, numbers) if fixed is not None]
    if not found:
        raise Impossible("no fixed number of jobs at a time gets all jobs done")
    return min(found, key=lambda fixed: fixed.seconds)


class _Running(NamedTuple):
    process: subprocess.Popen[bytes]
    cards: tuple[str, ...]
    declared: int  # bytes on each of its cards


def _run(machine: Machine, jobs: Sequence[Job], number: int, best: _Best) -> Fixed | None:
    """Run jobs in their order, so many at a time; None if one fails or another number is better."""
    began, first_s = time.monotonic(), 0.0
    left, running = list(jobs), list[_Running]()
    try:
        while left or running:
            codes = [each.process.poll() for each in running]
            if any(codes) or time.monotonic() - began > best.seconds:
                return None
            running = [each for each, code in zip(running, codes, strict=True) if code is None]
            first_s = first_s or (0 in codes) * (time.monotonic() - began)
            while left and len(running) < number:
                started = _start(machine, left[0], running)
                if started is None:
                    break
                running.append(started)
                del left[0]
            time.sleep(POLL_S)
    finally:
        for each in running:
            each.process.kill()
            each.process.wait()
    seconds = time.monotonic() - began
    best.improve(seconds)
    return Fixed(number, seconds, first_s)


def _start(machine: Machine, job: Job, running: Sequence[_Running]) -> _Running | None:
    """Start a job on the cards with the fewest jobs; None if its declared memory is not free."""
    declared = (job.vram_gib or 0) * GIB

    def count(uuid: str) -> int:
        return sum(uuid in each.cards for each in running)

    def is_free(uuid: str) -> bool:
        return sum(each.declared for each in running if uuid in each.cards) + declared <= TOTAL

    cards = tuple(sorted(filter(is_free, machine.uuids), key=count)[: job.gpus])
    if len(cards) < job.gpus:
        return None
    process = machine.cards.start(machine.cards.program(**job.load), *cards)
    return _Running(process, cards, declared)
