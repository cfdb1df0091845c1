"""Why a running job has to leave its GPU."""

from collections.abc import Iterable
from typing import NamedTuple

from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.jobs.states import EndCause
from launcher.queue.store.rows import Claim


class Eviction(NamedTuple):
    """Why a running job has to leave its GPU."""

    why: str
    cause: EndCause = EndCause.GPU_FAULT
    vram: int | None = None  # bytes of each GPU that the job's next attempt gets


def jobs_on_failed_gpus(
    claims: Iterable[Claim], gpus: Iterable[GpuSnapshot]
) -> dict[int, Eviction]:
    """Return the jobs of which a GPU has failed, and why: they are ended, and run again elsewhere."""
    faults = {gpu.uuid: f"{gpu.label} {gpu.fault}" for gpu in gpus if gpu.fault}
    failed = ((claim.job, [uuid for uuid in claim.gpus if uuid in faults]) for claim in claims)
    return {job: Eviction(faults[uuids[0]]) for job, uuids in failed if uuids}
