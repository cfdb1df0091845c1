"""What a job asks of GPUs: among others, alone with what was measured, and alone with the least that may do."""

from dataclasses import dataclass, replace

from launcher.scheduler.policy.co_location import UNKNOWN_LOAD, Load
from launcher.scheduler.policy.model import Waiting


@dataclass(frozen=True, slots=True)
class Need:
    """What a job asks of each of its GPUs, and which GPUs it may have."""

    count: int
    vram_request: int | None  # bytes; None: unknown
    exclusive: bool
    device: str  # "auto", "cuda", "cuda:N" or "cuda:N:M"
    visible: tuple[str, ...] | None
    excludes_others: bool = False  # other users' jobs share them neither
    into_reserve: bool = False  # it may take of what is kept for others
    load: Load = UNKNOWN_LOAD  # what it does to a card, and what others there do to it


def need_of(job: Waiting) -> Need:
    """Return what a waiting job asks of GPUs."""
    asked = job.resources
    return Need(
        max(1, asked.gpus),
        job.vram_request,
        job.exclusive,
        asked.device,
        job.visible,
        asked.exclusive,
        load=job.demand,
    )


def need_alone(job: Waiting) -> Need | None:
    """Return what a job can do with on GPUs that are otherwise unused; None: not with less than its request.

    A request is what was measured and a margin, and the driver keeps some memory of an idle GPU: a job that
    nearly fills one would wait for the margin for ever. As for a job of which nothing is known, the
    reserve is not kept from it, or what it took there before would not be free.
    """
    if job.vram_request is None or job.enough is None:
        return None
    return replace(need_of(job), vram_request=job.enough, exclusive=True, into_reserve=True)


def need_at_least(job: Waiting) -> Need:
    """Return with what a job is tried alone where no unused GPU has what those like it took.

    What was measured elsewhere, or when less was in use, proves nothing about this machine.
    """
    return replace(need_of(job), vram_request=job.least, exclusive=True, into_reserve=True)
