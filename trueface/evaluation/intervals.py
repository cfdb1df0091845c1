"""Confidence intervals: resamples of images and of sources, errors by source, and limits of bounded measures.

The functions name their sources. Methods: percentile bootstrap stratified by image, linearized variance
over clusters of images, and intervals on a scale that a measure cannot leave.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr, stdtrit

from trueface.runtime.files import Json
from trueface.runtime.rng import numpy_rng

RESAMPLES = 1000  # the 2.5 % point of a percentile interval then rests on 25 resamples
COVERAGE = 0.95
CHUNK = 50  # resamples at a time, a divisor of all; those of 20,000 images fit into a core's cache
SIZE = 200_000  # weights at a time, where rows are few: arrays are then worth their calls
LEAST_SEEDS = 3  # of a model, which are resampled
KEPT_ROWS = 50_000  # of a table whose resamples are kept: sixteen of them are 800 MB

Floats = NDArray[np.float64]
Resampled = tuple[float, Floats]  # a value, and the same of each resample (R,)
Weights = NDArray[np.float32]
Counts = NDArray[np.unsignedinteger]
Indices = NDArray[np.intp]
GROUPS = 20  # of images, in a class of one source: t is then 2.09
MOST_SOURCES = (
    50  # left out one by one; more are left out in groups, as t hardly changes from there
)
FEW = 5  # below so many sources a table says how many there are

LARGE = 2.0**128  # the fourth power of a smaller value is finite, too
LEAST_STANDARD_ERROR = 1e-12  # a standard error below it is the rounding of equal values

Left = NDArray[np.uint8]
STEEPEST = 50.0  # on a logit or log scale: beyond it the end is the limit


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalEstimate:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """By how much a model exceeds another, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def word(self) -> str:
        """The conclusion: a difference whose interval contains 0 shows nothing."""
        if self.low > 0:
            return "gain"
        return "loss" if self.high < 0 else "no difference shown"

    @property
    def json_record(self) -> dict[str, Json]:
        """The same as JSON."""
        return {"difference": self.value, "low": self.low, "high": self.high, "word": self.word}


