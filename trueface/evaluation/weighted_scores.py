"""The scores of a model under many weightings of its images at once, the input of every metric.

A weighting is a resample (how often each row counts), or the table without a part of it. Metrics
are computed for `at_a_time` weightings at once. With two classes, positive = fake.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation import curves
from trueface.evaluation.arrays import Counts, Floats
from trueface.evaluation.calibration import BINS, confidence_bins, probabilities
from trueface.predictions.cross_entropy import cross_entropies, log_softmax

# columns of the sums: images, called fake, correct, loss, then one for each calibration bin
IMAGES, CALLED, CORRECT, LOSS, GAPS = range(5)
CHUNK = 50  # weightings at a time; those of 20,000 images fit into a core's cache
SIZE = 200_000  # weights at a time, where rows are few: arrays are then worth their calls
LARGEST_LOSS = 1e25  # loss of an image, in float32; sums of 10¹³ such losses are finite
REAL, FAKE = 0, 1

Weights = NDArray[np.float32]


def chunks(weights: Counts, count: int = CHUNK) -> Iterator[Weights]:
    """Yield weightings in chunks, (C, N) float32, for fast arithmetic."""
    for start in range(0, len(weights), count):
        yield weights[start : start + count].astype(np.float32)


def at_a_time(rows: int) -> int:
    """Return how many weightings of a table of so many rows are quickest together."""
    return max(SIZE // max(rows, 1) // CHUNK, 1) * CHUNK


@dataclass(frozen=True, kw_only=True)  # no slots: columns are computed at their first use
class ScoreTable:
    """Labels and logits of N images, counted and sorted once for all weightings."""

    labels: NDArray[np.integer]  # (N,) classes, from 0 on
    # (N,) or (N, 1) of a detector: positive = fake, exactly 0 is real. (N, K) of K classes
    logits: NDArray[np.floating]

    @cached_property
    def classes(self) -> int:
        """K."""
        return 2 if self._is_of_detector else self.logits.shape[1]

    @cached_property
    def _is_of_detector(self) -> bool:
        return self.logits.ndim == 1 or self.logits.shape[1] == 1

    @cached_property
    def fake(self) -> NDArray[np.bool_]:
        """The fakes (N,)."""
        fake: NDArray[np.bool_] = self.labels == FAKE
        return fake

    @cached_property
    def predicted_classes(self) -> NDArray[np.integer]:
        """The predicted classes (N,)."""
        return (self.margins > 0).astype(np.int8) if self._is_of_detector else self.logits.argmax(1)

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """The correctly classified images (N,)."""
        correct: NDArray[np.bool_] = self.predicted_classes == self.labels
        return correct

    @cached_property
    def margins(self) -> Floats:
        """By how much the logit of a fake exceeds that of a real (N,); of two classes."""
        if self._is_of_detector:
            return self.logits.reshape(-1).astype(np.float64, copy=False)
        return (self.logits[:, FAKE] - self.logits[:, REAL]).astype(np.float64)

    @cached_property
    def losses(self) -> Floats:
        """The cross entropy of each image (N,)."""
        if self._is_of_detector:
            return cross_entropies(self.fake, self.margins)
        losses: Floats = -self._log_probabilities[np.arange(len(self.labels)), self.labels]
        return losses

    @cached_property
    def _log_probabilities(self) -> Floats:
        return log_softmax(self.logits)

    @cached_property
    def _confidences(self) -> Floats:
        if self._is_of_detector:
            return probabilities(np.abs(self.margins))
        likeliest: Floats = np.exp(self._log_probabilities.max(1))
        return likeliest

    @cached_property
    def bins(self) -> NDArray[np.intp]:
        """The calibration bin of each image (N,)."""
        return confidence_bins(self._confidences, self.classes)

    @cached_property
    def gaps(self) -> NDArray[np.floating]:
        """Correctness (0 or 1) minus confidence (N,)."""
        gaps = self.correct - self._confidences
        # published calibration errors of detectors are sums of float32
        return gaps.astype(np.float32) if self._is_of_detector else gaps

    @cached_property
    def summed_gaps(self) -> Floats:
        """The sums of the gaps in each calibration bin. With a column per class, empty last bins are left out."""
        # the last bit of a sum depends on its length, and earlier versions left these bins out
        least = BINS if self._is_of_detector else 0
        sums = np.bincount(self.bins, weights=self.gaps, minlength=least)
        return np.asarray(sums, np.float64)

    @cached_property
    def order(self) -> curves.RocOrder:
        """The images of two classes in the order of their margins."""
        return curves.sort_for_roc(self.fake, self.margins)

    @cached_property
    def present(self) -> tuple[int, ...]:
        """The classes that have an image."""
        return tuple(np.unique(self.labels).tolist())

    @cached_property
    def columns(self) -> tuple[tuple[NDArray[np.bool_], NDArray[np.floating]], ...]:
        """The rows (N,) of each present class, and the columns of their sums (n, 4 + BINS)."""
        small = self.losses.max(initial=0.0) <= LARGEST_LOSS
        table = np.zeros((len(self.labels), GAPS + BINS), np.float32 if small else np.float64)
        table[:, IMAGES] = 1
        table[:, CALLED] = self.predicted_classes == FAKE
        table[:, CORRECT] = self.correct
        table[:, LOSS] = self.losses
        table[np.arange(len(table)), GAPS + self.bins] = self.gaps
        rows = [self.labels == label for label in self.present]
        return tuple((of_class, table[of_class]) for of_class in rows)


@dataclass(frozen=True, kw_only=True)  # no slots: values are computed at their first use
class WeightedScores:
    """C weightings of one score table; every count and sum is (C,) float64.

    Without weights it is the table itself: C is 1, and all sums are exact to float64. A resample without
    one class gives NaN where a metric divides by its count; intervals leave such values out.
    """

    table: ScoreTable
    weights: Counts | None = None  # (C, N); None: each image counts once
    scale: Floats | None = None  # (C, present classes) what each class counts for; None: 1

    @classmethod
    def from_logits(
        cls, labels: NDArray[np.integer], logits: NDArray[np.floating]
    ) -> "WeightedScores":
        """Return a table of labels and logits, both as in `ScoreTable`, in which each image counts once."""
        return cls(table=ScoreTable(labels=labels, logits=logits))

    @cached_property
    def _sums_of_classes(self) -> Floats:
        """The sums of each class: (C, K, columns)."""
        table = self.table
        if self.weights is None:
            parts = (
                table.labels,
                table.labels[table.predicted_classes == FAKE],
                table.labels[table.correct],
            )
            counts = [np.bincount(part, minlength=table.classes) for part in parts]
            return np.stack(counts, axis=1)[None].astype(np.float64)
        sums = np.zeros((len(self.weights), table.classes, GAPS + BINS))
        for position, (rows, columns) in enumerate(table.columns):
            chosen = np.ascontiguousarray(self.weights[:, rows])
            # the rounding of a product depends on its size: it is that of CHUNK, whatever is quickest
            products = np.concatenate([part @ columns for part in chunks(chosen)])
            scale = 1.0 if self.scale is None else self.scale[:, [position]]
            sums[:, table.present[position]] = products.astype(np.float64) * scale
        return sums

    @cached_property
    def _sums_of_all(self) -> Floats:
        summed: Floats = self._sums_of_classes.sum(1)
        return summed

    @property
    def images(self) -> Floats:
        """All images."""
        return self._sums_of_all[:, IMAGES]

    @property
    def support(self) -> Floats:
        """The images of each class: (C, K)."""
        return self._sums_of_classes[:, :, IMAGES]

    @property
    def hits(self) -> Floats:
        """The correctly classified images of each class: (C, K)."""
        return self._sums_of_classes[:, :, CORRECT]

    @property
    def recalls(self) -> Floats:
        """The fraction of correctly classified images of each class that has images: (C, classes)."""
        present = list(self.table.present)
        return np.ascontiguousarray(self.hits[:, present] / self.support[:, present])

    @property
    def fakes(self) -> Floats:
        """All fakes."""
        return self._sums_of_classes[:, FAKE, IMAGES]

    @property
    def reals(self) -> Floats:
        """All reals."""
        return self._sums_of_classes[:, REAL, IMAGES]

    @property
    def true_positives(self) -> Floats:
        """Fakes called fake."""
        return self._sums_of_classes[:, FAKE, CALLED]

    @property
    def false_negatives(self) -> Floats:
        """Fakes called real."""
        return self.fakes - self.true_positives

    @property
    def false_positives(self) -> Floats:
        """Reals called fake."""
        return self._sums_of_classes[:, REAL, CALLED]

    @property
    def true_negatives(self) -> Floats:
        """Reals called real."""
        return self._sums_of_classes[:, REAL, CORRECT]

    @property
    def loss(self) -> Floats:
        """The summed cross entropy of all images."""
        if self.weights is None:
            return np.array([self.table.losses.sum()])
        return self._sums_of_all[:, LOSS]

    @property
    def gaps(self) -> Floats:
        """Correctness minus confidence, summed in each calibration bin: (C, BINS)."""
        if self.weights is None:
            return self.table.summed_gaps[None]
        return self._sums_of_all[:, GAPS:]

    def mean(self, values: NDArray[np.floating]) -> Floats:
        """Return the weighted mean (C,) of a value of each image (N,), such as its squared error."""
        if self.weights is None:
            return np.array([values.mean()])
        weights = self.weights.astype(np.float64)
        if self.scale is not None:
            weights *= self.scale[:, np.searchsorted(self.table.present, self.table.labels)]
        means: Floats = weights @ values / weights.sum(1)
        return means

    @cached_property
    def curve(self) -> curves.Curve:
        """The ROC curves of two classes."""
        weights = np.ones((1, len(self.table.labels))) if self.weights is None else self.weights
        odds = None if self.scale is None else self.scale[:, -1] / self.scale[:, 0]
        return curves.curve(self.table.order, weights, odds)


def weight_scores(
    table: ScoreTable, weights: Counts, scale: Floats | None = None
) -> Iterator[WeightedScores]:
    """Yield a table under its weightings, a few of them at a time.

    Args:
        table: N images.
        weights: (R, N) how often each row counts.
        scale: (R, present classes) weight of each class. None: 1.
    """
    count = at_a_time(len(table.labels))
    for start in range(0, len(weights), count):
        chunk = slice(start, start + count)
        yield WeightedScores(
            table=table,
            weights=weights[chunk],
            scale=None if scale is None else scale[chunk],
        )
