"""Usage of the machine by the running attempts of a queue, over time.

Usage decays. A scheduler that starts reads earlier usage from the store.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from launcher.accounts import HALF_LIFE_S, Use, decayed_span
from launcher.gpu.snapshot import GpuSnapshot
from launcher.store.rows import Claim
from launcher.store.scheduler_actions import PastUse
from launcher.system.gpu_sharing import UNKNOWN_PART

MEMORY_S = 7 * HALF_LIFE_S  # what was used before counts less than a hundredth


class UseMeter:
    """Adds up what the running attempts have reserved, over the time for which they have it.

    Of a card that jobs share each counts with the part of its memory that it has reserved.
    """

    def __init__(
        self,
        past: Callable[[float, float], Sequence[PastUse]],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """Begin without having counted.

        Args:
            past: returns what ended attempts used between two times, in seconds since 1970.
            clock: seconds since 1970; it may be set.
            monotonic: seconds; it never is.
        """
        self._past, self._clock, self._monotonic = past, clock, monotonic
        self._use: Use | None = None
        self._at = 0.0
        self._rate = Use()
        self._totals: Mapping[str, int] = {}

    def read(self, claims: Iterable[Claim], gpus: Sequence[GpuSnapshot]) -> Use:
        """Return what was used until now, and count these attempts from now on."""
        running, now = [*claims], self._monotonic()
        totals = {gpu.uuid: gpu.total for gpu in gpus if gpu.total} or self._totals
        if self._use is None or (totals and not self._totals):  # the cards' sizes were not known
            self._use = self._begin(running, totals)
        else:
            self._use = self._use.grown(self._rate, now - self._at)
        self._at, self._totals = now, totals
        self._rate = sum((_rate_of(claim, totals) for claim in running), Use())
        return self._use

    def _begin(self, running: Sequence[Claim], totals: Mapping[str, int]) -> Use:
        now, use = self._clock(), Use()
        for past in self._past(now - MEMORY_S, now):
            span_s = past.ended - past.began
            if span_s > 0:
                weight = decayed_span(now - past.began, now - past.ended) / span_s
                use += _rate_of(past, totals).times(weight * past.seconds)
        for claim in running:
            use += _rate_of(claim, totals).times(decayed_span(now - claim.claimed, 0.0))
        return use


def _rate_of(attempt: Claim | PastUse, totals: Mapping[str, int]) -> Use:
    """Return what an attempt uses per second."""
    reserved = attempt.reservation
    cards = 0.0
    for uuid in attempt.gpus:
        if attempt.exclusive or not totals.get(uuid):
            cards += 1.0
        else:
            part = UNKNOWN_PART if reserved is None else reserved / totals[uuid]
            cards += min(1.0, part)
    ram = attempt.ram if isinstance(attempt, PastUse) else attempt.spec.resources.ram or 0
    return Use(cards=cards, cores=float(attempt.cpus), memory=float(ram))
