"""How often each group is called fake, as counts: all rates of a threshold follow from them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from trueface.evaluation.bootstrap import COVERAGE, Floats

Integers = NDArray[np.int64]
PERCENT = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Images of G groups by class, and how many of them were called fake; S tables at once or one.

    Rates are in 0 … 1, NaN for a group without the images that a rate is of.
    """

    reals: Integers  # (G,) or (S, G), likewise all others
    fakes: Integers
    false_positives: Integers  # reals called fake
    true_positives: Integers  # fakes called fake

    @property
    def rows(self) -> Integers:
        """Images of each group."""
        return self.reals + self.fakes

    @property
    def fpr(self) -> Floats:
        """Part of the reals that was called fake."""
        return _ratio(self.false_positives, self.reals)

    @property
    def tpr(self) -> Floats:
        """Part of the fakes that was called fake."""
        return _ratio(self.true_positives, self.fakes)

    @property
    def accuracy(self) -> Floats:
        """Part of the images that was called what it is."""
        right = self.reals - self.false_positives + self.true_positives
        return _ratio(right, self.rows)

    @property
    def positive(self) -> Floats:
        """Part of the images that was called fake."""
        return _ratio(self.false_positives + self.true_positives, self.rows)

    @property
    def overall(self) -> "Counts":
        """The counts of all groups together: (1,) or (S, 1)."""
        return Counts(
            reals=self.reals.sum(-1, keepdims=True),
            fakes=self.fakes.sum(-1, keepdims=True),
            false_positives=self.false_positives.sum(-1, keepdims=True),
            true_positives=self.true_positives.sum(-1, keepdims=True),
        )


def count(
    fake: NDArray[np.bool_], called: NDArray[np.bool_], groups: NDArray[np.integer], size: int
) -> Counts:
    """Return the counts of a table.

    Args:
        fake: (N,).
        called: (N,) called fake.
        groups: (N,) number of the group of each row, from 0 on.
        size: how many groups there are.
    """
    cells = groups.astype(np.int64) * 4 + fake * 2 + called
    table = np.bincount(cells, minlength=4 * size).reshape(size, 2, 2)
    return Counts(
        reals=table[:, 0].sum(1),
        fakes=table[:, 1].sum(1),
        false_positives=table[:, 0, 1],
        true_positives=table[:, 1, 1],
    )


def wilson(shares: Floats, images: Integers) -> tuple[Floats, Floats]:
    """Return both ends of the 95 % intervals of shares (G,) of so many images (G,); NaN of none.

    Source: E. Wilson, Journal of the American Statistical Association 22(158), 1927.
    """
    wide = float(ndtri((1 + COVERAGE) / 2)) ** 2
    middle = (images * shares + wide / 2) / (images + wide)
    half = np.sqrt(wide * (images * shares * (1 - shares) + wide / 4)) / (images + wide)
    # the ends of shares of 0 and 1 are these, but for rounding
    return np.fmin(np.maximum(middle - half, 0.0), shares), np.fmax(
        np.minimum(middle + half, 1.0), shares
    )


def _ratio(part: Integers, whole: Integers) -> Floats:
    empty = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    shares: Floats = np.divide(part, whole, out=empty, where=whole > 0)
    return shares
