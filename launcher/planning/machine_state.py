"""What a listing shows beside its plan: the machine and its queue now, and what was done before."""

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from launcher.errors import MachineError
from launcher.gpu.monitor import Sight, watch
from launcher.gpu.nvml import Nvml
from launcher.gpu.process_owner import Ours
from launcher.gpu.reservation_files import reservations_folder
from launcher.gpu.reservations import ReservationBoard
from launcher.kind_interface import Kind
from launcher.planning.estimates import History, past_job
from launcher.planning.first_wave import MachineState
from launcher.scheduler.gpus.gpu_accounting import Ledger
from launcher.scheduler.policy.model import Machine
from launcher.store.client import cores_for
from launcher.store.queue import Store
from launcher.store.rows import visible_devices
from launcher.store.usage import NO_USAGE, Usage
from launcher.system import memory
from launcher.system.config import read_configuration
from launcher.system.environment import owners_environment
from launcher.system.gpu_sharing import Rules
from launcher.system.paths import Home

REMEMBERED = 2000  # jobs that ended last; more would take longer to read than they are worth


def read_machine_state(home: Home, store: Store | None, results: Path, now: float) -> MachineState:
    """Look at the machine as a scheduler does; nothing is written.

    Args:
        home: the queue's.
        store: the queue, where there is one.
        results: the folder in which results will lie; it need not be there yet.
        now: the time.
    """
    cpus = cores_for(home)
    claims = store.scheduling.claims() if store else []
    claims = [claim for claim in claims if not claim.pilot]
    usage = store.scheduling.usage if store else _no_usage
    ledger = Ledger(home, Ours())
    absent = ""
    try:
        seen = watch(Nvml().snapshot, None, 1)  # a driver that hangs can be interrupted
    except MachineError as error:
        seen, absent = (), str(error)
    if store:
        store.scheduling.know_machines(gpu.fingerprint for gpu in seen if gpu.total)
    ledger.enter(Sight(gpus=seen, at=time.monotonic()), claims)
    rules = read_configuration(os.environ).rules or Rules()
    machine = Machine(
        cpus=cpus,
        ram=memory.total(),
        ram_free=memory.available(),
        gpus=seen,
        absent=absent,
        limits=store.scheduling.limits() if store else {},
        rules=replace(rules, idle_s=0.0),  # without watching, past users of the GPUs are unknown
        foreign=ReservationBoard(reservations_folder(os.environ), home.folder).others(),
    )
    return MachineState(
        now=now,
        machine=machine,
        running=tuple(ledger.running(claims, usage)),
        ready=tuple(store.scheduling.ready(cpus)) if store else (),
        disk_free=_free_at(results),
        usage=usage,
        visible=visible_devices(owners_environment(os.environ)),
    )


def _no_usage(_: str) -> Usage:
    return NO_USAGE


def read_history(store: Store | None, kinds: Mapping[str, Kind], *, gpus: bool) -> History:
    """Return what was done before by jobs of these kinds."""
    past = store.read.done_lately(REMEMBERED) if store else []
    usage = store.scheduling.usage if store else _no_usage
    jobs = (past_job(*done) for done in past if done[0].kind in kinds)
    return History(jobs, kinds, gpus=gpus, usage=usage)


def _free_at(folder: Path) -> int | None:
    """Return the free bytes of the file system on which a folder is, or will be."""
    there = next((parent for parent in (folder, *folder.parents) if parent.exists()), folder)
    try:
        return shutil.disk_usage(there).free
    except OSError:
        return None
