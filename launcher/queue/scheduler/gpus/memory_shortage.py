"""Which job leaves a GPU whose memory runs short: one whose memory is an estimate, so that no other one fails.

Memory that was declared, and what other queues have reserved, counts as taken before it is used. If the jobs with
estimates have grown into it, or use all of a GPU and still grow, the next allocation of somebody would fail. So one of
them is stopped in time: that which loses least. It is queued again, and its next attempt has its GPU for itself.
"""

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from launcher.queue.gpu.resources import ForeignReservation
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.jobs.job import FUNCTION
from launcher.queue.jobs.states import EndCause
from launcher.queue.scheduler.gpus.eviction import Eviction
from launcher.queue.scheduler.gpus.running_place import is_estimated
from launcher.queue.scheduler.gpus.taken_memory import GpuUsageTracker
from launcher.queue.scheduler.policy.gpu_slot import growth_margin_of
from launcher.queue.store.rows import Claim
from launcher.system.units import format_bytes

LONGEST_LOSS_S = 60.0  # seconds; a job that cannot resume is evicted for others only if it has run for at most this long
LASTING_S = 5.0  # seconds; a queue has by then published what its jobs use of their reservations


class LastingReservations:
    """Reservations of other queues on GPUs that were unused for a while.

    A reservation is published before its job uses memory. The usage of the job is published later
    than it is visible to the driver. In between it counts twice: once as used and once as reserved.
    That may delay a start, but evicts no job.
    """

    def __init__(self) -> None:
        """Start without a reading."""
        self._samples: deque[tuple[float, dict[ForeignReservation, int]]] = deque()

    def add_sample(
        self, timestamp: float, foreign: Iterable[ForeignReservation]
    ) -> tuple[ForeignReservation, ...]:
        """Add a reading. Return the lowest reservations of all readings in the last LASTING_S.

        Args:
            timestamp: Time of the reading, monotonic seconds.
            foreign: Unused reservations of others.
        """
        self._samples.append(
            (timestamp, {each._replace(amount=0): each.amount for each in foreign})
        )
        while len(self._samples) > 1 and self._samples[1][0] <= timestamp - LASTING_S:
            self._samples.popleft()
        (first, reserved), *later = self._samples
        if first > timestamp - LASTING_S:
            return ()
        return tuple(
            queue._replace(amount=min(amount, *(look.get(queue, 0) for _, look in later)))
            for queue, amount in reserved.items()
            if all(queue in look for _, look in later)
        )


def can_resume(claim: Claim) -> bool:
    """Return whether the next attempt of a job goes on from what this one has saved, as jobs of laboratories do."""
    return bool(claim.spec.entry) and claim.spec.kind != FUNCTION


class _Occupant(NamedTuple):
    """A job of this queue on a GPU."""

    claim: Claim
    used: int  # bytes there
    ran_s: float
    is_growing: bool

    @property
    def unused_bytes(self) -> int:
        """How many bytes are reserved for the job and not in use."""
        return max(0, (self.claim.vram or 0) - self.used)

    @property
    def can_be_stopped(self) -> bool:
        if not is_estimated(self.claim) or self.claim.spec.terms.rerun == "never":
            return False
        return self.ran_s <= LONGEST_LOSS_S or can_resume(self.claim)


def choose_evictions(
    gpus: Iterable[GpuSnapshot],
    claims: Sequence[Claim],
    usage_tracker: GpuUsageTracker,
    foreign: Iterable[ForeignReservation],
    evicted_jobs: Collection[int],
    *,
    now: float,
) -> dict[int, Eviction]:
    """Return the jobs to evict from GPUs that run short of memory, with reasons.

    Args:
        gpus: GPUs of the newest reading.
        claims: The running attempts.
        usage_tracker: Their usage.
        foreign: Unused reservations of other queues.
        evicted_jobs: Jobs that are already being evicted. Their memory counts as free.
        now: Seconds since 1970.
    """
    reserved: dict[str, int] = {}
    for reservation in foreign:
        reserved[reservation.device] = reserved.get(reservation.device, 0) + reservation.amount
    evicted: dict[int, Eviction] = {}
    for gpu in gpus:
        there = [
            _Occupant(
                claim,
                memory.used.get(gpu.uuid, 0),
                # one that was adopted may be older than it is known
                ran_s=max(growth.age_s, now - claim.claimed),
                is_growing=growth.is_growing,
            )
            for claim in claims
            if gpu.uuid in claim.gpus
            for memory in [usage_tracker.memory_of(claim)]
            if (growth := memory.growth) is not None
        ]
        left = {*evicted_jobs, *evicted}
        evicted |= _choose_eviction(gpu, there, reserved.get(gpu.uuid, 0), left)
    return evicted


def _choose_eviction(
    gpu: GpuSnapshot,
    other_occupants: Sequence[_Occupant],
    reserved_bytes: int,
    evicted_jobs: Collection[int],
) -> dict[int, Eviction]:
    if gpu.used is None or not gpu.total or len(other_occupants) < 1 + (not reserved_bytes):
        return {}
    stay = [each for each in other_occupants if each.claim.job not in evicted_jobs]
    free = gpu.total - gpu.used + sum(each.used for each in other_occupants if each not in stay)
    owed = reserved_bytes + sum(each.unused_bytes for each in stay)
    growing = any(each.is_growing and is_estimated(each.claim) for each in stay)
    lacking = owed - free if owed else growth_margin_of(gpu.total) - free if growing else 0
    able = [each for each in stay if each.can_be_stopped and each.used > 0]
    if lacking <= 0 or sum(each.used for each in able) < lacking:
        return {}
    # the attempt that loses least among those with enough memory, else the one that gives most
    enough = [each for each in able if each.used >= lacking]
    chosen = min(enough, key=_lost_seconds) if enough else max(able, key=lambda each: each.used)
    return {chosen.claim.job: _eviction(gpu, chosen, free, owed)}


def _lost_seconds(occupant: _Occupant) -> float:
    """Return how many seconds of work are lost, as far as it is known."""
    return min(occupant.ran_s, LONGEST_LOSS_S) if can_resume(occupant.claim) else occupant.ran_s


def _eviction(gpu: GpuSnapshot, occupant: _Occupant, free: int, owed_bytes: int) -> Eviction:
    has = f"{gpu.label} had only {format_bytes(max(0, free))} free"
    why = f"{has} for reservations of {format_bytes(owed_bytes)}" if owed_bytes else has
    return Eviction(
        why=f"{why}; stopping this job, which used {format_bytes(occupant.used)}, loses the least work",
        cause=EndCause.GPU_MEMORY,
        vram=occupant.used,
    )
