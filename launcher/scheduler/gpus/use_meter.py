"""What this home uses of the machine, decayed; a scheduler that begins finds in the store what was used before."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from launcher.gpu.colleague import HALF_LIFE_S, Use, decayed_span
from launcher.gpu.snapshot import GpuSnapshot
from launcher.store.history_queries import PastUse
from launcher.store.rows import Claim

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
        running = [*claims]
        totals = {gpu.uuid: gpu.total for gpu in gpus if gpu.total} or self._totals
        if self._use is None or (totals and not self._totals):  # the cards' sizes were not known
            self._use, self._at = self._begin(running, totals), self._monotonic()
        now = self._monotonic()
        self._use, self._at = self._use.grown(self._rate, now - self._at), now
        self._totals = totals
        self._rate = sum((_rate_of_claim(claim, totals) for claim in running), Use())
        return self._use

    def _begin(self, running: Sequence[Claim], totals: Mapping[str, int]) -> Use:
        now = self._clock()
        use = Use()
        for past in self._past(now - MEMORY_S, now):
            span_s = past.ended - past.began
            if span_s <= 0:
                continue
            rate = _rate(past.gpus, past.cpus, past.ram, past.reservation, past.exclusive, totals)
            weight = decayed_span(now - past.began, now - past.ended) / span_s
            use += rate.times(weight * past.seconds)
        for claim in running:
            use += _rate_of_claim(claim, totals).times(decayed_span(now - claim.claimed, 0.0))
        self._rate = Use()
        return use


def _rate_of_claim(claim: Claim, totals: Mapping[str, int]) -> Use:
    ram = claim.spec.resources.ram or 0
    return _rate(claim.gpus, claim.cpus, ram, claim.reservation, claim.exclusive, totals)


def _rate(
    gpus: Sequence[str],
    cpus: int,
    ram: int,
    reservation: int | None,
    exclusive: bool,  # as a row has it
    totals: Mapping[str, int],
) -> Use:
    """Return what an attempt uses per second."""
    whole = exclusive or reservation is None
    parts = (
        1.0 if whole or not totals.get(uuid) else min(1.0, (reservation or 0) / totals[uuid])
        for uuid in gpus
    )
    return Use(cards=sum(parts), cores=float(cpus), memory=float(ram))
