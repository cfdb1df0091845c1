"""Resamples of the images of a table, and percentile intervals of values under them.

Method: bootstrap, stratified by class, in which the copies of an image are drawn together.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.arrays import Counts, Floats, Indices
from trueface.evaluation.estimate import Interval
from trueface.evaluation.metric import Metric
from trueface.evaluation.weighted_scores import CHUNK, ScoreTable, chunks, weight_scores
from trueface.runtime.rng import numpy_rng

RESAMPLES = 1000  # the 2.5 % point of a percentile interval then rests on 25 resamples
COVERAGE = 0.95
LEAST_SEEDS = 3  # seeds of a model that are resampled
KEPT_ROWS = 50_000  # rows of a table whose resamples are kept: sixteen of them are 800 MB


def resamples(keys: Sequence[str], labels: NDArray[np.integer], seed: int = 0) -> Counts:
    """Return how often each row is in each resample: (R, N).

    Args:
        keys: (N,) "<source>/<name>" of the images; rows with one key are drawn together.
        labels: (N,) classes; each is resampled by itself, so none gets lost.
        seed: root seed; the same table has the same resamples.
    """
    build = _cached_resamples if len(keys) <= KEPT_ROWS else _draw_resamples
    return build(tuple(keys), labels.astype(np.int32).tobytes(), seed)


def picture_codes(keys: Sequence[str]) -> tuple[Indices, Indices]:
    """Return the number of the source (N,) and of the image (N,) of each key, from 0 on."""
    sources: dict[str, int] = {}
    pictures: dict[str, int] = {}
    of_source = [sources.setdefault(key.rpartition("/")[0], len(sources)) for key in keys]
    of_picture = [pictures.setdefault(key, len(pictures)) for key in keys]
    return np.array(of_source, np.intp), np.array(of_picture, np.intp)


def percentile_interval(value: float, resamples: Floats) -> Interval:
    """Return the middle 95 % of the resamples of a value; those without a value do not count.

    If nearly every resample is on one side of the value, the interval extends to the value.
    """
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(resamples[np.isfinite(resamples)], [tail, 1 - tail])
    return Interval(min(float(low), value), max(float(high), value))


def resampled_over_seeds(
    spreads: Sequence[Floats], *, stream: str = "seeds", seed: int = 0
) -> Floats:
    """Return the resampled values (R,) of a model that was trained with several seeds: their mean.

    Three seeds or more are drawn with replacement for each resample. The draws are the same for every model
    with as many seeds and one stream, so that differences of two such models are paired. Fewer seeds cannot
    be resampled.

    Args:
        spreads: (R,) of each seed, in the order of the seeds.
        stream: name of the random numbers that draw them.
        seed: root seed.
    """
    values = np.stack(spreads)  # (S, R)
    if len(values) >= LEAST_SEEDS:
        drawn = numpy_rng(stream, seed).integers(0, len(values), values.shape)
        values = np.take_along_axis(values, drawn, axis=0)
    mean: Floats = values.mean(0)
    return mean


def correct_bias(value: float, resamples: Floats) -> Floats:
    """Return `resamples` without its mean distance from `value`, nothing below 0.

    A calibration error is a sum of absolute gaps, and resampling widens every gap: the plain
    interval may be above the value. Source: Efron and Tibshirani 1993, section 10.6.
    """
    shifted: Floats = np.maximum(resamples - (resamples.mean() - value), 0.0)
    return shifted


def _draw_resamples(keys: tuple[str, ...], labels: bytes, seed: int) -> Counts:
    rng = numpy_rng("bootstrap", seed)
    classes = np.frombuffer(labels, np.int32)
    _, picture = picture_codes(keys)
    weights = np.zeros((RESAMPLES, len(keys)), np.uint16)
    for label in np.unique(classes):
        rows = np.flatnonzero(classes == label)
        _, image = np.unique(picture[rows], return_inverse=True)
        weights[:, rows] = _draw(rng, int(image.max()) + 1)[:, image]
    return weights.astype(np.uint8) if weights.max() < 256 else weights


# the models of a run are tested on the same images
_cached_resamples = lru_cache(maxsize=16)(_draw_resamples)


def _draw(rng: np.random.Generator, size: int) -> NDArray[np.uint16]:
    """Return how often each of `size` things is drawn in `size` draws, for each resample."""
    if size == 1:
        return np.ones((RESAMPLES, 1), np.uint16)
    counts = np.empty((RESAMPLES, size), np.uint16)
    for start in range(0, RESAMPLES, CHUNK):  # all at once, 70,000 images would take 560 MB
        drawn = rng.integers(0, size, (CHUNK, size)) + size * np.arange(CHUNK)[:, None]
        counted = np.bincount(drawn.ravel(), minlength=CHUNK * size)
        counts[start : start + CHUNK] = counted.reshape(CHUNK, size)
    return counts


def values_under(
    metrics: Sequence[Metric], table: ScoreTable, weights: Counts, scale: Floats | None = None
) -> dict[str, Floats]:
    """Return each metric under every weighting (R,), by its name; arguments as of `weight_scores`."""
    values: dict[str, list[Floats]] = {metric.name: [] for metric in metrics}
    for scores in weight_scores(table, weights, scale):
        with np.errstate(all="ignore"):  # a resample without a class: NaN; losses of large logits
            for metric in metrics:
                values[metric.name].append(metric.compute(scores))
    return {name: np.concatenate(parts) for name, parts in values.items()}


def means_under(values: NDArray[np.float32], weights: Counts) -> Floats:
    """Return the means (R, M) of values (N, M) under every weighting (R, N)."""
    sums = [(chunk @ values, chunk.sum(1, keepdims=True)) for chunk in chunks(weights)]
    means: Floats = np.concatenate([totals.astype(np.float64) / count for totals, count in sums])
    return means
