"""The GPUs with our jobs on them, as far as this process can find out."""

import os
import time
from collections.abc import Sequence
from dataclasses import replace

from launcher.gpu.gpus_file import seen_gpus
from launcher.gpu.monitor import on_record, owner_of, parent_of
from launcher.gpu.reservation_files import reservations_folder
from launcher.gpu.reservations import ReservationBoard
from launcher.gpu.snapshot import GpuSnapshot
from launcher.screens.gpu_view import Gauge, Guest
from launcher.store.rows import Claim
from launcher.system.daemon_control import scheduler_pid
from launcher.system.paths import Attempt, Home
from launcher.system.processes import Identity, alive
from launcher.units import format_seconds
from launcher.workers.job import read_report

NAMELESS = "#"  # the first character of the UUID of a GPU that never reported one
FRESH_S = 15.0  # what the scheduler saw before may have changed


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
    gpus_seen = []
    for gpu in gpus:
        nameless = gpu.uuid.startswith(NAMELESS)
        recorded = by_place.get((gpu.index, gpu.mig)) if nameless else by_uuid.get(gpu.uuid)
        if recorded is not None and nameless:
            gpu = replace(gpu, uuid=recorded.uuid, name=recorded.name, total=recorded.total)
        gpus_seen.append(replace(gpu, fault=_fault(gpu, recorded, age_s)))
    return gpus_seen


def gauges_of(gpus: Sequence[GpuSnapshot], claims: Sequence[Claim], home: Home) -> list[Gauge]:
    """Return each GPU with the jobs of ours that have a place on it.

    Args:
        gpus: as they are now.
        claims: our attempts that have not ended.
        home: where their folders are.
    """
    foreign = ReservationBoard(reservations_folder(os.environ), home.folder).others()
    heads = {
        who.pid: claim.job
        for claim in claims
        for who in _heads(claim, home.attempt(claim.job, claim.number))
        if who is not None and alive(who)
    }
    owners = {
        process.pid: job
        for gpu in gpus
        for process in gpu.processes or ()
        if (job := owner_of(process.pid, parent_of, heads)) is not None
    }
    reports = {
        claim.job: read_report(home.attempt(claim.job, claim.number))
        for claim in claims
        if claim.gpus
    }
    return [
        Gauge(
            gpu=gpu,
            guests=tuple(
                Guest(
                    job=claim.job,
                    name=claim.spec.name,
                    promised=claim.reservation,
                    exclusive=claim.exclusive,
                    pids=frozenset(pid for pid, job in owners.items() if job == claim.job),
                    reported=None if (report := reports[claim.job]) is None else report.used,
                    peak=None if report is None else report.most,
                )
                for claim in claims
                if gpu.uuid in claim.gpus
            ),
            foreign=tuple(promise for promise in foreign if promise.device == gpu.uuid),
        )
        for gpu in gpus
    ]


def _heads(claim: Claim, attempt: Attempt) -> tuple[Identity | None, ...]:
    """Return the processes from which all of an attempt's descend; its supervisor may be dead."""
    supervisor = Identity(pid=claim.pid, start_ticks=claim.start_ticks, boot=claim.boot)
    return supervisor, on_record(attempt)


def _fault(gpu: GpuSnapshot, recorded: GpuSnapshot | None, age_s: float) -> str:
    """Return a GPU's fault, as the scheduler knows it where it does; an old one with its age."""
    if recorded is None or not recorded.fault:
        return gpu.fault
    if age_s < FRESH_S or gpu.fault:
        return recorded.fault
    return f"{recorded.fault} (as the scheduler saw it {format_seconds(round(age_s))} ago)"


def scheduler_sees(home: Home) -> tuple[tuple[GpuSnapshot, ...], float]:
    """Return what the scheduler saw last, and how long ago; nothing where none lives.

    What one knew that has left is over: the next one begins anew.
    """
    look = seen_gpus(home) if scheduler_pid(home) is not None else None
    return ((), 0.0) if look is None else (look.gpus, max(0.0, time.time() - look.at))


def labels_of(home: Home) -> dict[str, str]:
    """Return what people call each GPU, by its UUID."""
    look = seen_gpus(home)
    return {} if look is None else {gpu.uuid: gpu.label for gpu in look.gpus}
