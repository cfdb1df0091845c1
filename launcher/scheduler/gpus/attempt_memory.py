"""What one attempt takes of its GPUs' memory: as the driver reports it, and else as its worker does."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from launcher.gpu.snapshot import GpuSnapshot
from launcher.store.rows import Claim
from launcher.workers.job import CONTEXT, Report

LARGEST_CONTEXT = 2 << 30


@dataclass(slots=True)
class AttemptMemory:
    """What one attempt takes on each of its GPUs, in bytes."""

    number: int = 0  # of the attempt
    by_driver: dict[str, int] = field(default_factory=dict)  # bytes by GPU, at the newest look
    reported: dict[str, int] = field(
        default_factory=dict
    )  # by its worker, where the driver does not
    context: int = CONTEXT  # what CUDA takes beside the worker's allocator
    peak: int | None = None
    others: dict[str, int] = field(default_factory=dict)  # what all others took, at the newest look
    before: dict[str, int] = field(default_factory=dict)  # likewise, at the look before

    @property
    def used(self) -> dict[str, int]:
        """What is known of it, by GPU."""
        return self.by_driver | self.reported


def taken_now(
    claim: Claim,
    gpus: Iterable[GpuSnapshot],
    report: Report | None,
    *,
    earlier: AttemptMemory,
    by_driver: dict[str, int],
    unmeasured: Collection[str],
) -> AttemptMemory:
    """Return what an attempt takes now.

    Args:
        claim: the attempt.
        gpus: as the newest look saw them.
        report: of its worker; None: there is none.
        earlier: what was known of it before.
        by_driver: what the driver reports of its processes, in bytes by GPU.
        unmeasured: its GPUs of which the driver does not report that: there its worker's report counts.
    """
    taken = AttemptMemory(number=claim.number, by_driver=by_driver, before=earlier.others)
    if report is not None:
        taken.context = _context(report, max(by_driver.values(), default=None))
        taken.reported = {
            uuid: reserved + taken.context
            for uuid in unmeasured
            if (reserved := _reserved_on(report, uuid, claim)) is not None
        }
    taken.others = {
        gpu.uuid: max(0, gpu.used - taken.used.get(gpu.uuid, 0))
        for gpu in gpus
        if gpu.uuid in claim.gpus and gpu.used is not None
    }
    taken.peak = largest(earlier.peak, *taken.used.values(), peak_of(report, taken.context))
    return taken


def _context(report: Report, used: int | None) -> int:
    """Return what CUDA takes beside the allocator: what the worker knows, else the difference."""
    if report.context is not None:
        return report.context
    if used is None or not report.reserved <= used <= report.reserved + LARGEST_CONTEXT:
        return CONTEXT
    return used - report.reserved


def _reserved_on(report: Report, uuid: str, claim: Claim) -> int | None:
    """Return what a worker reports of a GPU, if it is about that one: it names it, or its job has no other."""
    if uuid in report.cards:
        return report.cards[uuid]
    is_about = report.uuid == uuid or (report.uuid is None and len(claim.gpus) == 1)
    return report.reserved if is_about else None


def peak_of(report: Report | None, context: int) -> int | None:
    """Return the most that a worker's process took by its report, with CUDA's part; None: it does not tell."""
    return None if report is None or not report.peak else report.peak + context


def largest(*amounts: int | None) -> int | None:
    """Return the largest of those that are known; None: none is."""
    return max((amount for amount in amounts if amount is not None), default=None)
