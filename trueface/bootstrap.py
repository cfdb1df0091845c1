"""Resampling: how often each row of a score table stands in each of many tables like it.

A test set is a sample twice: of sources (a generator under one setting, a camera collection: the
folder of an image) and of images of each. Both are resampled. A model may like one source and
dislike another for no reason but the chance of its training; as many images as you like of two
sources do not show that it tells fakes from reals. Copies of an image in several networks have
one key and stand or fall together.

Sources: percentile interval, B. Efron and R. Tibshirani, "An introduction to the bootstrap", 1993,
chapter 13; two stages, A. Davison and D. Hinkley, "Bootstrap methods and their application", 1997,
section 3.8, with the product of both stages' weights as in A. Owen and D. Eckles, arXiv 1106.2125,
which they show to be wide rather than narrow. With one source a class, images alone are resampled:
nothing then tells how sources differ.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from trueface.streams import numpy_stream

RESAMPLES = 1000  # the 2.5 % point of a percentile interval then rests on 25 resamples
COVERAGE = 0.95
CHUNK = 50  # resamples at a time, a divisor of all; those of 20,000 images fit into a core's cache
KEPT_ROWS = 50_000  # of a table whose resamples are kept: sixteen of them are 800 MB

Floats = NDArray[np.float64]
Weights = NDArray[np.float32]
Counts = NDArray[np.unsignedinteger]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def resamples(keys: tuple[str, ...], labels: bytes, seed: int) -> Counts:
    """Return how often each row stands in each resample: (R, N).

    Args:
        keys: (N,) "<source>/<name>" of the images; rows with one key are drawn together.
        labels: (N,) of int8, as bytes; each class is resampled by itself, so none gets lost.
        seed: root seed; the same table has the same resamples.
    """
    return (_kept if len(keys) <= KEPT_ROWS else _resampled)(keys, labels, seed)


def chunks(weights: Counts) -> Iterator[Weights]:
    """Yield the resamples a few at a time, (C, N) float32: what arithmetic is quick with."""
    for start in range(0, len(weights), CHUNK):
        yield weights[start : start + CHUNK].astype(np.float32)


def interval(value: float, resampled: Floats) -> Measure:
    """Return `value` with the middle 95 % of its resamples; those without a value count not."""
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(resampled[np.isfinite(resampled)], [tail, 1 - tail])
    return Measure(value=float(value), low=float(low), high=float(high))


def unbiased(value: float, resampled: Floats) -> Floats:
    """Return `resampled` without its mean distance from `value`, nothing below 0.

    A calibration error is a sum of absolute gaps, and resampling widens every gap: the plain
    interval may lie above the value. Source: Efron and Tibshirani 1993, section 10.6.
    """
    shifted: Floats = np.maximum(resampled - (resampled.mean() - value), 0.0)
    return shifted


def _resampled(keys: tuple[str, ...], labels: bytes, seed: int) -> Counts:
    random = numpy_stream("bootstrap", seed)
    classes = np.frombuffer(labels, np.int8)
    sources = np.array([key.rpartition("/")[0] for key in keys])
    images = np.array(keys)
    weights = np.zeros((RESAMPLES, len(keys)), np.uint16)
    for label in np.unique(classes):
        of_class = np.flatnonzero(classes == label)
        names, which = np.unique(sources[of_class], return_inverse=True)
        times = _draw(random, len(names))  # (R, sources of this class)
        for number in range(len(names)):
            rows = of_class[which == number]
            _, image = np.unique(images[rows], return_inverse=True)
            drawn = _draw(random, int(image.max()) + 1)
            weights[:, rows] = times[:, [number]] * drawn[:, image]
    return weights.astype(np.uint8) if weights.max() < 256 else weights


_kept = lru_cache(maxsize=16)(_resampled)  # the models of a run are tested on the same images


def _draw(random: np.random.Generator, size: int) -> NDArray[np.uint16]:
    """Return how often each of `size` things is drawn in `size` draws, for each resample."""
    if size == 1:
        return np.ones((RESAMPLES, 1), np.uint16)
    counts = np.empty((RESAMPLES, size), np.uint16)
    for start in range(0, RESAMPLES, CHUNK):  # all at once, 70,000 images would take 560 MB
        drawn = random.integers(0, size, (CHUNK, size)) + size * np.arange(CHUNK)[:, None]
        counted = np.bincount(drawn.ravel(), minlength=CHUNK * size)
        counts[start : start + CHUNK] = counted.reshape(CHUNK, size)
    return counts
