"""Differences between models on the same images, with Holm's correction for the number of pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from trueface.evaluation.intervals import Floats, interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The second model's value minus the first one's."""

    first: str
    second: str
    value: float
    low: float  # 95 %, not corrected
    high: float
    p: float  # two-sided, by the paired bootstrap
    p_holm: float
    p_delong: float | None = None  # of the AUC on clean images of one test, corrected by Holm, too


def differences(
    values: Mapping[str, float],
    spreads: Mapping[str, Floats],
    delong: Mapping[tuple[str, str], float] | None = None,
) -> tuple[Difference, ...]:
    """Return the difference of every pair of models.

    Args:
        values: of each model.
        spreads: (R,) of each under the same resamples.
        delong: p of a pair by DeLong's test, where there is one.
    """
    pairs = list(combinations(values, 2))
    made = [_difference(first, second, values, spreads) for first, second in pairs]
    corrected = holm([difference.p for difference in made])
    tested = [pair for pair in pairs if delong and pair in delong]
    by_delong = dict(zip(tested, holm([(delong or {})[pair] for pair in tested]), strict=True))
    return tuple(
        replace(difference, p_holm=p, p_delong=by_delong.get(pair))
        for pair, difference, p in zip(pairs, made, corrected, strict=True)
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number.

    Source: S. Holm, Scandinavian Journal of Statistics 6(2), 1979: the k-th smallest of m is
        multiplied by m - k + 1; none is below the one before it, or above 1.
    """
    count = len(p_values)
    corrected = [1.0] * count
    least = 0.0
    for place, at in enumerate(sorted(range(count), key=lambda at: p_values[at])):
        least = max(least, min(1.0, p_values[at] * (count - place)))
        corrected[at] = least
    return corrected


def _difference(
    first: str, second: str, values: Mapping[str, float], spreads: Mapping[str, Floats]
) -> Difference:
    gap = spreads[second] - spreads[first]
    measure = interval(values[second] - values[first], gap)
    return Difference(
        first=first,
        second=second,
        value=measure.value,
        low=measure.low,
        high=measure.high,
        p=bootstrap_p(gap),
        p_holm=1.0,
    )


def bootstrap_p(gap: Floats) -> float:
    """Return the two-sided p of no difference: twice the smaller share beyond 0, never 0.

    Source: A. Davison and D. Hinkley, "Bootstrap methods and their application", 1997, section 4.4:
        (1 + those beyond) / (1 + all).
    """
    below, above = int(np.sum(gap <= 0)), int(np.sum(gap >= 0))
    return min(1.0, 2 * (1 + min(below, above)) / (1 + len(gap)))
