"""The intervals of a table's measures over the population that its sources come from."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation import operating_point
from trueface.evaluation.bootstrap import Floats, Measure
from trueface.evaluation.source_variance import (
    FEW,
    Design,
    Scale,
    at_limit,
    by_source,
    standard_error,
    variances,
)
from trueface.runtime.files import Json

BY_SHARE = frozenset({"accuracy", "ece", "loss"})  # where a class counts as often as it has images
NAMES = ("real", "fake")
OF_FAKES = frozenset({"recall", "tpr_at_1fpr"})


def over_sources(
    by_images: Mapping[str, Measure],
    fake: NDArray[np.bool_],
    logits: Floats,
    design: Design,
    left: Mapping[str, Floats],
    gaps: Floats,
) -> dict[str, Measure]:
    """Return the measures of a table with their intervals over sources.

    Args:
        by_images: the measures, by name, with their intervals over images.
        fake: (N,).
        logits: (N,).
        design: what is left out of the table.
        left: (F,) each measure on what is left.
        gaps: (F, BINS) those of the calibration error.
    """
    found = {}
    for name, known in by_images.items():
        value = known.value
        if name == "tpr_at_1fpr":
            found[name] = operating_point.bracket(value, fake, logits, design)
            continue
        if name == "ece":
            found[name] = _calibrated(float(value), design, left[name], gaps)
            continue
        error = standard_error(design, left[name], even=name not in BY_SHARE)
        scale = Scale.LOSS if name == "loss" else Scale.SHARE
        found[name] = by_source(float(value), error, scale)
        if name == "eer":
            found[name] = _either(found[name], known)
    return found


def opened(name: str, found: Measure, design: Design) -> Measure:
    """Return a measure; a share of 0 or 1 with what so few images leave open."""
    if name == "loss" or found.low != found.high or 0 < found.value < 1:
        return found
    counts = [one.pictures for one in design.strata if name not in OF_FAKES or one.label == 1]
    return at_limit(found.value, sum(counts) if name in BY_SHARE else min(counts))


def sources_json(sources: Mapping[int, int]) -> dict[str, Json]:
    """Return how many sources each class has, by its name."""
    return {NAMES[label]: count for label, count in sources.items()}


def few_sources(sources: Mapping[int, int]) -> str:
    """Return "3 real sources, 1 fake source (given this source)" of few; "" where all are many."""
    told = [
        f"{count} {NAMES[label]} source{'s' if count > 1 else ' (given this source)'}"
        for label, count in sources.items()
        if count < FEW
    ]
    return ", ".join(told)


def _either(first: Measure, second: Measure) -> Measure:
    """Return a value with all that either interval holds.

    An equal error rate is a step function of its images: with a few images a source, leaving one
    source out moves it by nothing or by a step, which tells too little of its spread.
    """
    low, high = min(first.low, second.low), max(first.high, second.high)
    return Measure(value=first.value, low=low, high=high)


def _calibrated(value: float, design: Design, left: Floats, gaps: Floats) -> Measure:
    """Return a calibration error with its interval over sources: wide rather than narrow.

    It is a sum of absolute gaps, and chance widens every gap. By how much depends on the true gap;
    the low end has it at its most, as of no gap at all: the mean of |noise| in each bin.
    """
    half = standard_error(design, left, even=False).half
    widened = float(np.sqrt(2 * variances(design, gaps) / np.pi).sum())
    return Measure(value=value, low=max(value - widened - half, 0.0), high=min(value + half, 1.0))
