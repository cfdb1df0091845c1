"""Every policy on a trace, at several slowdowns and sizes of jobs: the table of README, in Markdown.

python -m benchmarks.field [--trace FILE] [--gpus 560x24GiB] [--jobs N] [--load X]

A policy that gives whole GPUs is replayed once: neither slowdown nor memory change its decisions. A policy
that shares GPUs is replayed once per slowdown and share. Every job uses the same share of a GPU.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from launcher.frontends.cli.option_types import ValueParamType, real_number, whole_number
from launcher.frontends.simulate.baselines import Assumptions, run_study
from launcher.frontends.simulate.machine import (
    PolicyResult,
    SimulatedCluster,
    parse_cluster,
    select_feasible,
    wide_job_gpus,
)
from launcher.frontends.simulate.memory_claims import draw_memory
from launcher.frontends.simulate.queue import RuntimeKnowledge
from launcher.frontends.simulate.trace import TraceJob, read_trace, select_jobs
from launcher.queue.scheduler.policy.disciplines import POLICIES_BY_NAME
from launcher.system.errors import pluralize
from launcher.system.units import format_seconds

PHILLY = Path(__file__).parents[2] / "shared" / "data" / "traces" / "philly_jobs.csv"
SLOWDOWNS = (1.0, 1.3, 1.6, 2.0)
SHARES = (0.3, 0.5, 0.8)  # fractions of the smallest card
WHOLE = tuple(name for name, policy in POLICIES_BY_NAME.items() if not policy.shares_gpus)
SHARING = tuple(name for name, policy in POLICIES_BY_NAME.items() if policy.shares_gpus)
HEADER = (
    "policy",
    "slowdown",
    "memory",
    "mean wait",
    "mean bounded slowdown",
    "longest wait, wide",
)

Line = tuple[str, ...]


def assumed(fleet: SimulatedCluster, *, slowdown: float, load: float, share: float) -> Assumptions:
    """Return what holds in a line of the table."""
    return Assumptions(
        fleet=fleet,
        slowdown=slowdown,
        most=2,
        foresight=RuntimeKnowledge.LEARNED,
        load=load,
        all_at_once=False,
        memory=f"{share:.0%} of the smallest card",
        seed=None,
    )


def lines(jobs: Sequence[TraceJob], fleet: SimulatedCluster, load: float) -> Iterator[Line]:
    """Give the rows of the table, those of policies with whole GPUs first.

    Args:
        jobs: of a trace, in the order of their submission.
        fleet: the GPUs.
        load: as said beside the table.
    """
    card = min(fleet.totals)
    for share in SHARES:
        workload = select_feasible(draw_memory(jobs, 0, fixed_bytes=round(share * card)), fleet)
        if share == SHARES[0]:
            world = assumed(fleet, slowdown=1.0, load=load, share=share)
            for outcome in run_study(workload, world, policies=WHOLE).outcomes:
                yield _line(outcome, "–", "any")
        for slowdown in SLOWDOWNS:
            world = assumed(fleet, slowdown=slowdown, load=load, share=share)
            for outcome in run_study(workload, world, policies=SHARING).outcomes:
                yield _line(outcome, f"{slowdown:.1f}", f"{share:.0%}".replace("%", " %"))


def _line(outcome: PolicyResult, slowdown: str, memory: str) -> Line:
    longest = outcome.wait_max_wide_s
    return (
        outcome.policy,
        slowdown,
        memory,
        format_seconds(outcome.wait_mean_s),
        f"{outcome.slowdown_mean:,.1f}",
        "–" if longest is None else format_seconds(longest),
    )


def markdown(rows: Iterator[Line]) -> Iterator[str]:
    """Give the lines of a table in Markdown."""
    yield f"| {' | '.join(HEADER)} |"
    yield f"|{'---|' * 3}{'---:|' * 3}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


@click.command()
@click.option(
    "--trace", type=click.Path(path_type=Path, exists=True), default=PHILLY, help="Another trace."
)
@click.option("--gpus", "fleet", type=ValueParamType("gpus", parse_cluster), default="560x24GiB")
@click.option("--jobs", "first", type=whole_number(1), help="Replay the first so many jobs only.")
@click.option(
    "--load", type=real_number(0.01, 100), default="1", help="Jobs come so many times as fast."
)
def main(trace: Path, fleet: SimulatedCluster, first: int | None, load: float) -> None:
    """Print the table as it is worked out, and below it what was assumed."""
    jobs = select_jobs(read_trace(trace), first=first, all_at_once=False, load=load)
    for line in markdown(lines(jobs, fleet, load)):
        click.echo(line)
    click.echo(
        f"\n{pluralize(len(jobs), 'job')} of {trace.name} on {fleet}, load {load:g}; durations are learned from jobs "
        f"that ended, sjf knows them; two jobs at most share a GPU, memory is known; wide: at least "
        f"{wide_job_gpus(len(fleet.totals))} GPUs. A trace that names memory keeps it."
    )


if __name__ == "__main__":
    main()
