"""The best fixed number of jobs at a time on simulated cards."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf

from benchmarks.filling.at_once import Fixed, Started, run_at_once
from benchmarks.filling.machine import TOTAL, Job, Machine, Maker
from tests.nvml.standin import GIB

NUMBERS = (1, 2, 4, 8, 14)


class Impossible(Exception):
    """No fixed number gets all jobs done."""


def best_fixed(
    maker: Maker, jobs: Sequence[Job], *, cards: int = 1, numbers: Sequence[int] = NUMBERS
) -> Fixed:
    """Return the fixed number that finishes soonest, of those with which no job fails.

    The runs go on at the same time, each on a machine of its own: their programs only sleep. A run that
    takes longer than another did is given up.

    Raises:
        Impossible: with each number a job fails.
    """
    best_s, lock = inf, threading.Lock()

    def run(number: int) -> Fixed | None:
        nonlocal best_s
        with maker.machine(cards) as machine:
            fixed = run_at_once(
                jobs,
                number,
                lambda job, running: _start(machine, job, running),
                lambda seconds: seconds > best_s,
            )
        if fixed is not None:
            with lock:
                best_s = min(best_s, fixed.seconds)
        return fixed

    with ThreadPoolExecutor(len(numbers)) as pool:
        found = [fixed for fixed in pool.map(run, numbers) if fixed is not None]
    if not found:
        raise Impossible("no fixed number of jobs at a time gets all jobs done")
    return min(found, key=lambda fixed: fixed.seconds)


def _start(machine: Machine, job: Job, running: Sequence[Started]) -> Started | None:
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
    return Started(process, cards, declared)
