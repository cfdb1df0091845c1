"""GPUs that have failed, here and on the nodes of pilots: of which of them is nobody told yet."""

from collections.abc import Iterable, Mapping, Sequence

from launcher.gpu.snapshot import GpuSnapshot
from launcher.job_options.notifications import Event
from launcher.notify.state import Note
from launcher.store.news import PilotFault

MOST_KEPT = 200  # faults of pilots, which never work again


def faults_noted(
    before: Mapping[str, str], gpus: Sequence[GpuSnapshot], at: float
) -> tuple[dict[str, str], list[Note]]:
    """Return which GPUs have failed, and of which of them nobody was told yet.

    Args:
        before: UUID → fault, of those that had failed before.
        gpus: as they are now; one that is not listed is as it was.
        at: seconds since 1970.
    """
    listed = {gpu.uuid for gpu in gpus}
    faults = {uuid: fault for uuid, fault in before.items() if uuid not in listed}
    faults |= {gpu.uuid: gpu.fault for gpu in gpus if gpu.fault}
    notes = [
        Note(
            events=(Event.GPU_FAILED,),
            at=at,
            text=f"{gpu.label} ({gpu.name}) has failed: {gpu.fault}\n  launcher gpus; launcher doctor",
            name=gpu.label,
        )
        for gpu in gpus
        if gpu.fault and gpu.uuid not in before
    ]
    return faults, notes


def pilot_faults_noted(
    before: Mapping[str, str], faults: Iterable[PilotFault], nodes: Mapping[str, str]
) -> tuple[dict[str, str], list[Note]]:
    """Return which GPUs of pilots have failed, and of which of them nobody was told yet.

    Args:
        before: what is known of all GPUs, as `faults_noted` has it.
        faults: for which attempts had to end.
        nodes: token of a pilot → the node where it is, as far as that is known.
    """
    known, notes = dict(before), []
    for fault in faults:
        key = f"{fault.pilot} {fault.fault}"
        if key in known:
            continue
        known[key] = fault.fault
        where = nodes.get(fault.pilot) or f"pilot {fault.pilot}"
        text = (
            f"{where}: {fault.fault}\n  {fault.name} (job {fault.job}) had to end; launcher doctor"
        )
        notes.append(Note(events=(Event.GPU_FAILED,), at=fault.at, text=text, name=where))
    return dict([*known.items()][-MOST_KEPT:]), notes
