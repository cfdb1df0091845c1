"""`launcher gpus`: the GPUs of this machine, who uses them, and what is wrong with them."""

import json
import os
import sys
from pathlib import Path

import click

from launcher.cli.option_types import whole
from launcher.errors import UsageError, counted
from launcher.gpu.monitor import watch
from launcher.gpu.mps_support import hindrances, ourselves
from launcher.gpu.nvml import Nvml
from launcher.gpu.recording import read_recording
from launcher.gpu.snapshot import GpuSnapshot
from launcher.screens.clusters.pilot_gpus import pilot_gauges
from launcher.screens.clusters.pilots_now import seen_pilots
from launcher.screens.format import tabbed
from launcher.screens.gpu_users import gauges_of, recalled, scheduler_sees
from launcher.screens.gpu_view import draw
from launcher.screens.terminal import say, width
from launcher.store.client import open_queue
from launcher.store.rows import Claim
from launcher.system.config import read_configuration
from launcher.system.paths import Home, find_home

PATIENCE_S = 30.0  # a driver takes seconds to wake cards that sleep


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
@click.option(
    "--record",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Append what the driver reports to FILE, with names of users and programs.",
)
@click.option("--looks", type=whole(1, 1_000_000), help="Record this many snapshots, one a second.")
def command(as_json: bool, file: Path | None, looks: int | None) -> None:
    """List the GPUs with their memory, users and health; those of pilots as these told last.

    In a pipe, one line for each GPU or MIG instance: label, uuid, name; in bytes: used, total, used
    by our jobs, reserved; utilization (0 to 1), °C, watts, limit in watts, idle or used, health, the
    reason, and of a pilot's GPU the node.

    \b
    Examples:
      launcher gpus
      launcher gpus --json
      launcher gpus --record gpus.jsonl --looks 60
    """
    if looks is not None and file is None:
        raise UsageError("say where the looks go: launcher gpus --record FILE --looks N")
    if file is not None and file.exists():
        read_recording(file)  # nothing is added to any other file
    probe = Nvml()
    gpus = watch(probe.snapshot, file, looks or 1)
    home = find_home(os.environ)
    claims = _claims(home)
    ours = [claim for claim in claims if not claim.pilot]
    gauges = gauges_of(recalled(gpus, *scheduler_sees(home)), ours, home)
    gauges += pilot_gauges(home, seen_pilots(home), claims)
    if as_json:
        listed = [gauge.record() for gauge in gauges]
        click.echo(json.dumps({"schema": 1, "absent": probe.absent or None, "gpus": listed}))
    elif not gauges:
        click.echo(f"no GPUs: {probe.absent or 'the driver lists none'}", err=True)
    elif sys.stdout.isatty():
        say(draw(gauges, width()))
    else:
        click.echo(tabbed(gauge.columns() for gauge in gauges))
    for why in _without_mps(gpus, home):
        click.echo(f"note: [sharing] mps = true, and {why}", err=True)
    if file is not None:
        click.echo(f"recorded {counted(looks or 1, 'look')} in {file}", err=True)


def _without_mps(gpus: tuple[GpuSnapshot, ...], home: Home) -> tuple[str, ...]:
    """Return why MPS does not serve GPUs, though their owner asks for it."""
    rules = read_configuration(os.environ).rules
    if rules is None or not rules.mps or not gpus:
        return ()
    return hindrances(gpus, home.mps, ourselves())


def _claims(home: Home) -> list[Claim]:
    if not home.exists():
        return []
    with open_queue() as (_, store):
        return store.scheduling.claims()
