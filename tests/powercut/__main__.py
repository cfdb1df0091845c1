"""Prove it: python -m tests.powercut [--jobs 40] [--cuts 2000] [--restarts 40] [--without-syncs]."""

import random
import sys
import tempfile
from pathlib import Path

import click

from benchmarks import measured
from tests.powercut.proof import prove, record

MOST_LINES = 20


@click.command()
@click.option("--jobs", type=click.IntRange(min=1), default=40, show_default=True)
@click.option("--cuts", type=click.IntRange(min=1), default=2000, show_default=True)
@click.option("--restarts", type=click.IntRange(min=0), default=40, show_default=True)
@click.option("--seed", type=int, help="Cut at the same instants as before.")
@click.option("--without-syncs", is_flag=True, help="Let syncs do nothing: must fail.")
def main(jobs: int, cuts: int, restarts: int, seed: int | None, without_syncs: bool) -> None:
    """Record a run, cut the power again and again, and count what the queue has lost."""
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    click.echo(f"powercut: seed {seed}, syncs {'off' if without_syncs else 'on'}", err=True)
    with tempfile.TemporaryDirectory(prefix="powercut-") as place:
        operations = record(Path(place), jobs)
        report = prove(
            Path(place),
            operations,
            cuts=cuts,
            restarts=restarts,
            seed=seed,
            syncs=not without_syncs,
        )
    for line in report.findings[:MOST_LINES]:
        click.echo(line, err=True)
    click.echo(report.line)
    if not without_syncs:
        after_cuts = len(report.findings) - report.restart_findings
        counts = {
            f"{cuts:,} cuts of {jobs} jobs, replayed": report.cuts,
            f"{cuts:,} cuts of {jobs} jobs, wrong": after_cuts,
            f"{restarts} restarts of {jobs} jobs, wrong": report.restart_findings,
        }
        values = {what: (f"{count:,}", "") for what, count in counts.items()}
        measured.record("reliability", values)
    sys.exit(1 if report.findings else 0)


if __name__ == "__main__":
    main()
