"""How long a decision takes, and the replay of a whole trace; noisy machine, nothing is asserted.

python -m benchmarks.simulation [--trace FILE] [--gpus 560x24GiB]
"""

import random
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from benchmarks.table import Row, machine, publish
from launcher.frontends.cli.option_types import ValueParamType
from launcher.frontends.simulate.baselines import Assumptions, run_study
from launcher.frontends.simulate.machine import SimulatedCluster, parse_cluster, select_feasible
from launcher.frontends.simulate.memory_claims import MEMORY_SIZES, draw_memory
from launcher.frontends.simulate.queue import RuntimeKnowledge
from launcher.frontends.simulate.trace import read_trace
from launcher.queue.jobs.job import Resources
from launcher.queue.scheduler.policy.decide import decide
from launcher.queue.scheduler.policy.model import Decision, Machine, Running, Start, Waiting
from launcher.system.gpu_sharing import SharingRules
from launcher.system.processes import usable_cores

PHILLY = Path(__file__).parents[2] / "shared" / "data" / "traces" / "philly_jobs.csv"
GIB = 1024**3
WAITING, DEVICES, ROUNDS = 1000, 64, 31
DECISION_MS, REPLAY_S = 10.0, 60.0


def decision_rows() -> Iterator[Row]:
    """Decide over many waiting jobs on a machine that is full, and on one that is empty."""
    fleet = SimulatedCluster(((24 * GIB,) * DEVICES,))
    around = Machine(
        cpus=4096,
        ram=1 << 50,
        ram_free=1 << 50,
        gpus=fleet.gpus()[0],
        rules=SharingRules(max_per_gpu=2),
    )
    waiting = _some_jobs(random.Random(0))
    running = _carried_out(decide(waiting, (), around))
    for what, ours in (("full", running), ("empty", ())):
        spans = []
        for turn in range(ROUNDS):
            since = time.perf_counter()
            decide(waiting, ours, around, now=float(turn))
            spans.append(1000 * (time.perf_counter() - since))
        yield Row(
            what=f"{WAITING:,} waiting, {DEVICES} {what} GPUs, ms",
            ours=statistics.median(spans),
            goal=DECISION_MS,
            target=f"< {DECISION_MS:g}",
        )


def _some_jobs(stream: random.Random) -> list[Waiting]:
    """Return jobs that ask for one to eight GPUs, some for memory that nobody knows."""
    claims = [None, *(gib * GIB for gib in MEMORY_SIZES)]
    lanes = {
        (gpus, claim): Resources(vram=claim, gpus=gpus, device="cuda")
        for gpus in (1, 2, 4, 8)
        for claim in claims
    }
    jobs = []
    for number in range(WAITING):
        claim, seconds = stream.choice(claims), stream.choice([None, 600.0, 7200.0])
        gpus = stream.choices([1, 2, 4, 8], [90, 5, 3, 2])[0]
        asked = lanes[gpus, claim]  # the jobs of a lane share one object, as in the scheduler
        jobs.append(Waiting(job=number, resources=asked, vram=claim, seconds=seconds))
    return jobs


def _carried_out(decisions: Iterable[Decision]) -> tuple[Running, ...]:
    """Return what runs after decisions; nobody knows how long half of it takes."""
    return tuple(
        Running(
            job=one.job,
            cpus=one.cpus,
            devices=one.devices,
            vram=one.vram,
            exclusive=one.exclusive,
            ends=3600.0 if one.job % 2 else None,
        )
        for one in decisions
        if isinstance(one, Start)
    )


def replay_rows(trace: Path, fleet: SimulatedCluster) -> Iterator[Row]:
    """Replay a trace under every policy."""
    since = time.perf_counter()
    load = select_feasible(draw_memory(read_trace(trace), 0), fleet)
    read_s = time.perf_counter() - since
    assumptions = Assumptions(
        fleet=fleet,
        slowdown=1.3,
        most=2,
        foresight=RuntimeKnowledge.LEARNED,
        load=1.0,
        all_at_once=False,
        memory="drawn",
        seed=0,
    )
    begun: dict[str, float] = {}
    run_study(load, assumptions, lambda policy: begun.update({policy: time.perf_counter()}))
    ends = [*begun.values(), time.perf_counter()]
    yield Row(what=f"{len(load.jobs):,} jobs read, s", ours=read_s)
    for (policy, start), end in zip(begun.items(), ends[1:], strict=True):
        # the bound, which takes a second, is counted with the last one
        yield Row(what=f"replayed under {policy} on {fleet}, s", ours=end - start)
    since = time.perf_counter()
    run_study(load, assumptions, processes=usable_cores())
    yield Row(
        what=f"all of them, {usable_cores()} at once, s",
        ours=read_s + time.perf_counter() - since,
        peers={"one after another": read_s + ends[-1] - ends[0]},
        goal=REPLAY_S,
        target=f"< {REPLAY_S:g}",
    )


@click.command()
@click.option(
    "--trace", type=click.Path(path_type=Path), default=PHILLY, help="Another than Philly's."
)
@click.option("--gpus", "fleet", type=ValueParamType("gpus", parse_cluster), default="560x24GiB")
def main(trace: Path, fleet: SimulatedCluster) -> None:
    """Print the table; the replay is left out where there is no trace."""
    rows = [*decision_rows()]
    if trace.exists():
        rows += replay_rows(trace, fleet)
    else:
        print(f"no {trace}: the replay is left out", file=sys.stderr)
    print(machine())
    publish(rows, "planning")


if __name__ == "__main__":
    main()
