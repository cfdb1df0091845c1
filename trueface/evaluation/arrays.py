"""The types of arrays that metrics, curves and intervals share, and the mean of one."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.unsignedinteger]  # number of times that each row counts
Indices = NDArray[np.intp]


def mean_or_none(values: NDArray[np.generic]) -> float | None:
    """Return the mean of some values, None if there are none."""
    return float(values.mean()) if len(values) else None
