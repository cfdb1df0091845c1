"""GPU memory of a program that runs with other numbers in its command line.

All runs of a sweep share a signature, which leaves the numbers of their command lines out. A seed
does not change the memory, a batch size does, and the user declares neither. The effect is
therefore estimated for each number separately. A value is trusted as far as similar values were
tried:

1. A number makes no difference once runs in which it went further than ever before used the same
   memory. After the first such run the request is the measured peak plus half of it. After the next
   it is the peak plus a quarter. Each run that agrees halves the margin.
2. If all numbers that make a difference are those of earlier runs, the request is the usage of
   these runs.
3. If one of them is between those of two runs that agree in all others, the request is the larger
   usage.
4. If all are within the tried range, and MANY different command lines were tried, the next one
   exceeds all of them with probability 1 / (MANY + 1). It gets the largest usage plus the spread.
5. Otherwise the usage is unknown, and similar jobs decide.

A sweep over seeds or learning rates thus shares its GPUs from the third run on. A sweep over batch
sizes never gets the request of a smaller batch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from launcher.queue.store.usage import NEWEST_PEAKS, AttemptPeak, Numbers, margin_of

DOUBT = 0.5  # fraction of the measured peak that is added after one run that agreed; each further run halves it
MANY = 8  # number of different command lines after which their spread bounds the others
_Values = tuple[float, ...]


class PeakEvidence(NamedTuple):
    """What is known of a program's memory with certain numbers."""

    peaks: tuple[int, ...]  # bytes that runs alike took
    extra_bytes: int = 0  # bytes on top of the largest, for what may differ


@dataclass(slots=True)
class _NumberStatistics:
    """One of the numbers of a command line, over all runs."""

    least: float
    most: float
    seen: set[float]
    agreed: int = 0  # runs in a row that went further than ever before and took as much as before

    @property
    def affects_memory(self) -> bool:
        return self.agreed == 0

    def is_beyond(self, value: float) -> bool:
        return not self.least <= value <= self.most


@lru_cache(maxsize=8192)
def find_evidence(numbers: Numbers, runs: tuple[AttemptPeak, ...]) -> PeakEvidence | None:
    """Return the evidence from runs of a program for one with these numbers, None if there is none.

    Args:
        numbers: Numbers of its command line.
        runs: Measured runs with the same words, the oldest first.
    """
    values = _parse_numbers(numbers)
    known, places = _parse_runs(runs, len(values))
    same = [peak for tried, peak in known if tried == values]
    if same:
        return PeakEvidence(_newest_peaks(same))
    if not known:
        return None
    decisive = [at for at, place in enumerate(places) if place.affects_memory]
    doubts = (
        DOUBT**place.agreed
        for place, value in zip(places, values, strict=True)
        if not place.affects_memory and place.is_beyond(value)
    )
    doubt = max(doubts, default=0.0)
    alike = [peak for tried, peak in known if all(tried[at] == values[at] for at in decisive)]
    alike = alike or _peaks_between(values, known, decisive)
    if alike:
        peaks = _newest_peaks(alike)
        return PeakEvidence(peaks, round(max(peaks) * doubt))
    within = all(not places[at].is_beyond(values[at]) for at in decisive)
    if within and len({tried for tried, _ in known}) >= MANY:
        peaks = tuple(peak for _, peak in known)
        return PeakEvidence(peaks, max(peaks) - min(peaks) + round(max(peaks) * doubt))
    return None


@lru_cache(maxsize=512)
def _parse_runs(
    runs: tuple[AttemptPeak, ...], count: int
) -> tuple[list[tuple[_Values, int]], list[_NumberStatistics]]:
    """Return the runs with this many numbers, as values and peak, and the statistics of each number."""
    listed = [(_parse_numbers(run.numbers), run.peak) for run in runs if run.numbers is not None]
    known = [(values, peak) for values, peak in listed if len(values) == count]
    return known, _number_statistics(known) if known else []


def _number_statistics(known_values: Sequence[tuple[_Values, int]]) -> list[_NumberStatistics]:
    """Return the statistics of each number from the runs, the oldest first.

    A run with values that were never tried is compared with earlier ones that agree in all other
    numbers.
    """
    places = [_NumberStatistics(value, value, {value}) for value in known_values[0][0]]
    for count, (tried, peak) in enumerate(known_values[1:], start=1):
        usual = [at for at, place in enumerate(places) if tried[at] in place.seen]
        before = [
            other
            for values, other in known_values[:count]
            if all(values[at] == tried[at] for at in usual)
        ]
        if before and len(usual) < len(places):
            most = max(before)
            for place, value in zip(places, tried, strict=True):
                if place.is_beyond(value):
                    agrees = abs(peak - most) <= margin_of(most)
                    place.agreed = place.agreed + 1 if agrees else 0
                elif value not in place.seen and peak > most + margin_of(most):
                    place.agreed = 0
        for place, value in zip(places, tried, strict=True):
            place.seen.add(value)
            place.least, place.most = min(place.least, value), max(place.most, value)
    return places


def _peaks_between(
    values: _Values, known_values: Sequence[tuple[_Values, int]], decisive: Iterable[int]
) -> list[int]:
    """Return what runs took that differ in one number only, which lies between theirs."""
    decisive = [*decisive]
    for at in decisive:
        others = [other for other in decisive if other != at]
        line = [
            (tried[at], peak)
            for tried, peak in known_values
            if all(tried[other] == values[other] for other in others)
        ]
        below = [peak for value, peak in line if value < values[at]]
        above = [peak for value, peak in line if value > values[at]]
        if below and above:
            return [*below, *above]
    return []


def _newest_peaks(peaks: Sequence[int]) -> tuple[int, ...]:
    return tuple(peaks[-NEWEST_PEAKS:])


def _parse_numbers(numbers: Numbers) -> _Values:
    return tuple(map(_parse_value, numbers))


def _parse_value(text: str) -> float:
    """Return a number of a command line. An invalid value of a damaged database is beyond all others."""
    try:
        value = float(text)
    except ValueError:
        return float("inf")
    return value if value == value else float("inf")  # NaN is equal to nothing
