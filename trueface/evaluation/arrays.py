"""The types of arrays that metrics, curves and intervals share."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.unsignedinteger]  # how often each row counts
Indices = NDArray[np.intp]
