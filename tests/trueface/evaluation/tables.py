"""Tables of scores made by hand."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from trueface.evaluation.score_tables import Scores


def make_scores(
    keys: Sequence[str],
    labels: ArrayLike,
    logits: ArrayLike,
    paths: Sequence[str] | None = None,
    videos: Sequence[str] = (),
) -> Scores:
    """Return scores of images, whose paths are their keys by default."""
    return Scores(
        paths=tuple(keys if paths is None else paths),
        keys=tuple(keys),
        labels=np.array(labels, np.int8),
        logits=np.array(logits, np.float64),
        videos=tuple(videos),
    )
