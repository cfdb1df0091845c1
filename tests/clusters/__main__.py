"""Prove it: python -m tests.clusters [--jobs 200] [--only slurmd …] [--out FILE]."""

import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from tests.clusters.faults import FAULTS
from tests.clusters.proof import Report, prove
from tests.clusters.ray_faults import RAY_FAULTS
from tests.clusters.table import table
from tests.ray.cluster import missing as missing_for_ray
from tests.slurm.cluster import missing as missing_for_slurm

MOST_LINES = 12
ALL = (*FAULTS, *RAY_FAULTS)


@click.command()
@click.option("--jobs", type=click.IntRange(min=1), default=200, show_default=True)
@click.option("--only", multiple=True, type=click.Choice([fault.name for fault in ALL]))
@click.option("--patience", type=float, default=300.0, help="Seconds for all jobs after a fault.")
@click.option("--keep", is_flag=True, help="Keep the folder of a proof that has failed.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the table here, too.")
def main(jobs: int, only: Sequence[str], patience: float, keep: bool, out: Path | None) -> None:
    """Run jobs on a Slurm of three nodes, break its parts, and count what went wrong."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left running
    lacking = {"slurm": missing_for_slurm(), "ray": missing_for_ray()}
    for engine in (engine for engine in lacking if lacking[engine]):
        click.echo(f"no proofs on {engine}: {lacking[engine]}", err=True)
    if all(lacking.values()):
        sys.exit(2)
    reports: list[Report] = []
    failed = False
    for fault in (fault for fault in ALL if not only or fault.name in only):
        if lacking[fault.engine]:
            continue
        place = Path(tempfile.mkdtemp(prefix="clusters-"))
        click.echo(f"{fault.name}: {fault.does}; in {place}", err=True)
        try:
            report = prove(place, fault, jobs=jobs, patience_s=patience)
        except Exception:  # noqa: BLE001  # the other proofs are made all the same
            failed = True
            click.echo(traceback.format_exc(), err=True)
            continue
        reports.append(report)
        if out is not None:
            out.write_text(table(reports) + "\n", encoding="utf-8")
        failed |= not report.good
        for line in report.lines[:MOST_LINES]:
            click.echo(f"  {line}", err=True)
        click.echo(table(reports[-1:]), err=True)
        if report.good or not keep:
            shutil.rmtree(place, ignore_errors=True)
    click.echo(table(reports))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
