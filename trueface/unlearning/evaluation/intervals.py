"""The intervals of what is measured of answers: over sources, as those of score tables.

See `trueface.evaluation.intervals`; where no class has several sources, or these do not differ, over other images of these, as
`trueface.evaluation.intervals` has them.
"""

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.intervals import (
    Counts,
    Design,
    Floats,
    Measure,
    Scale,
    by_source,
    chunks,
    design,
    interval,
    resamples,
    standard_error,
    unvaried,
)
from trueface.evaluation.predictions import Answered

Classes = NDArray[np.int64]


def share(part: Answered, holds: NDArray[np.bool_], labels: Classes, value: float) -> Measure:
    """Return the fraction of answers for which `holds` is true, with its 95 % interval.

    Args:
        part: the answers.
        holds: (N,) of each.
        labels: (N,) their right classes.
        value: the fraction.
    """
    hits, of = holds.astype(np.float32)[:, None], designed(part, labels)
    if of.drawn:
        error = standard_error(of, of.means(hits)[:, 0], even=False)
        if error.error > 0:
            return by_source(value, error, Scale.SHARE)
    # also where sources do not differ, as few of them may by chance: images do
    measure = interval(value, resampled_means(hits, resampled(part, labels))[:, 0])
    if measure.low == measure.high:
        return unvaried(value, sum(stratum.pictures for stratum in of.strata))
    return measure


def resampled(part: Answered, labels: Classes) -> Counts:
    """Return how often each row stands in each resample: (R, N); copies of an image together."""
    return resamples(pictures(part), labels, 0)


def designed(part: Answered, labels: Classes) -> Design:
    """Return what is left out of answers in turn: see `uncertainty`."""
    return design(pictures(part), labels, 0)


def pictures(part: Answered) -> tuple[str, ...]:
    """Return what names the picture of each row, the same for its copies in several networks.

    Rows are called "<modifier>:<source>/<name>" where they are of a detector's images, and no
    modifier has a slash; other names are the pictures' own.
    """
    names = part.ids or tuple(map(str, range(len(part))))
    return tuple(
        picture if colon and "/" not in modifier else name
        for name in names
        for modifier, colon, picture in (name.partition(":"),)
    )


def resampled_means(values: NDArray[np.float32], weights: Counts) -> Floats:
    """Return the means (R, M) of values (N, M) in each resample (R, N)."""
    sums = [(chunk @ values, chunk.sum(1, keepdims=True)) for chunk in chunks(weights)]
    means: Floats = np.concatenate([totals.astype(np.float64) / count for totals, count in sums])
    return means
