"""How much worse each policy is than the best simple one, over many workloads: the regret table, in Markdown.

python -m benchmarks.regret [--seed N] [--jobs N] [--parts N] [--slowdown X] [--csv FILE]

The simple policies are fifo, easy and first-fit. A policy is better if it loses on no trace by more than a tenth; to
win one trace is not enough. Two columns are mean wait and mean bounded slowdown as multiples of the best simple policy.
Two more are the longest wait of wide jobs and the mean wait, as multiples of FIFO.
"""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import click

from benchmarks.measured import record
from benchmarks.regret_workloads import Case, cases
from benchmarks.table import number
from launcher.frontends.cli.option_types import real_number, whole_number
from launcher.frontends.simulate.baselines import Assumptions, run_study
from launcher.frontends.simulate.machine import PolicyResult, select_feasible
from launcher.frontends.simulate.queue import RuntimeKnowledge
from launcher.queue.scheduler.policy.disciplines import DEFAULT_POLICY, EASY, FIFO, FIRST_FIT

SIMPLE = (FIFO.name, EASY.name, FIRST_FIT.name)
POLICIES = (DEFAULT_POLICY.name, *SIMPLE)
# added to both sides of a ratio: a wait of 0.1 s instead of 0 s does not count as a loss
SECOND, MINUTE = 1.0, 60.0
WORSE, WIDE_WORSE = 1.1, 1.25

Regrets = Mapping[str, tuple[float, float, float, float]]  # by policy


def replayed(case: Case, slowdown: float) -> Mapping[str, PolicyResult]:
    """Return what each policy made of a workload."""
    workload = select_feasible(case.jobs, case.fleet)
    assumptions = Assumptions(
        fleet=case.fleet,
        slowdown=slowdown,
        most=2,
        foresight=RuntimeKnowledge.LEARNED,
        load=1.0,
        all_at_once=False,
        memory="known",
        seed=None,
    )
    outcomes = run_study(workload, assumptions, policies=POLICIES).outcomes
    return {outcome.policy: outcome for outcome in outcomes}


def regrets(outcomes: Mapping[str, PolicyResult]) -> Regrets:
    """Return for each policy wait, slowdown and wide wait beside the best simple one's, and wait beside FIFO's."""
    simple = [outcomes[name] for name in SIMPLE]
    wait = min(outcome.wait_mean_s for outcome in simple)
    slowdown = min(outcome.slowdown_mean for outcome in simple)
    fifo = outcomes[FIFO.name]
    wide = fifo.wait_max_wide_s or 0.0
    return {
        name: (
            (outcome.wait_mean_s + SECOND) / (wait + SECOND),
            outcome.slowdown_mean / slowdown,
            ((outcome.wait_max_wide_s or 0.0) + MINUTE) / (wide + MINUTE),
            (outcome.wait_mean_s + SECOND) / (fifo.wait_mean_s + SECOND),
        )
        for name, outcome in outcomes.items()
    }


def lines(table: Iterable[tuple[str, Regrets]]) -> Iterator[str]:
    """Give the table in Markdown: a row for each workload, and a summary for each policy."""
    yield f"| workload | {' | '.join(f'{name}: wait, slowdown, wide' for name in POLICIES)} |"
    yield f"|---|{'---:|' * len(POLICIES)}"
    every: dict[str, list[Sequence[float]]] = {name: [] for name in POLICIES}
    for workload, by_policy in table:
        cells = []
        for name in POLICIES:
            every[name].append(by_policy[name])
            cells.append(", ".join(f"{ratio:.2f}" for ratio in by_policy[name][:3]))
        yield f"| {workload} | {' | '.join(cells)} |"
    yield ""
    yield "| policy | wait: mean, worst, above 1.1 | slowdown: mean, worst, above 1.1 | wide: worst, above 1.25 | wait of FIFO's |"
    yield f"|---|{'---:|' * 4}"
    for name, ratios in every.items():
        waits, slowdowns, wides, of_fifo = zip(*ratios, strict=True)
        yield (
            f"| {name} | {_summary(waits)} | {_summary(slowdowns)} | {max(wides):.2f}, {_above(wides, WIDE_WORSE)}"
            f" | {_mean(of_fifo):.2f} |"
        )


def _summary(ratios: Sequence[float]) -> str:
    return f"{_mean(ratios):.2f}, {max(ratios):.2f}, {_above(ratios, WORSE)}"


def _above(ratios: Sequence[float], bound: float) -> str:
    return f"{sum(ratio > bound for ratio in ratios)} of {len(ratios)}"


def _mean(ratios: Sequence[float]) -> float:
    """Return the geometric mean."""
    return math.exp(sum(math.log(max(ratio, 1e-3)) for ratio in ratios) / len(ratios))


@click.command()
@click.option("--seed", type=int, default=0, help="Of the workloads.")
@click.option("--jobs", type=whole_number(10), default=3000, help="Of each workload.")
@click.option("--parts", type=whole_number(1), default=6, help="Workloads of each kind.")
@click.option(
    "--slowdown", type=real_number(1, 10), default="1.3", help="Of each of two jobs on a card."
)
@click.option("--csv", "file", type=click.Path(path_type=Path), help="Also write the ratios here.")
def main(seed: int, jobs: int, parts: int, slowdown: float, file: Path | None) -> None:
    """Print the table as it is worked out."""
    table: list[tuple[str, Regrets]] = []

    def rows() -> Iterator[tuple[str, Regrets]]:
        for case in cases(seed, jobs, parts):
            table.append((case.name, regrets(replayed(case, slowdown))))
            yield table[-1]

    for line in lines(rows()):
        click.echo(line)
    click.echo(
        f"\nslowdown {slowdown:g}, two jobs at most share a card, durations are learned, seed {seed}"
    )
    of_policies = [by_policy for _, by_policy in table]
    means = {
        name: number(_mean([by_policy[name][0] for by_policy in of_policies])) for name in POLICIES
    }
    longest = max(by_policy[DEFAULT_POLICY.name][2] for by_policy in of_policies)
    workloads = f"{len(table)} workloads of {jobs:,} jobs, slowdown {slowdown:g}, seed {seed}"
    simple = "; ".join(f"{name} {means[name]}" for name in SIMPLE)
    values = {
        f"{workloads}: mean regret": (means[DEFAULT_POLICY.name], simple),
        f"{workloads}: longest wait of wide jobs": (number(longest), ""),
    }
    record("planning", values)
    if file is not None:
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(("workload", "policy", "wait", "slowdown", "wide", "wait_of_fifo"))
            writer.writerows(
                (workload, name, *ratios)
                for workload, all_ in table
                for name, ratios in all_.items()
            )


if __name__ == "__main__":
    main()
