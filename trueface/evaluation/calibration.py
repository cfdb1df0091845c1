"""How far confidence is from being right: probabilities, their bins, and the losses of predictions.

Positive = fake.
"""

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.intervals import Floats

BINS = 15  # of the calibration error: C. Guo et al., arXiv 1706.04599, section 5
LEAST_SURE = 0.5  # of two classes the predicted one has at least this: where the first bin begins

Labels = NDArray[np.int8]


def calibration_error(labels: Labels, logits: Floats) -> float:
    """Return the expected calibration error of the predicted class, in 0 … 1.

    Source: C. Guo et al., arXiv 1706.04599, equation 3. They divide 0 … 1 into 15 bins of equal
        width; of two classes the predicted one has a half at least, and half of their bins would be
        empty: ours divide 0.5 … 1.
    """
    summed = gaps(labels == 1, logits).sum(0, dtype=np.float64)
    return float(np.abs(summed).sum() / len(labels))


def gaps(fake: NDArray[np.bool_], logits: Floats) -> NDArray[np.float32]:
    """Return correctness (0 or 1) minus confidence of each prediction, in its bin's column: (N, BINS)."""
    confidence = probabilities(np.abs(logits))
    correct = (logits > 0) == fake
    columns = np.zeros((len(logits), BINS), np.float32)
    columns[np.arange(len(logits)), sure_bins(confidence)] = correct - confidence
    return columns


def sure_bins(confidence: Floats) -> NDArray[np.intp]:
    """Return the bin (N,) of the confidence in the predicted one of two classes."""
    along = (confidence - LEAST_SURE) / (1 - LEAST_SURE)
    return np.clip((along * BINS).astype(np.intp), 0, BINS - 1)


def losses(fake: NDArray[np.bool_], logits: Floats) -> Floats:
    """Return the cross entropy of each prediction (N,)."""
    entropies: Floats = np.logaddexp(0.0, np.where(fake, -logits, logits))
    return entropies


def probabilities(logits: Floats) -> Floats:
    """Return the probability of a fake (N,)."""
    # the same as a sigmoid, but no overflow for a large negative logit
    fake: Floats = np.exp(-np.logaddexp(0.0, -logits))
    return fake
