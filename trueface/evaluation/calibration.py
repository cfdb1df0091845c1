"""Confidence of predictions: probabilities, and the bins of the expected calibration error."""

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.arrays import Floats

BINS = 15  # bins of the calibration error: C. Guo et al., arXiv 1706.04599, section 5
LEAST_OF_TWO = 0.5  # confidence in the predicted one of two classes


def probabilities(logits: Floats) -> Floats:
    """Return the probability of a fake (N,)."""
    # the same as a sigmoid, but no overflow for a large negative logit
    fake: Floats = np.exp(-np.logaddexp(0.0, -logits))
    return fake


def confidence_bins(confidence: Floats, classes: int) -> NDArray[np.intp]:
    """Return the bin (N,) of the confidence in the predicted one of so many classes.

    Source: C. Guo et al., arXiv 1706.04599, equation 3. They divide 0 … 1 into 15 bins of equal
        width. The predicted one of two classes has at least a half, and half of these bins would be
        empty. The bins of two classes therefore divide 0.5 … 1.
    """
    least = LEAST_OF_TWO if classes == 2 else 0.0
    along = (confidence - least) / (1 - least)
    return np.clip((along * BINS).astype(np.intp), 0, BINS - 1)
