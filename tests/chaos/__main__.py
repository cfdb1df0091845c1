"""Prove it: python -m tests.chaos [--jobs 500] [--seconds 600] [--seed 1] [--without-guard]."""

import random
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click

from benchmarks.measured import record
from tests.chaos.audit import jobs_of
from tests.chaos.proof import prove
from tests.chaos.recipe import LONG_SHARE

MOST_LINES = 20


@click.command()
@click.option("--jobs", type=click.IntRange(min=1), default=500, show_default=True)
@click.option("--seconds", type=float, default=0.0, help="Go on with new jobs for so long.")
@click.option("--seed", type=int, help="Draw the same jobs and strikes as before.")
@click.option("--without-guard", is_flag=True, help="Let two start the same attempt: must fail.")
def main(jobs: int, seconds: float, seed: int | None, without_guard: bool) -> None:
    """Queue jobs, kill all that serves them again and again, and count what went wrong."""
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    click.echo(f"chaos: seed {seed}, guard {'off' if without_guard else 'on'}", err=True)
    with tempfile.TemporaryDirectory(prefix="chaos-") as place:
        report = prove(
            Path(place),
            jobs=jobs,
            seconds=seconds,
            seed=seed,
            guard=not without_guard,
            # attempts that start twice also overlap, if they take their time
            long_share=1.0 if without_guard else LONG_SHARE,
        )
    for complaint in report.complaints:
        click.echo(f"note: {complaint}", err=True)
    click.echo(f"kills: {_most_first(report.strikes)}", err=True)
    click.echo(f"attempts: {_most_first(report.endings)}", err=True)
    for line in report.faults[:MOST_LINES]:
        click.echo(line, err=True)
    wrong = sorted(set(jobs_of(report.findings.lines)))
    if wrong:
        click.echo(f"jobs: {' '.join(wrong)}", err=True)
    click.echo(report.line)
    if not without_guard:
        found, kills = report.findings, f"{report.kills:,} kills"
        counts = {
            "jobs": report.jobs,
            "lost jobs": len(found.lost),
            "jobs that ran twice": len(found.doubled),
            "overlapping attempts": len(found.overlaps),
            "unexplained ends": len(found.unexplained),
        }
        values = {f"{seconds:g} s, {what}": f"{count:,}" for what, count in counts.items()}
        record("reliability", {what: (count, kills) for what, count in values.items()})
    sys.exit(1 if report.faults else 0)


def _most_first(counts: Mapping[str, int]) -> str:
    pairs = sorted(counts.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{n} {what}" for what, n in pairs)


if __name__ == "__main__":
    main()
