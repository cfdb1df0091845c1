"""The cross entropy of logits: the formulas behind every loss of a score table."""

import numpy as np
from numpy.typing import NDArray


def cross_entropies(fake: NDArray[np.bool_], logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cross entropy of each prediction (N,). Nothing is clipped.

    Args:
        fake: (N,).
        logits: (N,) positive = fake.
    """
    entropies: NDArray[np.float64] = np.logaddexp(0.0, np.where(fake, -logits, logits))
    return entropies


def mean_cross_entropy(fake: NDArray[np.bool_], logits: NDArray[np.float64]) -> float:
    """Return the mean of `cross_entropies`."""
    return float(cross_entropies(fake, logits).mean())


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the logarithms of the probabilities (N, K) of logits (N, K)."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(1, keepdims=True)
    logs: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return logs
