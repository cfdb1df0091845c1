"""The cross entropy of answers: all that an unlearning itself asks of them, without statistics."""

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.predictions import Answered

Classes = NDArray[np.int64]
Floats = NDArray[np.float64]


def loss(part: Answered, labels: Classes) -> float:
    """Return the mean cross entropy."""
    return float(losses(part, labels).mean())


def losses(part: Answered, labels: Classes) -> Floats:
    """Return the cross entropy of each answer with its label: (N,)."""
    logs = log_probabilities(part)
    values: Floats = -logs[np.arange(len(labels)), labels]
    return values


def log_probabilities(part: Answered) -> Floats:
    """Return logarithms of the softmax: (N, K) float64."""
    logits = part.logits.astype(np.float64)
    logits -= logits.max(1, keepdims=True)
    logs: Floats = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return logs
