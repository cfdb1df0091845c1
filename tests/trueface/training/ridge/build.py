"""Rows for regressions: two classes apart along a few of many features."""

import numpy as np

from trueface.training.ridge_regression import FeatureRows


def rows(
    count: int, width: int, *, seed: int = 0, gap: float = 1.0, fakes: float = 0.5
) -> FeatureRows:
    """Return rows of random features, a tenth of which depend on the class."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) < round(fakes * count)).astype(np.int8)
    features = rng.normal(3.0, 2.0, (count, width))
    features[:, : max(width // 10, 1)] += gap * labels[:, None]
    half = count // 2
    values = features.astype(np.float32)
    return FeatureRows.from_parts((values[:half], values[half:]), labels)
