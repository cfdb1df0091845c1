"""What a gap is worth: how large it is by chance, and how far it could be off.

Gaps are sums of absolute values or maxima of noisy rates: a detector that treats all groups alike
has gaps above 0, the larger, the smaller the groups. The floor is what remains when the groups are
shuffled among the images of each class: whatever the detector does to a class, it does to all alike.
Shuffles are drawn as tables of counts, which have a multivariate hypergeometric distribution, and not
row by row.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation import bootstrap
from trueface.evaluation.bootstrap import RESAMPLES, Floats, Measure
from trueface.evaluation.fairness.gaps import gaps, spread
from trueface.evaluation.fairness.group_areas import Ranking, dealt_areas
from trueface.evaluation.fairness.group_rates import PERCENT, Counts, Integers
from trueface.runtime.rng import numpy_stream

SHUFFLES = 200
HIGH = 0.95  # the floor: what so many of the shuffles do not exceed
DEALT_ROWS = 100_000  # of all shuffles that are sorted at once
AREA_ROWS = 20_000  # of a table whose AUC gap is shuffled, too: its rows have to be sorted anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """A measure under shuffled groups, in per cent."""

    mean: float
    p95: float


def floors(counts: Counts, *, shuffles: int = SHUFFLES, seed: int = 0) -> Mapping[str, Floor]:
    """Return the floor of each measure of a table that is defined."""
    random = numpy_stream("shuffled groups", seed)
    shuffled = Counts(
        reals=counts.reals,
        fakes=counts.fakes,
        false_positives=_dealt(random, counts.reals, int(counts.false_positives.sum()), shuffles),
        true_positives=_dealt(random, counts.fakes, int(counts.true_positives.sum()), shuffles),
    )
    values = gaps(shuffled)
    return {name: _floor(value) for name, value in values.items() if np.isfinite(value).all()}


def area_floor(
    ranking: Ranking,
    fake: NDArray[np.bool_],
    groups: NDArray[np.integer],
    size: int,
    *,
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> Floor | None:
    """Return the floor of the AUC gap; None where it is undefined, or the table large.

    Arguments as of `group_areas.areas`.
    """
    if len(groups) > AREA_ROWS:
        return None
    random = numpy_stream("shuffled groups of areas", seed)
    values: list[Floats] = []
    tables = max(min(DEALT_ROWS // len(groups), shuffles), 1)
    for start in range(0, shuffles, tables):
        dealt = np.tile(groups, (min(tables, shuffles - start), 1))
        for rows in (np.flatnonzero(~fake), np.flatnonzero(fake)):
            dealt[:, rows] = random.permuted(dealt[:, rows], axis=1)
        values.append(PERCENT * spread(dealt_areas(ranking, fake, dealt, size)))
    every = np.concatenate(values)
    return _floor(every) if np.isfinite(every).all() else None


def intervals(counts: Counts, *, seed: int = 0) -> Mapping[str, Measure]:
    """Return each measure that is defined with its 95 % interval over other images of each cell.

    A percentile bootstrap within group and class. Noise widens gaps: the interval lies rather too
    high, and is no test of a gap against 0; the floor is.
    """
    random = numpy_stream("bootstrap of groups", seed)
    drawn = Counts(
        reals=counts.reals,
        fakes=counts.fakes,
        false_positives=_drawn(random, counts.reals, counts.fpr),
        true_positives=_drawn(random, counts.fakes, counts.tpr),
    )
    spreads = gaps(drawn)
    return {
        name: bootstrap.interval(float(value), spreads[name])
        for name, value in gaps(counts).items()
        if np.isfinite(value)
    }


def _dealt(random: np.random.Generator, sizes: Integers, called: int, shuffles: int) -> Integers:
    """Return how many of so many called fake fall to each group (S, G), groups being shuffled."""
    dealt: Integers = random.multivariate_hypergeometric(sizes, called, shuffles)
    return dealt


def _drawn(random: np.random.Generator, sizes: Integers, rates: Floats) -> Integers:
    drawn: Integers = random.binomial(sizes, np.nan_to_num(rates), (RESAMPLES, len(sizes)))
    return drawn


def _floor(values: Floats) -> Floor:
    return Floor(mean=float(values.mean()), p95=float(np.quantile(values, HIGH)))
