"""The intervals of a table's metrics over the population that its sources come from."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.bootstrap import Floats, Measure
from trueface.evaluation.bounded_intervals import Scale, at_limit
from trueface.evaluation.metric import Metric, SourceSample
from trueface.evaluation.metric_registry import METRICS
from trueface.evaluation.source_variance import FEW, Design
from trueface.runtime.files import Json

NAMES = ("real", "fake")


def over_sources(
    by_images: Mapping[str, Measure],
    fake: NDArray[np.bool_],
    logits: Floats,
    design: Design,
    left: Mapping[str, Floats],
) -> dict[str, Measure]:
    """Return the metrics of a table with their intervals over sources.

    Args:
        by_images: the metrics, by name, with their intervals over images.
        fake: (N,).
        logits: (N,).
        design: what is left out of the table.
        left: (F,) each metric on what is left.
    """
    measures = {}
    for name, measure in by_images.items():
        metric = METRICS[name]
        sample = SourceSample(
            by_images=measure, fake=fake, logits=logits, design=design, left=left[name]
        )
        measures[name] = metric.source_interval(metric, sample)
    return measures


def opened(metric: Metric, measure: Measure, design: Design) -> Measure:
    """Return a measure; a fraction of 0 or 1 with the interval for so few images."""
    varied = measure.low != measure.high or 0 < measure.value < 1
    if metric.scale is not Scale.SHARE or varied:
        return measure
    counts = [
        stratum.pictures for stratum in design.strata if not metric.of_fakes or stratum.label == 1
    ]
    return at_limit(measure.value, sum(counts) if metric.pooled else min(counts))


def sources_json(sources: Mapping[int, int]) -> dict[str, Json]:
    """Return how many sources each class has, by its name."""
    return {NAMES[label]: count for label, count in sources.items()}


def few_sources(sources: Mapping[int, int]) -> str:
    """Return "3 real sources, 1 fake source (given this source)" of few; "" where all are many."""
    few = [
        f"{count} {NAMES[label]} source{'s' if count > 1 else ' (given this source)'}"
        for label, count in sources.items()
        if count < FEW
    ]
    return ", ".join(few)
