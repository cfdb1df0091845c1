"""What a checkpoint keeps of its training for later predictions: validation's answers, features.

It lies in the checkpoint as tensors, below one megabyte. A checkpoint without it, an older one,
predicts as ever: it cannot abstain, and does not see which images are far from its training.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trueface.prediction.feature_distance import FeatureDistance
from trueface.runtime.rng import numpy_stream

MOST_ANSWERS = 20_000  # of validation, 100 kB; of more a sample is kept


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """What predictions are compared with."""

    labels: NDArray[np.int8]  # (N,) of validation, 1 fake
    logits: NDArray[np.float32]  # (N,) as the model gives them
    features: FeatureDistance | None

    @classmethod
    def of(
        cls,
        labels: NDArray[np.integer],
        logits: NDArray[np.floating],
        features: FeatureDistance | None,
    ) -> "Reference":
        """Return the reference of a training, of at most `MOST_ANSWERS` answers (N,)."""
        if len(labels) > MOST_ANSWERS:
            stream = numpy_stream("reference", 0)
            chosen = np.sort(stream.choice(len(labels), MOST_ANSWERS, replace=False))
            labels, logits = labels[chosen], logits[chosen]
        return cls(
            labels=labels.astype(np.int8), logits=logits.astype(np.float32), features=features
        )

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor]) -> "Reference | None":
        """Return what `tensors` gave; None where it is something else, or nothing."""
        labels, logits = tensors.get("labels"), tensors.get("logits")
        if labels is None or logits is None or labels.shape != logits.shape or labels.ndim != 1:
            return None
        return cls(
            labels=labels.to(torch.int8).numpy(),
            logits=logits.float().numpy(),
            features=_features(tensors),
        )

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All of it, by name."""
        arrays: dict[str, Tensor] = {
            "labels": torch.from_numpy(self.labels),
            "logits": torch.from_numpy(self.logits),
        }
        if self.features is not None:
            arrays |= {
                "mean": torch.from_numpy(self.features.mean),
                "scale": torch.from_numpy(self.features.scale),
                "limit": torch.tensor(self.features.limit, dtype=torch.float64),
            }
        return arrays


def _features(tensors: Mapping[str, Tensor]) -> FeatureDistance | None:
    mean, scale, limit = (tensors.get(name) for name in ("mean", "scale", "limit"))
    if mean is None or scale is None or limit is None:
        return None
    if mean.ndim != 1 or mean.shape != scale.shape or limit.ndim:
        return None
    return FeatureDistance(
        mean=mean.float().numpy(), scale=scale.float().numpy(), limit=float(limit)
    )
