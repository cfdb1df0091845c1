"""Rows of one image or video, whose groups are shuffled together and which are drawn together.

Copies of an image, such as re-shared ones, and frames of a video have nearly the same scores. If they were shuffled
and drawn one by one, floors of gaps would be too low and their intervals too narrow.

Counts need no order of the units: those with as many rows and called rows are alike, and are dealt together.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.arrays import Indices

Integers = NDArray[np.int64]


class CellCounts(NamedTuple):
    """Counts of P parts in T tables, (T, P) each."""

    reals: Integers
    fakes: Integers
    false_positives: Integers
    true_positives: Integers


class DependentRows(NamedTuple):
    """The U units of a table of N rows; a unit is the rows of one image or video in one part and class."""

    units: Indices  # (N,) number of the unit of each row
    parts: Integers  # (U,) number of its part, such as a group
    fake: NDArray[np.bool_]  # (U,)
    rows: Integers  # (U,) number of its rows
    called: Integers  # (U,) how many of these are called fake

    @classmethod
    def find(
        cls,
        keys: Sequence[str],
        fake: NDArray[np.bool_],
        predicted_fake: NDArray[np.bool_],
        parts: NDArray[np.integer],
    ) -> "DependentRows | None":
        """Return the units of a table; None if every row has a key of its own.

        Args:
            keys: (N,) rows with one key are of one image or video. (): every row has its own.
            fake: (N,).
            predicted_fake: (N,) called fake.
            parts: (N,) number of the part of each row, from 0 on.
        """
        numbers: dict[str, int] = {}
        images = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
        if len(numbers) == len(images):
            return None
        codes = (images * (int(parts.max()) + 1) + parts) * 2 + fake
        _, first, units = np.unique(codes, return_index=True, return_inverse=True)
        return cls(
            units=units,
            parts=parts[first].astype(np.int64),
            fake=fake[first],
            rows=np.bincount(units).astype(np.int64),
            called=np.bincount(units[predicted_fake], minlength=len(first)).astype(np.int64),
        )

    def shuffle(self, rng: np.random.Generator, tables: int) -> Integers:
        """Return the parts of the units (T, U), shuffled within each class."""
        dealt = np.tile(self.parts, (tables, 1))
        for units in (np.flatnonzero(~self.fake), np.flatnonzero(self.fake)):
            dealt[:, units] = rng.permuted(dealt[:, units], axis=1)
        return dealt

    def shuffle_counts(self, rng: np.random.Generator, tables: int, size: int) -> CellCounts:
        """Return the counts of `size` parts after each of so many shuffles within each class."""
        counts = np.zeros((2, 2, tables, size), np.int64)  # rows and called, real and fake
        for label in (0, 1):
            units = np.flatnonzero(self.fake == label)
            places = np.tile(np.bincount(self.parts[units], minlength=size), (tables, 1))
            for kind, number in zip(*self._kinds(units), strict=True):
                left = np.full(tables, number)
                for part in range(size):
                    beyond = places[:, part + 1 :].sum(1)
                    dealt = rng.hypergeometric(places[:, part], beyond, left)
                    places[:, part] -= dealt
                    left -= dealt
                    counts[:, label, :, part] += kind[:, None] * dealt
        return _cell_counts(counts)

    def draw_counts(self, rng: np.random.Generator, draws: int, size: int) -> CellCounts:
        """Return the counts of `size` parts in so many resamples of the units of each part and class."""
        counts = np.zeros((2, 2, draws, size), np.int64)  # rows and called, real and fake
        for label in (0, 1):
            for part in range(size):
                units = np.flatnonzero((self.fake == label) & (self.parts == part))
                if not len(units):
                    continue
                kinds, numbers = self._kinds(units)
                times = rng.multinomial(len(units), numbers / len(units), draws)
                counts[:, label, :, part] = (times @ kinds).T
        return _cell_counts(counts)

    def _kinds(self, units: Indices) -> tuple[Integers, Integers]:
        """Return the numbers of rows and of called rows that some units have, (K, 2), and how many units have them."""
        pairs = np.stack([self.rows[units], self.called[units]], axis=1)
        return np.unique(pairs, axis=0, return_counts=True)


def _cell_counts(counts: Integers) -> CellCounts:
    """Return counts (2, 2, T, P) of rows and called rows, reals and fakes."""
    (reals, fakes), (false_positives, true_positives) = counts
    return CellCounts(reals, fakes, false_positives, true_positives)