def interval_fields(name: str, measure: IntervalEstimate | None) -> dict[str, Json]:
    """Return a measure as fields of a record, `<name>`, `<name>_low`, `<name>_high`; null where there is none."""
    values = (None,) * 3 if measure is None else (measure.value, measure.low, measure.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def resamples(keys: Sequence[str], labels: NDArray[np.integer], seed: int = 0) -> Counts:
    """Return how often each row is in each resample: (R, N).

    Args:
        keys: (N,) "<source>/<name>" of the images; rows with one key are drawn together.
        labels: (N,) classes; each is resampled by itself, so none gets lost.
        seed: root seed; the same table has the same resamples.
    """
    made = _cached_resamples if len(keys) <= KEPT_ROWS else _resampled
    return made(tuple(keys), labels.astype(np.int32).tobytes(), seed)


def picture_codes(keys: Sequence[str]) -> tuple[Indices, Indices]:
    """Return the number of the source (N,) and of the image (N,) of each key, from 0 on."""
    sources: dict[str, int] = {}
    pictures: dict[str, int] = {}
    of_source = [sources.setdefault(key.rpartition("/")[0], len(sources)) for key in keys]
    of_picture = [pictures.setdefault(key, len(pictures)) for key in keys]
    return np.array(of_source, np.intp), np.array(of_picture, np.intp)


def chunks(weights: Counts, count: int = CHUNK) -> Iterator[Weights]:
    """Yield the resamples in chunks, (C, N) float32, for fast arithmetic."""
    for start in range(0, len(weights), count):
        yield weights[start : start + count].astype(np.float32)


def at_a_time(rows: int) -> int:
    """Return how many resamples of a table of so many rows are quickest together."""
    return max(SIZE // max(rows, 1) // CHUNK, 1) * CHUNK


def interval(value: float, resampled: Floats) -> IntervalEstimate:
    """Return `value` with the middle 95 % of its resamples; those without a value count not.

    If nearly every resample is on one side of the value, the interval extends to the value.
    """
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(resampled[np.isfinite(resampled)], [tail, 1 - tail])
    return IntervalEstimate(
        value=float(value), low=min(float(low), value), high=max(float(high), value)
    )


def difference(first: Resampled, second: Resampled) -> Difference:
    """Return first minus second, each a value with its resamples (R,): of the same images, paired."""
    measure = interval(first[0] - second[0], first[1] - second[1])
    return Difference(value=measure.value, low=measure.low, high=measure.high)


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


def mean_over_seeds(seeds: Sequence[Resampled]) -> Resampled:
    """Return the mean of a measure over seeds, each a value with its resamples (R,)."""
    values, spreads = zip(*seeds, strict=True)
    return float(np.mean(values)), resampled_over_seeds(spreads)


def correct_bias(value: float, resampled: Floats) -> Floats:
    """Return `resampled` without its mean distance from `value`, nothing below 0.

    A calibration error is a sum of absolute gaps, and resampling widens every gap: the plain
    interval may be above the value. Source: Efron and Tibshirani 1993, section 10.6.
    """
    shifted: Floats = np.maximum(resampled - (resampled.mean() - value), 0.0)
    return shifted


def _resampled(keys: tuple[str, ...], labels: bytes, seed: int) -> Counts:
    random = numpy_rng("bootstrap", seed)
    classes = np.frombuffer(labels, np.int32)
    _, picture = picture_codes(keys)
    weights = np.zeros((RESAMPLES, len(keys)), np.uint16)
    for label in np.unique(classes):
        rows = np.flatnonzero(classes == label)
        _, image = np.unique(picture[rows], return_inverse=True)
        weights[:, rows] = _draw(random, int(image.max()) + 1)[:, image]
    return weights.astype(np.uint8) if weights.max() < 256 else weights


# the models of a run are tested on the same images
_cached_resamples = lru_cache(maxsize=16)(_resampled)


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


class Stratum(NamedTuple):
    """A class of a table, and the parts of it that are left out in turn."""

    label: int
    sources: int
    pictures: int  # copies of one count once
    parts: Floats  # (K,) fraction of its rows in each source, or group of images
    share: float  # of the table's rows

    @property
    def has_several_sources(self) -> bool:
        """Whether sources are left out, and not images of the only one."""
        return self.sources > 1


class JackknifeDesign(NamedTuple):
    """A table with nothing left out, then without each part of each class: F rows in all."""

    weights: Left  # (F, N) 0 or 1
    places: NDArray[np.intp]  # (N,) which of the classes a row is of
    scale: Floats  # (F, classes) what makes up in each class for the rows left out
    strata: tuple[Stratum, ...]  # one a class, by label

    @property
    def has_several_sources(self) -> bool:
        """Whether any class has several sources."""
        return any(stratum.has_several_sources for stratum in self.strata)

    @property
    def sources(self) -> dict[int, int]:
        """How many sources each class has, by its label."""
        return {stratum.label: stratum.sources for stratum in self.strata}

    def weighted_means(self, values: NDArray[np.float32]) -> Floats:
        """Return the means (F, M) of values (N, M) over the remaining rows."""
        total = np.zeros((len(self.weights), values.shape[1]))
        for place in range(len(self.strata)):
            rows = self.places == place
            sums = self.weights[:, rows].astype(np.float32) @ values[rows]
            total += sums.astype(np.float64) * self.scale[:, [place]]
        return total / len(values)


class StandardError(NamedTuple):
    """A standard error and its degrees of freedom for Student's t."""

    error: float
    freedom: float  # degrees of

    @property
    def half(self) -> float:
        """Half the width of a 95 % interval."""
        return self.error * float(stdtrit(self.freedom, (1 + COVERAGE) / 2))

    def p(self, distance: float) -> float | None:
        """Return the two-sided p of a distance from 0; None where nothing varies."""
        if self.error <= 0:
            return None
        return float(2 * stdtr(self.freedom, -abs(distance) / self.error))


def jackknife_design(
    keys: Sequence[str], labels: NDArray[np.integer], seed: int = 0
) -> JackknifeDesign:
    """Return the parts that are left out in turn.

    Args:
        keys: (N,) "<source>/<name>" of the images; rows with one key are resampled together.
        labels: (N,) classes.
        seed: of the groups of images in a class of one source.
    """
    made = _cached_designs if len(keys) <= KEPT_ROWS else _build_design
    return made(tuple(keys), labels.astype(np.int32).tobytes(), seed)


def standard_error(
    of: JackknifeDesign,
    values: Floats,
    *,
    even: bool = True,
    also: tuple[JackknifeDesign, Floats] | None = None,
) -> StandardError:
    """Return the standard error of a measure over the population of sources.

    Args:
        of: what was left out.
        values: (F,) the measure on each row of it; the first is that of the whole table.
        even: classes have equal weights in the measure; otherwise by their shares, as in an accuracy.
        also: another table, of other images, whose error comes on top: of a difference.
    """
    unit = _unit(values, *([] if also is None else [also[1]]))
    pieces = _pieces(of, values / unit)
    pieces += [] if also is None else _pieces(also[0], also[1] / unit)
    variance = sum(var for _, var, _ in pieces)
    if variance <= LEAST_STANDARD_ERROR**2:
        return StandardError(error=0.0, freedom=1.0)
    if not math.isfinite(variance):
        return StandardError(error=math.inf, freedom=1.0)
    freedom = variance**2 / sum(var**2 / df for _, var, df in pieces)
    # Estimates from two or three sources may be small by chance, and then have little weight. The degrees
    # of freedom are therefore averaged with those expected if sources of all classes differ equally.
    expected = [
        ((1.0 if even else stratum.share) ** 2 * float(np.sum(stratum.parts**2)), df)
        for stratum, var, df in pieces
        if stratum.has_several_sources and var > 0
    ]
    if expected:
        model = sum(size for size, _ in expected) ** 2 / sum(size**2 / df for size, df in expected)
        freedom = 2 / (1 / freedom + 1 / model)
    return StandardError(error=math.sqrt(variance) * unit, freedom=freedom)


def _unit(*values: Floats) -> float:
    """Return 1, or a power of two by which values are divided so that their squares are finite."""
    largest = max(float(np.abs(each[np.isfinite(each)]).max(initial=0.0)) for each in values)
    return 1.0 if largest < LARGE else 2.0 ** (math.frexp(largest)[1] - 1)


def variances(of: JackknifeDesign, values: Floats) -> Floats:
    """Return the variances of several values at once: (F, B) to (B,)."""
    summed: Floats = np.sum([_variance(part, values, at) for part, at in _places(of)], axis=0)
    return summed


def _places(of: JackknifeDesign) -> list[tuple[Stratum, slice]]:
    """Return each class of several parts with the rows of the design that leave one out."""
    placed, at = [], 1
    for stratum in of.strata:
        count = len(stratum.parts)
        if count > 1:
            placed.append((stratum, slice(at, at + count)))
            at += count
    return placed


def _pieces(of: JackknifeDesign, values: Floats) -> list[tuple[Stratum, float, float]]:
    """Return the variance that each class adds, and its degrees of freedom."""
    return [
        (stratum, float(_variance(stratum, values, at)), _freedom(stratum.parts))
        for stratum, at in _places(of)
    ]


def _variance(stratum: Stratum, values: Floats, at: slice) -> Floats:
    parts = stratum.parts
    # distance of the value of each part from that of all: exact for a mean
    away = np.moveaxis(values[0] - values[at], 0, -1) * (1 - parts) / parts
    away = away - (away @ parts)[..., None]
    summed: Floats = (away**2) @ _factors(parts)
    return summed


def _factors(parts: Floats) -> Floats:
    """Return the factors that make squared distances an unbiased estimate if only sources differ."""
    factors: Floats = parts**2 / (1 - 2 * parts + np.sum(parts**2))
    return factors


def _freedom(parts: Floats) -> float:
    centred = np.eye(len(parts)) - parts
    form = (centred.T * _factors(parts)) @ centred
    return float(np.trace(form) ** 2 / np.sum(form * form.T))


def _build_design(keys: tuple[str, ...], labels: bytes, seed: int) -> JackknifeDesign:
    random = numpy_rng("left-out", seed)
    classes = np.frombuffer(labels, np.int32)
    values, places = np.unique(classes, return_inverse=True)
    strata, left, scales = [], [np.ones((1, len(keys)), np.uint8)], [np.ones((1, len(values)))]
    for place, label in enumerate(values):
        rows = np.flatnonzero(classes == label)
        part, stratum = _stratum(keys, rows, random, label=int(label), rows_in_all=len(keys))
        strata.append(stratum)
        if len(stratum.parts) > 1:
            weights = np.ones((len(stratum.parts), len(keys)), np.uint8)
            weights[part, rows] = 0
            scale = np.ones((len(stratum.parts), len(values)))
            scale[:, place] = 1 / (1 - stratum.parts)
            left.append(weights)
            scales.append(scale)
    return JackknifeDesign(
        weights=np.concatenate(left),
        places=places.astype(np.intp),
        scale=np.concatenate(scales),
        strata=tuple(strata),
    )


def _stratum(
    keys: Sequence[str],
    rows: NDArray[np.intp],
    random: np.random.Generator,
    *,
    label: int,
    rows_in_all: int,
) -> tuple[NDArray[np.intp], Stratum]:
    """Return the part (n,) that each row of a class belongs to, and the kind of the parts."""
    source, picture = picture_codes([keys[row] for row in rows])
    sources, pictures = int(source.max()) + 1, int(picture.max()) + 1
    if sources == 1:
        part = (random.permutation(pictures) % min(GROUPS, pictures))[picture]
    elif sources > MOST_SOURCES:
        part = (random.permutation(sources) % MOST_SOURCES)[source]
    else:
        part = source
    stratum = Stratum(
        label=label,
        sources=sources,
        pictures=pictures,
        parts=np.bincount(part) / len(rows),
        share=len(rows) / rows_in_all,
    )
    return part, stratum


# the models of a run are tested on the same images
_cached_designs = lru_cache(maxsize=16)(_build_design)


class Scale(StrEnum):
    """The limits of a measure, and the scale on which its error is symmetric."""

    SHARE = "share"  # 0 … 1: logit
    LOSS = "loss"  # from 0 on: logarithm
    SHIFT = "shift"  # of fractions, -1 … 1: the inverse of the hyperbolic tangent
    PLAIN = "plain"


def interval_from_error(value: float, error: StandardError, scale: Scale) -> IntervalEstimate:
    """Return a value with its 95 % interval, within the limits of its scale."""
    low, high = ci_bounds(value, error.half, scale)
    return IntervalEstimate(value=value, low=min(low, value), high=max(high, value))


def ci_bounds(value: float, half: float, scale: Scale) -> tuple[float, float]:
    """Return both ends of an interval whose half width was `half` on the plain scale."""
    if half == 0:
        return value, value
    match scale:
        case Scale.PLAIN:
            return value - half, value + half
        case Scale.LOSS:
            if value <= 0:
                return 0.0, half
            factor = math.exp(min(half / value, STEEPEST))
            return value / factor, min(value * factor, sys.float_info.max)
        case Scale.SHARE | Scale.SHIFT:
            # map a shift in -1 … 1 to a fraction of its range
            share, width = (value, half) if scale is Scale.SHARE else ((value + 1) / 2, half / 2)
            steep = share * (1 - share)
            if steep <= 0:
                low_high = max(share - width, 0.0), min(share + width, 1.0)
            else:
                middle, move = math.log(share / (1 - share)), min(width / steep, STEEPEST)
                low_high = _share(middle - move), _share(middle + move)
            return low_high if scale is Scale.SHARE else (2 * low_high[0] - 1, 2 * low_high[1] - 1)


def clopper_pearson(value: float, pictures: int) -> IntervalEstimate:
    """Return a fraction of 0 or 1 that did not vary, with the Clopper-Pearson interval.

    Source: C. Clopper and E. Pearson, Biometrika 26(4), 1934: no error on n images.
    """
    open_ = 1 - ((1 - COVERAGE) / 2) ** (1 / max(pictures, 1))
    return IntervalEstimate(
        value=value, low=1 - open_ if value >= 1 else 0.0, high=1.0 if value >= 1 else open_
    )


def interval_of_constant(value: float, pictures: int) -> IntervalEstimate:
    """Return a fraction whose resamples are all equal, with the interval for so few images.

    Between 0 and 1 it is that of `wilson`, otherwise that of `clopper_pearson`.
    """
    return clopper_pearson(value, pictures) if value <= 0 or value >= 1 else wilson(value, pictures)


def interval_of_fraction(value: float, resampled: Floats, pictures: int) -> IntervalEstimate:
    """Return a fraction with the interval of its resamples (R,), or `interval_of_constant` if these are equal."""
    measure = interval(value, resampled)
    return interval_of_constant(value, pictures) if measure.low == measure.high else measure


def wilson(value: float, pictures: int) -> IntervalEstimate:
    """Return a fraction of independent images with its 95 % interval.

    Source: E. Wilson, Journal of the American Statistical Association 22(158), 1927.
    """
    low, high = wilson_bounds(np.array(value), np.array(max(pictures, 1)))
    return IntervalEstimate(value=value, low=float(low), high=float(high))


def wilson_bounds(shares: Floats, images: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return both ends of `wilson` of shares of so many images each, of any shape; NaN of none."""
    wide = float(ndtri((1 + COVERAGE) / 2)) ** 2
    middle = (images * shares + wide / 2) / (images + wide)
    half = np.sqrt(wide * (images * shares * (1 - shares) + wide / 4)) / (images + wide)
    # the ends of shares of 0 and 1 are these, up to rounding
    return np.fmin(np.maximum(middle - half, 0.0), shares), np.fmax(
        np.minimum(middle + half, 1.0), shares
    )


def area_interval(area: float, reals: int, fakes: int) -> IntervalEstimate:
    """Return an AUC of so many images of each class with its 95 % interval.

    Source: J. Hanley and B. McNeil, Radiology 143(1), 1982, equation 2; the ends are taken on the
    logit scale, which keeps them within 0 … 1.
    """
    both, other = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (fakes - 1) * (both - area**2) + (reals - 1) * (other - area**2)
    error = math.sqrt(max(spread, 0.0) / (reals * fakes))
    if error == 0:  # without a wrong pair there is no spread: as of one pair in as many images
        error = 1 / (reals + fakes)
    low, high = ci_bounds(area, float(ndtri((1 + COVERAGE) / 2)) * error, Scale.SHARE)
    return IntervalEstimate(value=area, low=min(low, area), high=max(high, area))


def _share(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
