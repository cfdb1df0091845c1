"""How far a measure would be off with other sources: leave one source out, and Student's t.

A test set is a sample twice: of sources (a generator under one setting, a camera collection: the
folder of an image) and of images of each. What is estimated is the value over the population that
the sources come from. As many images as you like of three sources do not show what a fourth would
do: three are three. A class of one source says nothing of others; for that class the estimate is
of this source, and groups of its images are left out in turn.

Classes keep their fractions of the table: the rest of a class counts for all of it.

Sources: the variance is that of R. Bell and D. McCaffrey, Survey Methodology 28(2), 2002, (CR2,
with degrees of freedom after Satterthwaite), under a working model in which sources differ and the
images of one do not count; values of a source left out: F. Busing, E. Meijer and R. van der
Leeden, Statistics and Computing 9, 1999. Why not a bootstrap: its percentiles of 3 sources hold
the truth in 8 of 10 cases. `python -m benchmarks.coverage` measures how often this one does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from trueface.evaluation.bootstrap import COVERAGE, Floats, picture_codes
from trueface.runtime.rng import numpy_stream

GROUPS = 20  # of images, in a class of one source: t is then 2.09
MOST_SOURCES = (
    50  # left out one by one; more are left out in groups, as t hardly changes from there
)
FEW = 5  # below so many sources a table says how many there are
KEPT_ROWS = 50_000

NOTHING = 1e-12  # a standard error below it is the rounding of equal values

Left = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """A class of a table, and what of it is left out in turn."""

    label: int
    sources: int
    pictures: int  # copies of one count once
    parts: Floats  # (K,) fraction of its rows in each source, or group of images
    share: float  # of the table's rows

    @property
    def drawn(self) -> bool:
        """Whether sources are left out, and not images of the only one."""
        return self.sources > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A table with nothing left out, then without each part of each class: F rows in all."""

    weights: Left  # (F, N) 0 or 1
    places: NDArray[np.intp]  # (N,) which of the classes a row is of
    scale: Floats  # (F, classes) what makes up in each class for the rows left out
    strata: tuple[Stratum, ...]  # one a class, by label

    @property
    def drawn(self) -> bool:
        """Whether any class has several sources."""
        return any(stratum.drawn for stratum in self.strata)

    @property
    def sources(self) -> dict[int, int]:
        """How many sources each class has, by its label."""
        return {stratum.label: stratum.sources for stratum in self.strata}

    def means(self, values: NDArray[np.float32]) -> Floats:
        """Return the means (F, M) of values (N, M) over what is left."""
        total = np.zeros((len(self.weights), values.shape[1]))
        for place in range(len(self.strata)):
            rows = self.places == place
            sums = self.weights[:, rows].astype(np.float32) @ values[rows]
            total += sums.astype(np.float64) * self.scale[:, [place]]
        return total / len(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """A standard error and what Student's t needs."""

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


def design(keys: Sequence[str], labels: NDArray[np.integer], seed: int) -> Design:
    """Return what is left out in turn.

    Args:
        keys: (N,) "<source>/<name>" of the images; rows with one key stand or fall together.
        labels: (N,) classes.
        seed: of the groups of images in a class of one source.
    """
    made = _kept if len(keys) <= KEPT_ROWS else _made
    return made(tuple(keys), labels.astype(np.int32).tobytes(), seed)


def standard_error(
    of: Design, values: Floats, *, even: bool = True, also: tuple[Design, Floats] | None = None
) -> Error:
    """Return the standard error of a measure over the population of sources.

    Args:
        of: what was left out.
        values: (F,) the measure on each row of it; the first is that of the whole table.
        even: classes count alike in the measure; else by their shares, as in an accuracy.
        also: another table, of other images, whose error comes on top: of a difference.
    """
    pieces = _pieces(of, values) + ([] if also is None else _pieces(*also))
    variance = sum(var for _, var, _ in pieces)
    if variance <= NOTHING**2:
        return Error(error=0.0, freedom=1.0)
    if not math.isfinite(variance):
        return Error(error=math.inf, freedom=1.0)
    freedom = variance**2 / sum(var**2 / df for _, var, df in pieces)
    # estimates from two or three sources are small by chance, too, and are then outvoted: half of
    # the word has what is expected where sources of all classes differ alike
    expected = [
        ((1.0 if even else stratum.share) ** 2 * float(np.sum(stratum.parts**2)), df)
        for stratum, var, df in pieces
        if stratum.drawn and var > 0
    ]
    if expected:
        model = sum(size for size, _ in expected) ** 2 / sum(size**2 / df for size, df in expected)
        freedom = 2 / (1 / freedom + 1 / model)
    return Error(error=math.sqrt(variance), freedom=freedom)


def variances(of: Design, values: Floats) -> Floats:
    """Return the variances of several values at once: (F, B) to (B,)."""
    summed: Floats = np.sum([_variance(part, values, at) for part, at in _places(of)], axis=0)
    return summed


def _places(of: Design) -> list[tuple[Stratum, slice]]:
    """Return each class of several parts with the rows of the design that leave one out."""
    placed, at = [], 1
    for stratum in of.strata:
        count = len(stratum.parts)
        if count > 1:
            placed.append((stratum, slice(at, at + count)))
            at += count
    return placed


def _pieces(of: Design, values: Floats) -> list[tuple[Stratum, float, float]]:
    """Return the variance that each class adds, and its degrees of freedom."""
    return [
        (stratum, float(_variance(stratum, values, at)), _freedom(stratum.parts))
        for stratum, at in _places(of)
    ]


def _variance(stratum: Stratum, values: Floats, at: slice) -> Floats:
    parts = stratum.parts
    # how far the value of each part lies from that of all: exact for a mean
    away = np.moveaxis(values[0] - values[at], 0, -1) * (1 - parts) / parts
    away = away - (away @ parts)[..., None]
    summed: Floats = (away**2) @ _factors(parts)
    return summed


def _factors(parts: Floats) -> Floats:
    """Return what makes squared distances an unbiased estimate where only sources differ."""
    factors: Floats = parts**2 / (1 - 2 * parts + np.sum(parts**2))
    return factors


def _freedom(parts: Floats) -> float:
    centred = np.eye(len(parts)) - parts
    form = (centred.T * _factors(parts)) @ centred
    return float(np.trace(form) ** 2 / np.sum(form * form.T))


def _made(keys: tuple[str, ...], labels: bytes, seed: int) -> Design:
    random = numpy_stream("left-out", seed)
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
    return Design(
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
    """Return the part (n,) that each row of a class belongs to, and what they are."""
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


_kept = lru_cache(maxsize=16)(_made)  # the models of a run are tested on the same images
