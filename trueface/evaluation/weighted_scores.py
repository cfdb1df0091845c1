"""A score table under many weightings of its rows at once: what every metric's resamples rest on.

A weighting is a resample (how often each row counts), or the table without a part of it. Metrics
are computed for `bootstrap.CHUNK` weightings at a time. Positive = fake.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation import curves
from trueface.evaluation.bootstrap import CHUNK, Counts, Floats, Weights
from trueface.evaluation.calibration import gaps, losses

# columns of what is summed: images, called fake, correct, loss, then one for each calibration bin
IMAGES, CALLED, CORRECT, LOSS, GAPS = range(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreColumns:
    """A score table, counted and sorted once for all weightings."""

    fake: NDArray[np.bool_]  # (N,)
    columns: NDArray[np.float32]  # (N, 4 + BINS)
    order: curves.Order

    @classmethod
    def of(cls, fake: NDArray[np.bool_], logits: Floats) -> "ScoreColumns":
        """Return the columns of a table of labels (N,) and logits (N,)."""
        called = logits > 0
        columns = [np.ones(len(fake)), called, called == fake, losses(fake, logits)]
        return cls(
            fake=fake,
            columns=np.column_stack([*columns, gaps(fake, logits)]).astype(np.float32),
            order=curves.order(fake, logits),
        )


@dataclass(frozen=True, kw_only=True)  # no slots: what a metric asks for is computed when it does
class WeightedScores:
    """C weightings of one score table; every count and sum is (C,) float64.

    A resample without one class gives NaN where a metric divides by its count; intervals leave
    such values out.
    """

    table: ScoreColumns
    weights: Weights  # (C, N)
    scale: Floats | None  # (C, classes) what each class counts for; None: 1

    @cached_property
    def _of_fakes(self) -> Floats:
        sums = self._sums(self.table.fake)
        return sums if self.scale is None else sums * self.scale[:, -1:]

    @cached_property
    def _of_reals(self) -> Floats:
        sums = self._sums(~self.table.fake)
        return sums if self.scale is None else sums * self.scale[:, :1]

    @cached_property
    def _of_all(self) -> Floats:
        return self._of_fakes + self._of_reals

    def _sums(self, rows: NDArray[np.bool_]) -> Floats:
        chosen = np.ascontiguousarray(self.weights[:, rows])
        sums: Floats = (chosen @ self.table.columns[rows]).astype(np.float64)
        return sums

    @property
    def images(self) -> Floats:
        """All images."""
        return self._of_all[:, IMAGES]

    @property
    def fakes(self) -> Floats:
        """All fakes."""
        return self._of_fakes[:, IMAGES]

    @property
    def reals(self) -> Floats:
        """All reals."""
        return self._of_reals[:, IMAGES]

    @property
    def true_positives(self) -> Floats:
        """Fakes called fake."""
        return self._of_fakes[:, CALLED]

    @property
    def false_negatives(self) -> Floats:
        """Fakes called real."""
        return self.fakes - self.true_positives

    @property
    def false_positives(self) -> Floats:
        """Reals called fake."""
        return self._of_reals[:, CALLED]

    @property
    def true_negatives(self) -> Floats:
        """Reals called real."""
        return self._of_reals[:, CORRECT]

    @property
    def loss(self) -> Floats:
        """The summed cross entropy of all images."""
        return self._of_all[:, LOSS]

    @property
    def gaps(self) -> Floats:
        """Correctness minus confidence, summed in each calibration bin: (C, BINS)."""
        return self._of_all[:, GAPS:]

    @cached_property
    def curve(self) -> curves.Curve:
        """The ROC curves."""
        odds = None if self.scale is None else self.scale[:, -1] / self.scale[:, 0]
        return curves.curve(self.table.order, self.weights, odds)


def weighted(
    fake: NDArray[np.bool_], logits: Floats, weights: Counts, scale: Floats | None = None
) -> Iterator[WeightedScores]:
    """Yield a table under its weightings, a few of them at a time.

    Args:
        fake: (N,).
        logits: (N,) higher = more fake.
        weights: (R, N) how often each row counts.
        scale: (R, classes) what each class counts for; None: 1.
    """
    table = ScoreColumns.of(fake, logits)
    for start in range(0, len(weights), CHUNK):
        chunk = slice(start, start + CHUNK)
        yield WeightedScores(
            table=table,
            weights=weights[chunk].astype(np.float32),
            scale=None if scale is None else scale[chunk],
        )
