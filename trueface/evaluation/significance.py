"""Tests of two models on the same images: is one better, or did chance make the difference?

Both tests assume independent images, and apply to the tested sources. Copies of one image under several
modifiers are not independent. Images of one source are not independent if the question is about other
sources. For these see the test by source in `compare`.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.arrays import Floats
from trueface.evaluation.curves import Labels
from trueface.predictions.predictions import Predictions
from trueface.runtime.errors import DataError

SURE = 3.0  # standard errors: smaller differences are chance
EXACT_BELOW = 25  # discordant pairs; from there on chi² is close enough (Fleiss et al., see below)

Method = Literal["exact binomial", "chi² with continuity correction"]
Joined = Literal["path", "key", "order"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePairs:
    """The images that two models both scored, in the order of the first one's table."""

    joined_by: Joined
    keys: tuple[str, ...]
    labels: Labels  # (N,) 1 fake
    first: Floats  # (N,) logits
    second: Floats
    only_first: int  # images that only the first one scored
    only_second: int
    doubt: str | None = None  # why the rows may not be pairs
    videos: tuple[str, ...] = ()  # (N,) video of a frame, "" of no frame; or ()

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """Whether two models are right on as many images."""

    method: Method
    only_first: int  # images that only the first one is right on
    only_second: int
    chi2: float | None  # None where exact
    p: float  # two-sided


@dataclass(frozen=True, slots=True, kw_only=True)
class DeLong:
    """Whether two models have the same area under the ROC curve."""

    first: float
    second: float
    error: float  # standard error of the difference
    z: float | None  # None: the difference does not vary
    p: float | None  # two-sided
    reason: str | None  # why there is no p


def pair(first: Predictions, second: Predictions, *, same_order: bool = False) -> ImagePairs:
    """Return the rows of two tables that are of the same images.

    They are joined by path; where no path is in both (another layout, another network), by key.

    Args:
        first: of one model.
        second: of the other.
        same_order: for old files, which name no images: rows are paired in their order.

    Raises:
        DataError: the tables cannot be joined. The message names the missing part.
    """
    if not (first.names_images and second.names_images):
        return _pair_in_order(first, second, same_order=same_order)
    if common := set(first.ids) & set(second.ids):
        return _pair_by_name(first, second, common, name_kind="path")
    for table, which in ((first, "first"), (second, "second")):
        if len(set(table.keys)) < len(table):
            raise DataError(
                f"no path is in both tables, and some keys of the {which} table belong to several images, "
                "such as re-shared copies. Compare one modifier at a time."
            )
    common = set(first.keys) & set(second.keys)
    if not common:
        raise DataError("no image is in both tables. Paired tests need the same images.")
    return _pair_by_name(first, second, common, name_kind="key")


def mcnemar(labels: Labels, first: Floats, second: Floats) -> McNemar:
    """Return the test of equal accuracy; logits above 0 are fake.

    Sources: Q. McNemar, Psychometrika 12(2), 1947; with the correction of A. Edwards, Psychometrika
        13(3), 1948, never below 0; exact where few images differ, as in J. Fleiss, B. Levin and
        M. Paik, "Statistical methods for rates and proportions", 3rd edition, section 13.1.
    """
    right, also = ((logits > 0) == (labels == 1) for logits in (first, second))
    b, c = int(np.sum(right & ~also)), int(np.sum(also & ~right))
    if b + c < EXACT_BELOW:
        tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
        return McNemar(
            method="exact binomial", only_first=b, only_second=c, chi2=None, p=min(1.0, 2 * tail)
        )
    chi2 = max(abs(b - c) - 1, 0) ** 2 / (b + c)
    return McNemar(
        method="chi² with continuity correction",
        only_first=b,
        only_second=c,
        chi2=chi2,
        p=math.erfc(math.sqrt(chi2 / 2)),  # the tail of chi² with one degree of freedom
    )


