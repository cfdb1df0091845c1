"""Usage of the machine by the running attempts of a queue, over time.

Usage decays. A scheduler that starts reads earlier usage from the store.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.jobs.accounts import HALF_LIFE_S, ResourceUsage, decayed_seconds
from launcher.queue.store.rows import Claim
from launcher.queue.store.usage_records import PastUsage
from launcher.system.gpu_sharing import UNKNOWN_FRACTION

USAGE_HISTORY_S = 7 * HALF_LIFE_S  # earlier usage counts less than a hundredth


class UsageAccumulator:
    """Adds up the reservations of the running attempts over time.

    On a shared GPU each job counts with the fraction of memory that it has reserved.
    """

    def __init__(
        self,
        read_past_usage: Callable[[float, float], Sequence[PastUsage]],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """Begin without having counted.

        Args:
            read_past_usage: returns what ended attempts used between two times, in seconds since 1970.
            clock: seconds since 1970; it may be set.
            monotonic: seconds; it never is.
        """
        self._past, self._clock, self._monotonic = read_past_usage, clock, monotonic
        self._usage: ResourceUsage | None = None
        self._at = 0.0
        self._rate = ResourceUsage()
        self._totals: Mapping[str, int] = {}

    def read(self, claims: Iterable[Claim], gpus: Sequence[GpuSnapshot]) -> ResourceUsage:
        """Return what was used until now, and count these attempts from now on."""
        running, now = [*claims], self._monotonic()
        totals = {gpu.uuid: gpu.total for gpu in gpus if gpu.total} or self._totals
        if self._usage is None or (
            totals and not self._totals
        ):  # the sizes of the GPUs were not known
            self._usage = self._initial_usage(running, totals)
        else:
            self._usage = self._usage.accumulate(self._rate, now - self._at)
        self._at, self._totals = now, totals
        self._rate = sum((_usage_rate(claim, totals) for claim in running), ResourceUsage())
        return self._usage

    def _initial_usage(
        self, running_claims: Sequence[Claim], totals: Mapping[str, int]
    ) -> ResourceUsage:
        now, use = self._clock(), ResourceUsage()
        for past in self._past(now - USAGE_HISTORY_S, now):
            span_s = past.ended_at - past.started_at
            if span_s > 0:
                weight = decayed_seconds(now - past.started_at, now - past.ended_at) / span_s
                use += _usage_rate(past, totals).multiply(weight * past.seconds)
        for claim in running_claims:
            use += _usage_rate(claim, totals).multiply(decayed_seconds(now - claim.claimed, 0.0))
        return use


def _usage_rate(attempt: Claim | PastUsage, totals: Mapping[str, int]) -> ResourceUsage:
    """Return what an attempt uses per second."""
    reserved = attempt.vram
    cards = 0.0
    for uuid in attempt.gpus:
        if attempt.exclusive or not totals.get(uuid):
            cards += 1.0
        else:
            part = UNKNOWN_FRACTION if reserved is None else reserved / totals[uuid]
            cards += min(1.0, part)
    ram = attempt.ram if isinstance(attempt, PastUsage) else attempt.spec.resources.ram or 0
    return ResourceUsage(cards=cards, cores=float(attempt.cpus), memory=float(ram))
