"""The error of leaving one source out at a time, of classes that have several: Student's t.

A source is a folder of images. The videos of one folder are left out in turn if it is the only source of its
class, and otherwise groups of its images.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from trueface.evaluation.arrays import Floats, Indices
from trueface.evaluation.estimate import Interval, Over
from trueface.evaluation.intervals.resampling import (
    COVERAGE,
    KEPT_ROWS,
    picture_codes,
)
from trueface.evaluation.intervals.scales import bounded_interval
from trueface.evaluation.metric import Scale
from trueface.runtime.rng import numpy_rng

GROUPS = 20  # groups of images, in a class of one source: t is then 2.09
MOST_SOURCES = (
    50  # left out one by one; more are left out in groups, as t hardly changes from there
)
LARGE = 2.0**128  # the fourth power of a smaller value is finite, too
LEAST_STANDARD_ERROR = 1e-12  # a standard error below it is the rounding of equal values

Left = NDArray[np.uint8]


class Stratum(NamedTuple):
    """A class of a table, and the parts of it that are left out in turn."""

    label: int
    sources: int
    videos: int
    pictures: int  # copies of one count once
    parts: Floats  # (K,) fraction of its rows in each source, video, or group of images
    share: float  # fraction of the table's rows
    over: Over  # units that are left out

    @property
    def has_several_sources(self) -> bool:
        """Whether sources or videos are left out, and not images of the only source."""
        return self.over is not Over.IMAGES


class JackknifeDesign(NamedTuple):
    """A table with nothing left out, then without each part of each class: F rows in all."""

    weights: Left  # (F, N) 0 or 1
    places: NDArray[np.intp]  # (N,) which of the classes a row is of
    scale: Floats  # (F, classes) what makes up in each class for the rows left out
    strata: tuple[Stratum, ...]  # one a class, by label

    @property
    def has_several_sources(self) -> bool:
        """Whether any class has several sources, or several videos of its only source."""
        return any(stratum.has_several_sources for stratum in self.strata)

    @property
    def sources(self) -> dict[int, int]:
        """How many sources each class has, by its label."""
        return {stratum.label: stratum.sources for stratum in self.strata}

    @property
    def scopes(self) -> dict[int, Over]:
        """What is left out of each class, by its label."""
        return {stratum.label: stratum.over for stratum in self.strata}

    def weighted_means(self, values: NDArray[np.float32]) -> Floats:
        """Return the means (F, M) of values (N, M) over the remaining rows."""
        total = np.zeros((len(self.weights), values.shape[1]))
        for stratum in range(len(self.strata)):
            rows = self.places == stratum
            sums = self.weights[:, rows].astype(np.float32) @ values[rows]
            total += sums.astype(np.float64) * self.scale[:, [stratum]]
        return total / len(values)


class StandardError(NamedTuple):
    """A standard error and its degrees of freedom for Student's t."""

    error: float
    freedom: float  # degrees of

    @property
    def half(self) -> float:
        """Half the width of a 95 % interval."""
        return self.error * float(stdtrit(self.freedom, (1 + COVERAGE) / 2))

    def interval(self, value: float, scale: Scale) -> Interval:
        """Return the 95 % interval of a value, within the limits of its scale."""
        low, high = bounded_interval(value, self.half, scale)
        return Interval(min(low, value), max(high, value))

    def p(self, distance: float) -> float | None:
        """Return the two-sided p of a distance from 0; None where nothing varies."""
        if self.error <= 0:
            return None
        return float(2 * stdtr(self.freedom, -abs(distance) / self.error))


def jackknife_design(
    keys: Sequence[str],
    labels: NDArray[np.integer],
    seed: int = 0,
    videos: Sequence[str] = (),
) -> JackknifeDesign:
    """Return the parts that are left out in turn.

    Args:
        keys: (N,) "<source>/<name>" of the images, "<source>/<video>/<name>" of frames; rows with one key are
            resampled together.
        labels: (N,) classes.
        seed: of the groups of images in a class of one source.
        videos: (N,) video of a frame, "" of no frame. (): no row is a frame.
    """
    build = _cached_designs if len(keys) <= KEPT_ROWS else _build_design
    return build(tuple(keys), labels.astype(np.int32).tobytes(), seed, tuple(map(bool, videos)))


