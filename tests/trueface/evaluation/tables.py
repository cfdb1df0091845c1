"""Tables of scores made by hand."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from trueface.predictions.predictions import Predictions


def make_scores(
    keys: Sequence[str],
    labels: ArrayLike,
    logits: ArrayLike,
    paths: Sequence[str] | None = None,
    videos: Sequence[str] = (),
) -> Predictions:
    """Return scores of images, whose paths are their keys by default."""
    return Predictions.from_margin(
        np.array(logits, np.float64),
        np.array(labels, np.int8),
        ids=tuple(keys if paths is None else paths),
        keys=tuple(keys),
        videos=tuple(videos),
    )
