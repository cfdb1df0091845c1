"""`launcher gpus`: the GPUs of this machine, who uses them, and what is wrong with them."""

import os
from functools import partial

import click

from launcher.backends.pilots_file import seen_pilots
from launcher.cli.option_types import json_option
from launcher.cli.output import Answer, tell
from launcher.gpu.monitor import look_once
from launcher.gpu.nvml import Nvml
from launcher.screens.gpu_view import draw, gauges_of, recalled, scheduler_sees
from launcher.screens.pilots import pilot_gauges
from launcher.screens.terminal import remark
from launcher.store.client import open_queue
from launcher.store.rows import Claim
from launcher.system.config import read_configuration
from launcher.system.gpu_sharing import notes
from launcher.system.paths import find_home

PATIENCE_S = 30.0  # a driver takes seconds to wake cards that sleep


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the GPUs with their memory, users and health; those of pilots as these told last.

    In a pipe, one line for each GPU or MIG instance: label, uuid, name; in bytes: used, total, used
    by our jobs, reserved; utilization (0 to 1), °C, watts, limit in watts, idle or used, health, the
    reason, and of a pilot's GPU the node.

    \b
    Examples:
      launcher gpus
      launcher gpus --json
    """
    probe = Nvml()
    gpus = look_once(probe.snapshot)
    home = find_home(os.environ)
    claims: list[Claim] = []
    if home.exists():
        with open_queue() as (_, store):
            claims = store.scheduling.claims()
    ours = [claim for claim in claims if not claim.pilot]
    gauges = gauges_of(recalled(gpus, *scheduler_sees(home)), ours, home)
    gauges += pilot_gauges(home, seen_pilots(home), claims)
    if gauges or as_json:
        answer = Answer(
            record=lambda: {
                "absent": probe.absent or None,
                "gpus": [gauge.record() for gauge in gauges],
            },
            tabs=lambda: [gauge.columns() for gauge in gauges],
            drawn=partial(draw, gauges),
        )
        tell(answer, as_json=as_json)
    else:
        remark(f"no GPUs: {probe.absent or 'the driver lists none'}")
    for note in notes(read_configuration(os.environ)):
        remark(note)
