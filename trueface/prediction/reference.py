"""The distance between features of an image and of a training, by a diagonal model.

The distance is the mean over the features of their squared, clipped standard scores, 1 for an image
like those of the training. For a training on faces it was tested on photographs of other objects,
flat colours and noise. It was compared with a low-rank Mahalanobis distance and the nearest projected
neighbour. These detect no more of the test images, and need more numbers.

Sources: D. Hendrycks and K. Gimpel, arXiv 1610.02136, for the task; K. Lee et al., arXiv
1807.03888,
    section 2.1, for distances of features under a Gaussian, theirs with a full covariance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trueface.runtime.rng import numpy_rng

CLIP = 8.0  # standard deviations: no single feature decides
QUANTILE = (
    0.99  # quantile of validation's distances: beyond it an image is far; 1 % of training's sort is
)
FEWEST = 50  # images of validation, below which that quantile is a guess: nothing is recorded
MOST_FEATURES = 100_000  # 0.8 MB in a checkpoint
COLUMNS = 1024  # at a time

Floats = NDArray[np.floating]
MOST_ANSWERS = 20_000  # answers for validation, 100 kB; of more a sample is kept


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeatureDistance:
    """Where the features of a training lie.

    Attributes:
        mean: (F,) float32 of each feature.
        scale: (F,) float32 their standard deviations; 0 where a feature never varies.
        limit: the distance beyond which an image is far.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    limit: float

    @classmethod
    def from_features(
        cls, training: Sequence[Floats], validation: Sequence[Floats]
    ) -> "FeatureDistance | None":
        """Return the model of features (N, F), with a limit from those of validation (M, F).

        Features of copies of images, such as corrupted ones, are passed as further arrays of both.
        Copies that a detector was trained on are not distant from its training.

        None if validation has too few images, or images have too many features.

        Args:
            training: features of the training images.
            validation: features of validation, which are similar to those of predictions.
        """
        width = training[0].shape[1]
        if len(validation[0]) < FEWEST or width > MOST_FEATURES:
            return None
        mean, scale = np.zeros(width, np.float32), np.zeros(width, np.float32)
        for start in range(0, width, COLUMNS):  # a copy of them all in float64 may be a gigabyte
            columns = slice(start, start + COLUMNS)
            values = np.concatenate([each[:, columns] for each in training])
            mean[columns] = values.mean(0, dtype=np.float64)
            scale[columns] = values.std(0, dtype=np.float64)
        model = cls(mean=mean, scale=scale, limit=0.0)
        limit = np.quantile(np.concatenate([*map(model.distances, validation)]), QUANTILE)
        return cls(mean=mean, scale=scale, limit=float(limit))

    def distances(self, features: Floats) -> NDArray[np.float64]:
        """Return the distance (B,) of features (B, F), 0 … 64."""
        varies = self.scale > 0
        scores = (features[:, varies] - self.mean[varies]) / self.scale[varies]
        squares: NDArray[np.float64] = np.square(scores.clip(-CLIP, CLIP)).mean(1, dtype=np.float64)
        return squares


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """The reference that predictions are compared with."""

    labels: NDArray[np.int8]  # (N,) of validation, 1 fake
    logits: NDArray[np.float32]  # (N,) as the model gives them
    features: FeatureDistance | None
    videos: NDArray[np.int32] | None = (
        None  # (N,) number of the video of a clip. None: single images
    )

    @classmethod
    def from_predictions(
        cls,
        labels: NDArray[np.integer],
        logits: NDArray[np.floating],
        features: FeatureDistance | None,
        videos: Sequence[str] = (),
    ) -> "Reference":
        """Return the reference of a training, of at most `MOST_ANSWERS` answers (N,).

        Args:
            labels: of validation.
            logits: of validation.
            features: see the class.
            videos: of the clips. (): single images.
        """
        numbers = np.unique(np.array(videos, str), return_inverse=True)[1] if videos else None
        if len(labels) > MOST_ANSWERS:
            rng = numpy_rng("reference", 0)
            chosen = np.sort(rng.choice(len(labels), MOST_ANSWERS, replace=False))
            labels, logits = labels[chosen], logits[chosen]
            numbers = None if numbers is None else numbers[chosen]
        return cls(
            labels=labels.astype(np.int8),
            logits=logits.astype(np.float32),
            features=features,
            videos=None if numbers is None else numbers.astype(np.int32),
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
        if self.videos is not None:
            arrays["videos"] = torch.from_numpy(self.videos)
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
