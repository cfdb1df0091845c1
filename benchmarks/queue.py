"""Our queue beside others, side by side in one run; medians, noisy machine, nothing is asserted.

python -m benchmarks.queue [drain|gap|idle|insert|million|torch]…

Starts and ends are what the programs themselves read off the monotonic clock. Ours is timed from
its commit, before the scheduler is woken; the others, which do not report their commit, from the call.
"""

import signal
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import click

from benchmarks.ours import OURS
from benchmarks.peers import BARE_LOOP, HUEY_SQLITE, HYPERQUEUE, TASK_SPOOLER
from benchmarks.scale import a_folder, insert_rows, million_rows, torch_rows
from benchmarks.table import Row, machine, publish
from benchmarks.timing import Gate, Queue, Stamps, System

TRUE = ("/bin/true",)
DRAIN_JOBS, DRAIN_SLOTS = 500, 2
GAP_JOBS, GAP_SLEEP_MS = 200, 20
IDLE_JOBS, IDLE_PAUSE_S = 30, 0.3
SETTLE_S = 0.2  # after the first program of a queue, which may start helpers
NS_PER_MS = 1e6
PEERS = (BARE_LOOP, TASK_SPOOLER, HUEY_SQLITE, HYPERQUEUE)

Figures = dict[str, dict[str, list[float]]]  # quantity → program → a figure for each round


def drain(queue: Queue, stamps: Stamps, folder: Path) -> dict[str, float]:
    """Run trivial programs, from the last one's queueing or the gate's opening to the last end."""
    programs = [*[TRUE] * (DRAIN_JOBS - 1), stamps.program()]
    with closing(Gate(folder)) as gate:
        if queue.eager:
            queue.submit([gate.program] * DRAIN_SLOTS)
        since = queue.submit(programs)
        if queue.eager:
            since = time.monotonic_ns()
            gate.let_go(DRAIN_SLOTS)
        ((_, end),) = stamps.wait(1)
    return {f"drained, {DRAIN_SLOTS} slots, jobs/s": 1e9 * DRAIN_JOBS / (end - since)}


def gap(queue: Queue, stamps: Stamps, _: Path) -> dict[str, float]:
    """Run programs one by one, and look at the time between the end of one and the next start."""
    queue.submit([stamps.program(GAP_SLEEP_MS)] * GAP_JOBS)
    spans = stamps.wait(GAP_JOBS)
    gaps = [(after - end) / NS_PER_MS for (_, end), (after, _) in pairwise(spans)]
    return {
        "gap from end to start, median ms": statistics.median(gaps),
        "gap from end to start, p90 ms": statistics.quantiles(gaps, n=10)[-1],
    }


def idle(queue: Queue, stamps: Stamps, _: Path) -> dict[str, float]:
    """Give a queue at rest a program, again and again."""
    spans = []
    for _turn in range(IDLE_JOBS):
        time.sleep(IDLE_PAUSE_S)
        since = queue.submit([stamps.program()])
        ((start, _end),) = stamps.wait(1)
        spans.append((start - since) / NS_PER_MS)
    return {"idle, from commit to start, ms": statistics.median(spans)}


def side_by_side(
    measure: Callable[[Queue, Stamps, Path], dict[str, float]],
    systems: Sequence[System],
    *,
    slots: int,
    rounds: int,
) -> Figures:
    """Measure all systems in turn, a new queue each time, so that they share the machine's moods."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    for turn in range(rounds):
        for system in systems:
            tell(f"{measure.__name__} {turn + 1}/{rounds}: {system.name}")
            with a_folder() as folder:
                stamps = Stamps(folder)
                with system.open(folder, slots) as queue:
                    queue.submit([stamps.program()])
                    stamps.wait(1)
                    time.sleep(SETTLE_S)
                    for what, figure in measure(queue, stamps, folder).items():
                        figures[what][system.name].append(figure)
    return figures


def rows_of(figures: Figures, *, beside: System, target: str) -> Iterator[Row]:
    """Return a row for each thing that was measured."""
    for what, found in figures.items():
        medians = {name: statistics.median(spans) for name, spans in found.items()}
        mine = medians.pop(OURS.name)
        yield Row(what=what, ours=mine, peers=medians, beside=beside.name, target=target)


def tell(text: str) -> None:
    """Say what is done now, beside the answer."""
    print(text, file=sys.stderr, flush=True)


def measured(name: str, peers: Sequence[System], *, rounds: int, jobs: int) -> Iterator[Row]:
    """Return the rows of one group."""
    systems = [OURS, *peers]
    tell(name)
    match name:
        case "drain":
            found = side_by_side(drain, systems, slots=DRAIN_SLOTS, rounds=rounds)
            yield from rows_of(found, beside=BARE_LOOP, target="≥ 0.4")
        case "gap":
            found = side_by_side(gap, systems, slots=1, rounds=rounds)
            yield from rows_of(found, beside=TASK_SPOOLER, target="≤ 1.5")
        case "idle":
            waiting = [system for system in systems if system is not BARE_LOOP]  # it never rests
            found = side_by_side(idle, waiting, slots=1, rounds=rounds)
            yield from rows_of(found, beside=TASK_SPOOLER, target="≤ 5")
        case "insert":
            yield from insert_rows(rounds)
        case "million":
            yield from million_rows(jobs)
        case "torch":
            yield from torch_rows()


GROUPS = ("drain", "gap", "idle", "insert", "million", "torch")


@click.command()
@click.argument("groups", nargs=-1, type=click.Choice(GROUPS))
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--jobs",
    type=click.IntRange(min=1000),
    default=1_000_000,
    show_default=True,
    help="What lies in the home of the group `million`.",
)
def main(groups: Sequence[str], rounds: int, jobs: int) -> None:
    """Print how our queue does beside others; all GROUPS when none is named."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is cleared away
    missing = {peer.name: peer.lacking() for peer in PEERS}
    present = [peer for peer in PEERS if not missing[peer.name]]
    rows = [
        row
        for name in groups or GROUPS
        for row in measured(name, present, rounds=rounds, jobs=jobs)
    ]
    print(machine())
    publish(rows, "queue")
    for name, remedy in missing.items():
        if remedy:
            print(f"{name}: not installed ({remedy})")


if __name__ == "__main__":
    main()
