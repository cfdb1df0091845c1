"""Every measure of one score table under many weightings of its rows at once.

A weighting is a resample (how often each row counts), or what is left of the table without a part
of it. Positive = fake.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation import curves
from trueface.evaluation.bootstrap import Counts, Floats, chunks

BINS = 15  # of the calibration error: C. Guo et al., arXiv 1706.04599, section 5
LEAST_SURE = 0.5  # of two classes the predicted one has at least this: where the first bin begins
MEASURES = (
    "accuracy", "balanced_accuracy", "precision", "recall", "f1",
    "auc", "ap", "eer", "tpr_at_1fpr", "ece", "loss",
)  # fmt: skip

Labels = NDArray[np.int8]


def values(
    fake: NDArray[np.bool_],
    logits: Floats,
    weights: Counts,
    known: Sequence[str],
    scale: Floats | None = None,
) -> tuple[dict[str, Floats], Floats]:
    """Return each measure on every resample (R,), and the gaps of the calibration error (R, BINS).

    Args:
        fake: (N,).
        logits: (N,).
        weights: (R, N) how often each row counts.
        known: which measures.
        scale: (R, classes) what each class counts for; None: 1.
    """
    called = logits > 0
    counted = np.column_stack(
        [np.ones(len(fake)), called, called == fake, losses(fake, logits), gaps(fake, logits)]
    ).astype(np.float32)
    fakes, reals = (_sums(weights, counted, rows) for rows in (fake, ~fake))
    odds = None
    if scale is not None:
        fakes, reals = fakes * scale[:, -1:], reals * scale[:, :1]
        odds = scale[:, -1] / scale[:, 0]
    sums, hits, accused = fakes + reals, fakes[:, 1], fakes[:, 1] + reals[:, 1]
    rows = sums[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):  # what is not known is left out below
        spread = {
            "accuracy": sums[:, 2] / rows,
            "balanced_accuracy": (hits / fakes[:, 0] + reals[:, 2] / reals[:, 0]) / 2,
            "precision": hits / accused,
            "recall": hits / fakes[:, 0],
            "f1": 2 * hits / (fakes[:, 0] + accused),
            "ece": np.abs(sums[:, 4:]).sum(1) / rows,
            "loss": sums[:, 3] / rows,
        }
    if "auc" in known:
        spread |= curves.values(fake, logits, weights, odds)
    return {name: spread[name] for name in known}, sums[:, 4:] / rows[:, None]


def calibration_error(labels: Labels, logits: Floats) -> float:
    """Return the expected calibration error of the predicted class, in 0 … 1.

    Source: C. Guo et al., arXiv 1706.04599, equation 3. They divide 0 … 1 into 15 bins of equal
        width; of two classes the predicted one has a half at least, and half of their bins would be
        empty: ours divide 0.5 … 1.
    """
    found = gaps(labels == 1, logits).sum(0, dtype=np.float64)
    return float(np.abs(found).sum() / len(labels))


def gaps(fake: NDArray[np.bool_], logits: Floats) -> NDArray[np.float32]:
    """Return how far each answer is from its confidence, in the column of its bin: (N, BINS)."""
    confidence = probabilities(np.abs(logits))
    right = (logits > 0) == fake
    bins = sure_bins(confidence)
    found = np.zeros((len(logits), BINS), np.float32)
    found[np.arange(len(logits)), bins] = right - confidence
    return found


def sure_bins(confidence: Floats) -> NDArray[np.intp]:
    """Return the bin (N,) of the confidence in the predicted one of two classes."""
    along = (confidence - LEAST_SURE) / (1 - LEAST_SURE)
    return np.clip((along * BINS).astype(np.intp), 0, BINS - 1)


def losses(fake: NDArray[np.bool_], logits: Floats) -> Floats:
    """Return the cross entropy of each answer (N,)."""
    found: Floats = np.logaddexp(0.0, np.where(fake, -logits, logits))
    return found


def probabilities(logits: Floats) -> Floats:
    """Return the probability of a fake (N,)."""
    # the same as a sigmoid, but no overflow for a large negative logit
    found: Floats = np.exp(-np.logaddexp(0.0, -logits))
    return found


def _sums(weights: Counts, counted: NDArray[np.float32], rows: NDArray[np.bool_]) -> Floats:
    chosen, of_them = np.ascontiguousarray(weights[:, rows]), counted[rows]
    return np.concatenate([part @ of_them for part in chunks(chosen)]).astype(np.float64)
