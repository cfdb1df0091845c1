"""What a listing shows beside its plan: the machine and its queue now, and what was done before."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from launcher import ram
from launcher.forecast import History, past_job
from launcher.gpu import Nvml
from launcher.kinds import Kind
from launcher.outlook import Here
from launcher.policy import Machine, Running
from launcher.processes import cores
from launcher.store.store import Store

REMEMBERED = 2000  # jobs that ended last; more would take longer to read than they are worth


def look_around(store: Store | None, results: Path, now: float) -> Here:
    """Look at the machine as a scheduler does; nothing is written.

    Args:
        store: the queue, where there is one.
        results: the folder in which results will lie; it need not be there yet.
        now: the time.
    """
    cpus = cores()
    machine = Machine(
        cpus=cpus,
        ram=ram.total(),
        ram_free=ram.available(),
        gpus=Nvml().snapshot(),
        limits=store.scheduling.limits() if store else {},
    )
    claims = store.scheduling.claims() if store else []
    return Here(
        now=now,
        machine=machine,
        running=tuple(
            Running(
                device=claim.device,
                cpus=claim.cpus,
                ram=claim.spec.resources.ram or 0,
                group=claim.spec.terms.group,
            )
            for claim in claims
        ),
        ready=tuple(store.scheduling.ready(cpus)) if store else (),
        disk_free=_free_at(results),
    )


def remember(store: Store | None, kinds: Mapping[str, Kind], *, gpus: bool) -> History:
    """Return what was done before by jobs of these kinds."""
    past = store.read.done_lately(REMEMBERED) if store else []
    return History((past_job(*one) for one in past if one[0].kind in kinds), kinds, gpus=gpus)


def _free_at(folder: Path) -> int | None:
    """Return the free bytes of the file system on which a folder is, or will be."""
    there = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    try:
        return shutil.disk_usage(there).free
    except OSError:
        return None
