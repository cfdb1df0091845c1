"""Resampling: how often each image of a score table stands in each of many tables like it.

What is resampled are the images of each class, wherever they come from: the spread tells what other
images of these very sources (folders) would have given. What other sources would have given,
`uncertainty` tells. Copies of an image in several networks have one key and stand or fall together.

Source: percentile interval, B. Efron and R. Tibshirani, "An introduction to the bootstrap", 1993,
chapter 13.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from trueface.runtime.files import Json
from trueface.runtime.rng import numpy_stream

RESAMPLES = 1000  # the 2.5 % point of a percentile interval then rests on 25 resamples
COVERAGE = 0.95
CHUNK = 50  # resamples at a time, a divisor of all; those of 20,000 images fit into a core's cache
LEAST_SEEDS = 3  # of a model, which are resampled
KEPT_ROWS = 50_000  # of a table whose resamples are kept: sixteen of them are 800 MB

Floats = NDArray[np.float64]
Weights = NDArray[np.float32]
Counts = NDArray[np.unsignedinteger]
Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """By how much a model exceeds another, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def word(self) -> str:
        """What it shows: a difference whose interval holds 0 shows nothing."""
        if self.low > 0:
            return "gain"
        return "loss" if self.high < 0 else "no difference shown"

    @property
    def record(self) -> dict[str, Json]:
        """The same as JSON."""
        return {"difference": self.value, "low": self.low, "high": self.high, "word": self.word}


def resamples(keys: Sequence[str], labels: NDArray[np.integer], seed: int) -> Counts:
    """Return how often each row stands in each resample: (R, N).

    Args:
        keys: (N,) "<source>/<name>" of the images; rows with one key are drawn together.
        labels: (N,) classes; each is resampled by itself, so none gets lost.
        seed: root seed; the same table has the same resamples.
    """
    made = _kept if len(keys) <= KEPT_ROWS else _resampled
    return made(tuple(keys), labels.astype(np.int32).tobytes(), seed)


def picture_codes(keys: Sequence[str]) -> tuple[Indices, Indices]:
    """Return the number of the source (N,) and of the picture (N,) of each key, from 0 on."""
    sources: dict[str, int] = {}
    pictures: dict[str, int] = {}
    of_source = [sources.setdefault(key.rpartition("/")[0], len(sources)) for key in keys]
    of_picture = [pictures.setdefault(key, len(pictures)) for key in keys]
    return np.array(of_source, np.intp), np.array(of_picture, np.intp)


def chunks(weights: Counts) -> Iterator[Weights]:
    """Yield the resamples a few at a time, (C, N) float32: what arithmetic is quick with."""
    for start in range(0, len(weights), CHUNK):
        yield weights[start : start + CHUNK].astype(np.float32)


def interval(value: float, resampled: Floats) -> Measure:
    """Return `value` with the middle 95 % of its resamples; those without a value count not.

    Where nearly every resample lies to one side of the value, the interval reaches to the value.
    """
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(resampled[np.isfinite(resampled)], [tail, 1 - tail])
    return Measure(value=float(value), low=min(float(low), value), high=max(float(high), value))


def difference(first: tuple[float, Floats], second: tuple[float, Floats]) -> Difference:
    """Return first minus second, each a value with its resamples (R,): of the same images, paired."""
    measure = interval(first[0] - second[0], first[1] - second[1])
    return Difference(value=measure.value, low=measure.low, high=measure.high)


def over_seeds(spreads: Sequence[Floats], *, seed: int = 0) -> Floats:
    """Return the resampled values (R,) of a model that was trained with several seeds: their mean.

    Three seeds or more are drawn with replacement for each resample, the same ones for every model
    of as many seeds, so that differences of two such models are paired; fewer cannot be resampled.

    Args:
        spreads: (R,) of each seed, in the order of the seeds.
        seed: root seed.
    """
    values = np.stack(spreads)  # (S, R)
    if len(values) >= LEAST_SEEDS:
        drawn = numpy_stream("seeds", seed).integers(0, len(values), values.shape)
        values = np.take_along_axis(values, drawn, axis=0)
    mean: Floats = values.mean(0)
    return mean


def unbiased(value: float, resampled: Floats) -> Floats:
    """Return `resampled` without its mean distance from `value`, nothing below 0.

    A calibration error is a sum of absolute gaps, and resampling widens every gap: the plain
    interval may lie above the value. Source: Efron and Tibshirani 1993, section 10.6.
    """
    shifted: Floats = np.maximum(resampled - (resampled.mean() - value), 0.0)
    return shifted


def _resampled(keys: tuple[str, ...], labels: bytes, seed: int) -> Counts:
    random = numpy_stream("bootstrap", seed)
    classes = np.frombuffer(labels, np.int32)
    _, picture = picture_codes(keys)
    weights = np.zeros((RESAMPLES, len(keys)), np.uint16)
    for label in np.unique(classes):
        rows = np.flatnonzero(classes == label)
        _, image = np.unique(picture[rows], return_inverse=True)
        weights[:, rows] = _draw(random, int(image.max()) + 1)[:, image]
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