def standard_error(
    design: JackknifeDesign,
    values: Floats,
    *,
    even: bool = True,
    second_sample: tuple[JackknifeDesign, Floats] | None = None,
) -> StandardError:
    """Return the standard error of a measure over the population of sources.

    Args:
        design: rows that were left out together.
        values: (F,) the measure on each row of it; the first is that of the whole table.
        even: classes have equal weights in the measure; otherwise by their shares, as in an accuracy.
        second_sample: another table, of other images, whose error comes on top: of a difference.
    """
    unit = _unit(values, *([] if second_sample is None else [second_sample[1]]))
    pieces = _pieces(design, values / unit)
    pieces += [] if second_sample is None else _pieces(second_sample[0], second_sample[1] / unit)
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


def variances(design: JackknifeDesign, values: Floats) -> Floats:
    """Return the variances of several values at once: (F, B) to (B,)."""
    summed: Floats = np.sum([_variance(part, values, at) for part, at in _places(design)], axis=0)
    return summed


def _places(design: JackknifeDesign) -> list[tuple[Stratum, slice]]:
    """Return each class of several parts with the rows of the design that leave one out."""
    placed, at = [], 1
    for stratum in design.strata:
        count = len(stratum.parts)
        if count > 1:
            placed.append((stratum, slice(at, at + count)))
            at += count
    return placed


def _pieces(design: JackknifeDesign, values: Floats) -> list[tuple[Stratum, float, float]]:
    """Return the variance that each class adds, and its degrees of freedom."""
    return [
        (stratum, float(_variance(stratum, values, at)), _freedom(stratum.parts))
        for stratum, at in _places(design)
    ]


def _variance(stratum: Stratum, values: Floats, replicates: slice) -> Floats:
    parts = stratum.parts
    # distance of the value of each part from that of all: exact for a mean
    away = np.moveaxis(values[0] - values[replicates], 0, -1) * (1 - parts) / parts
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


def _build_design(
    keys: tuple[str, ...], labels: bytes, seed: int, is_frame: tuple[bool, ...]
) -> JackknifeDesign:
    rng = numpy_rng("left-out", seed)
    classes = np.frombuffer(labels, np.int32)
    values, places = np.unique(classes, return_inverse=True)
    strata, left, scales = [], [np.ones((1, len(keys)), np.uint8)], [np.ones((1, len(values)))]
    for position, label in enumerate(values):
        rows = np.flatnonzero(classes == label)
        part, stratum = _stratum(keys, is_frame, rows, rng, label=int(label))
        strata.append(stratum)
        if len(stratum.parts) > 1:
            weights = np.ones((len(stratum.parts), len(keys)), np.uint8)
            weights[part, rows] = 0
            scale = np.ones((len(stratum.parts), len(values)))
            scale[:, position] = 1 / (1 - stratum.parts)
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
    is_frame: Sequence[bool],
    rows: NDArray[np.intp],
    rng: np.random.Generator,
    *,
    label: int,
) -> tuple[NDArray[np.intp], Stratum]:
    """Return the part (n,) that each row of a class belongs to, and the kind of the parts."""
    folder, picture = picture_codes([keys[row] for row in rows])
    frames = [is_frame[row] for row in rows] if is_frame else [False] * len(rows)
    source = _source_codes([keys[row] for row in rows], frames) if any(frames) else folder
    sources, pictures = int(source.max()) + 1, int(picture.max()) + 1
    videos = len(np.unique(folder[frames])) if any(frames) else 0
    over = Over.SOURCES if sources > 1 else Over.VIDEOS if videos > 1 else Over.IMAGES
    if over is Over.IMAGES:
        part = (rng.permutation(pictures) % min(GROUPS, pictures))[picture]
    else:
        part = source if over is Over.SOURCES else folder
        if (count := int(part.max()) + 1) > MOST_SOURCES:
            part = (rng.permutation(count) % MOST_SOURCES)[part]
    stratum = Stratum(
        label=label,
        sources=sources,
        videos=videos,
        pictures=pictures,
        parts=np.bincount(part) / len(rows),
        share=len(rows) / len(keys),
        over=over,
    )
    return part, stratum


def _source_codes(keys: Sequence[str], frames: Sequence[bool]) -> Indices:
    """Return the number of the source of each row; that of a frame is the folder of its video."""
    sources: dict[str, int] = {}
    codes = []
    for key, frame in zip(keys, frames, strict=True):
        folder = key.rpartition("/")[0]
        codes.append(
            sources.setdefault(folder.rpartition("/")[0] if frame else folder, len(sources))
        )
    return np.array(codes, np.intp)


# the models of a run are tested on the same images
_cached_designs = lru_cache(maxsize=16)(_build_design)
