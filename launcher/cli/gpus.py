"""`launcher gpus`: the GPUs of this machine, who uses them, and what is wrong with them."""

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from launcher.adoption import on_record
from launcher.attribution import owner_of, parent_of
from launcher.claims import claims_folder
from launcher.cli.gauges import Gauge, Guest, draw
from launcher.cli.session import open_queue, seen_gpus
from launcher.errors import MachineError, UsageError, counted
from launcher.gpu import GpuSnapshot
from launcher.handover import scheduler_pid
from launcher.ledger import reported
from launcher.lookout import POLL_S, Lookout
from launcher.nvml import Nvml
from launcher.paths import Attempt, Home, find_home
from launcher.processes import Identity, alive
from launcher.promises import Board
from launcher.recording import read_recording, record
from launcher.store.rows import Claim
from launcher.units import format_seconds
from launcher.views import tabbed

NAMELESS = "#"  # how the UUID begins of a card that never told it
FRESH_S = 15.0  # what the scheduler saw before may have changed
PATIENCE_S = 30.0  # a driver takes seconds to wake cards that sleep


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
@click.option(
    "--record",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Add what the driver says to FILE, with names of users and programs.",
)
@click.option(
    "--looks", type=click.IntRange(1, 1_000_000), help="Record so many looks, one a second."
)
def command(as_json: bool, file: Path | None, looks: int | None) -> None:
    """List the GPUs with their memory, who uses it, and what is wrong with them.

    In a pipe, a line for each GPU or MIG instance: label, uuid, name, then in bytes: used, total,
    ours, promised, then busy (0 to 1), °C, watts, most watts, idle or used, health, and why.

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
    gpus = watch(probe, file, looks or 1)
    home = find_home(os.environ)
    gauges = gauges_of(recalled(gpus, *_scheduler_sees(home)), _claims(home), home)
    if as_json:
        listed = [gauge.record() for gauge in gauges]
        click.echo(json.dumps({"schema": 1, "absent": probe.absent or None, "gpus": listed}))
    elif not gauges:
        click.echo(f"no GPUs: {probe.absent or 'the driver lists none'}", err=True)
    elif sys.stdout.isatty():
        click.echo("\n".join(draw(gauges, os.get_terminal_size().columns)))
    else:
        click.echo(tabbed(gauge.columns() for gauge in gauges))
    if file is not None:
        click.echo(f"recorded {counted(looks or 1, 'look')} in {file}", err=True)


def watch(
    probe: Nvml, file: Path | None, looks: int, *, patience_s: float = PATIENCE_S
) -> tuple[GpuSnapshot, ...]:
    """Look so many times and return what was seen last.

    Args:
        probe: the driver.
        file: where each look is recorded, if anywhere.
        looks: at least one.
        patience_s: how long the driver may take for one.

    Raises:
        MachineError: the driver does not answer.
    """
    seen = threading.Event()
    lookout = Lookout(probe.snapshot, seen.set)  # a driver that hangs cannot be interrupted
    gpus: tuple[GpuSnapshot, ...] = ()
    for number in range(looks):
        if number:
            seen.clear()
            time.sleep(POLL_S)
        lookout.ask()
        answered = seen.wait(patience_s)
        if lookout.trouble:
            raise MachineError(f"the GPUs cannot be looked at: {lookout.trouble}")
        if not answered or (sight := lookout.sight()) is None:
            raise MachineError(
                f"the GPUs' driver has not answered for {patience_s:.3g} s; "
                "nvidia-smi and the kernel's log (dmesg) may say why"
            )
        gpus = sight.gpus
        if file is not None:
            record(file, gpus)
    return gpus


def recalled(
    gpus: Sequence[GpuSnapshot], before: Sequence[GpuSnapshot], age_s: float = 0.0
) -> list[GpuSnapshot]:
    """Return the GPUs with what the scheduler knows of them and the driver does not tell any more.

    That is the identity of a card that is lost, and a fault that was announced once.

    Args:
        gpus: as they are now.
        before: as the scheduler last saw them.
        age_s: how long ago that was.
    """
    by_uuid = {gpu.uuid: gpu for gpu in before}
    by_place = {(gpu.index, gpu.mig): gpu for gpu in before}
    found = []
    for gpu in gpus:
        nameless = gpu.uuid.startswith(NAMELESS)
        known = by_place.get((gpu.index, gpu.mig)) if nameless else by_uuid.get(gpu.uuid)
        if known is not None and nameless:
            gpu = replace(gpu, uuid=known.uuid, name=known.name, total=known.total)
        found.append(replace(gpu, fault=_fault(gpu, known, age_s)))
    return found


def gauges_of(gpus: Sequence[GpuSnapshot], claims: Sequence[Claim], home: Home) -> list[Gauge]:
    """Return each GPU with the jobs of ours that have a place on it.

    Args:
        gpus: as they are now.
        claims: our attempts that have not ended.
        home: where their folders are.
    """
    foreign = Board(claims_folder(os.environ), home.folder).others()
    heads = {
        who.pid: claim.job
        for claim in claims
        for who in _heads(claim, home.attempt(claim.job, claim.number))
        if who is not None and alive(who)
    }
    owners = {
        one.pid: job
        for gpu in gpus
        for one in gpu.processes or ()
        if (job := owner_of(one.pid, parent_of, heads)) is not None
    }
    return [
        Gauge(
            gpu=gpu,
            guests=tuple(
                Guest(
                    job=claim.job,
                    name=claim.spec.name,
                    promised=claim.claim,
                    lone=claim.lone,
                    pids=frozenset(pid for pid, job in owners.items() if job == claim.job),
                    reported=reported(home.attempt(claim.job, claim.number)),
                )
                for claim in claims
                if gpu.uuid in claim.gpus
            ),
            foreign=tuple(one for one in foreign if one.device == gpu.uuid),
        )
        for gpu in gpus
    ]


def _heads(claim: Claim, attempt: Attempt) -> tuple[Identity | None, ...]:
    """Return the processes from which all of an attempt's descend; its supervisor may be dead."""
    supervisor = Identity(pid=claim.pid, start_ticks=claim.start_ticks, boot=claim.boot)
    return supervisor, on_record(attempt)


def _fault(gpu: GpuSnapshot, known: GpuSnapshot | None, age_s: float) -> str:
    """Return a GPU's fault, as the scheduler knows it where it does; an old one with its age."""
    if known is None or not known.fault:
        return gpu.fault
    if age_s < FRESH_S or gpu.fault:
        return known.fault
    return f"{known.fault} (as the scheduler saw it {format_seconds(round(age_s))} ago)"


def _scheduler_sees(home: Home) -> tuple[tuple[GpuSnapshot, ...], float]:
    """Return what the scheduler saw last, and how long ago; nothing where none lives.

    What one knew that has left is over: the next one begins anew.
    """
    look = seen_gpus(home) if scheduler_pid(home) is not None else None
    return ((), 0.0) if look is None else (look.gpus, max(0.0, time.time() - look.at))


def _claims(home: Home) -> list[Claim]:
    if not home.exists():
        return []
    with open_queue() as (_, store):
        return store.scheduling.claims()