def delong(labels: Labels, first: Floats, second: Floats) -> DeLong:
    """Return the test of equal areas under two ROC curves of the same images.

    Raises:
        DataError: fewer than two fakes or two reals.

    Sources: E. DeLong, D. DeLong and D. Clarke-Pearson, Biometrics 44(3), 1988, equations 4 to 6;
        by the midranks of X. Sun and W. Xu, IEEE Signal Processing Letters 21(11), 2014,
        algorithm 2: O(N log N) where the definition takes every fake with every real.
    """
    fake = labels == 1
    fakes, reals = int(fake.sum()), int((~fake).sum())
    if min(fakes, reals) < 2:
        raise DataError(
            f"2 images of each class are needed, but there are {fakes} fakes and {reals} reals"
        )
    of_fakes, of_reals, areas = [], [], []
    for logits in (first, second):
        ranks = _midranks(np.concatenate([logits[fake], logits[~fake]]))
        of_fakes.append((ranks[:fakes] - _midranks(logits[fake])) / reals)
        of_reals.append(1 - (ranks[fakes:] - _midranks(logits[~fake])) / fakes)
        areas.append(float(of_fakes[-1].mean()))
    # the variance of a difference is that of the components' differences
    variance = (of_fakes[1] - of_fakes[0]).var(ddof=1) / fakes
    variance += (of_reals[1] - of_reals[0]).var(ddof=1) / reals
    return _delong(areas[0], areas[1], math.sqrt(float(variance)))


def _delong(first: float, second: float, error: float) -> DeLong:
    z, p, reason = None, None, None
    if error > 1e-12:  # below that it is the rounding of equal components
        z = (second - first) / error
        p = math.erfc(abs(z) / math.sqrt(2))
    elif abs(second - first) < 1e-12:
        p = 1.0
    else:
        reason = "the difference does not vary between images"
    return DeLong(first=first, second=second, error=error, z=z, p=p, reason=reason)


def _midranks(values: Floats) -> Floats:
    """Return the rank of each value from 1 on; equal values share the mean of their ranks."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[which]
    return ranks


def _pair_in_order(first: Predictions, second: Predictions, *, same_order: bool) -> ImagePairs:
    if not same_order:
        raise DataError(
            "old score files do not name their images, and the original system shuffled them, so rows cannot be paired. "
            "If both files have the same order, use --same-order."
        )
    if len(first) != len(second) or not np.array_equal(first.labels, second.labels):
        raise DataError(
            f"--same-order: the labels of {len(first)} and {len(second)} rows do not agree row by row. The files "
            "contain different images or have a different order."
        )
    rows = np.arange(len(first))
    return replace(_pair_rows("order", first, second, rows, rows), doubt=_doubt(first, second))


def _doubt(first: Predictions, second: Predictions) -> str | None:
    """Return why rows of one order are hardly of the same images; None if they seem to be.

    Labels of files of one class agree in any order. But two models find the same images hard, so
    that their logits rise together within a folder, as those of shuffled rows do not.
    """
    groups = np.unique(np.array(first.subsets), return_inverse=True)[1] * 2 + first.labels
    ranks = [np.zeros(len(first)), np.zeros(len(first))]
    for group in np.unique(groups):
        rows = groups == group
        for of_side, logits in zip(ranks, (first.margin, second.margin), strict=True):
            of_side[rows] = _midranks(logits[rows]) - (rows.sum() + 1) / 2
    scale = float(np.sqrt(np.sum(ranks[0] ** 2) * np.sum(ranks[1] ** 2)))
    together = float(np.sum(ranks[0] * ranks[1])) / scale if scale else 0.0
    if together * math.sqrt(len(first)) > SURE:
        return None
    return (
        f"the logits of the pairs are hardly correlated (rank correlation {together:.3f} within folders), so these "
        "rows are probably not of the same images in spite of --same-order"
    )


def _pair_by_name(
    first: Predictions, second: Predictions, common: set[str], *, name_kind: Literal["path", "key"]
) -> ImagePairs:
    first_names, second_names = (
        table.ids if name_kind == "path" else table.keys for table in (first, second)
    )
    places = {name: row for row, name in enumerate(second_names)}
    rows: NDArray[np.intp] = np.array(
        [row for row, name in enumerate(first_names) if name in common], np.intp
    )
    others = np.array([places[first_names[row]] for row in rows], np.intp)
    differing = int(np.sum(first.labels[rows] != second.labels[others]))
    if differing:
        raise DataError(
            f"{differing} of {len(rows)} images are fake in one table and real in the other. One model was tested on "
            "flipped labels."
        )
    return _pair_rows(name_kind, first, second, rows, others)


def _pair_rows(
    name_kind: Joined,
    first: Predictions,
    second: Predictions,
    rows: NDArray[np.intp],
    others: NDArray[np.intp],
) -> ImagePairs:
    """Return rows of the first table with others of the second one as pairs."""
    return ImagePairs(
        joined_by=name_kind,
        keys=tuple(first.keys[row] for row in rows),
        labels=first.labels[rows],
        first=first.margin[rows],
        second=second.margin[others],
        only_first=len(first) - len(rows),
        only_second=len(second) - len(rows),
        videos=tuple(first.videos[row] for row in rows) if first.videos else (),
    )
