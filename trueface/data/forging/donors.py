"""Whose face goes into whose: of the same group and list, and alike.

A donor of another group would leave its skin colour as the cue, and a fake without a defined
group; one of another list would put an image of the test into the training.
"""

import numpy as np
import numpy.typing as npt
import PIL.Image

from trueface.data.forging.geometry import Pixels

SIDE = 16  # of the grey copies that are compared
NEAREST = 5
LEVELS = 40  # per deviation
MOST = 127  # so that sums of products of two faces are whole numbers below 2^24: exact in float32
ROWS = 1024  # compared at once

Thumbnails = npt.NDArray[np.int8]


def thumbnail(face: Pixels) -> Thumbnails:
    """Return a face as 16 x 16 grey levels of mean 0 and deviation 1, in steps of 1/40: (256,)."""
    grey = PIL.Image.fromarray(face).convert("L")
    small = grey.resize((SIDE, SIDE), PIL.Image.Resampling.BOX)
    values = np.asarray(small, np.float64).reshape(-1)
    values = (values - values.mean()) / max(values.std(), 1e-6)
    steps: Thumbnails = np.clip(np.rint(values * LEVELS), -MOST, MOST).astype(np.int8)
    return steps


def nearest(thumbnails: Thumbnails) -> npt.NDArray[np.int64]:
    """Return for each of N faces the places of the nearest others, (N, 0 to 5), the nearest first.

    Of two that are equally far the first counts. Distances are whole numbers, and the same
    whatever the number of threads.

    Args:
        thumbnails: (N, 256), of the faces of one group and list.
    """
    count = len(thumbnails)
    wanted = min(NEAREST, count - 1)
    if wanted < 1:
        return np.empty((count, 0), np.int64)
    values = thumbnails.astype(np.float32)
    squares = np.square(values).sum(1)
    places = []
    for start in range(0, count, ROWS):
        part = slice(start, min(start + ROWS, count))
        distances = squares[part, None] + squares[None] - 2 * (values[part] @ values.T)
        distances[np.arange(part.stop - start), np.arange(start, part.stop)] = np.inf
        places.append(np.argsort(distances, 1, kind="stable")[:, :wanted])
    return np.concatenate(places).astype(np.int64)
