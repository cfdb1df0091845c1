"""The losses of CORE: Y. Ni et al., CVPRW 2022, arXiv 2206.02749.

    L = classification + core_weight · mean over images of (1 - cosine of the features of two views)²

The losses follow the published program (github.com/niyunsheng/CORE, MIT). Two views are two
augmentations of one image.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.batch import Batch
from trueface.models.detectors import Detector
from trueface.models.head import capture_inputs
from trueface.runtime.errors import JobError
from trueface.training.config import ObjectiveOptions
from trueface.training.objectives.protocol import (
    CORRECT,
    Logs,
    Objective,
    TrainingFacts,
    count_correct,
    logits_of,
)
from trueface.training.objectives.registry import register_objective

VIEWS = 2


@register_objective(
    "core",
    summary="classification, and equal features of two augmentations of an image",
    binary=True,
    options=("core_weight", "real_weight"),
    views=VIEWS,
    view_options=("core_weight",),
    features=True,
)
class CoreLosses(Objective):
    """The classification loss of both views, and the distance between their features."""

    def prepare(self, facts: TrainingFacts, options: ObjectiveOptions) -> None:
        """Read the weights."""
        del facts
        self._options = options

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss, the number of correct views, and the distance.

        Raises:
            JobError: the model is not a detector, or its last layer is not called once with (B, F).
        """
        if not isinstance(model, Detector):
            raise JobError("objective: core compares features of detectors. Choose another one.")
        with capture_inputs(model.head) as inputs:
            logits = logits_of(model, batch.inputs)
        distance = consistency(inputs[0].float())
        loss = weighted_bce(logits, batch.labels, self._options.real_weight)
        return loss + self._options.core_weight * distance, {
            CORRECT: count_correct(logits, batch.labels),
            "consistency": distance.detach(),
        }


def consistency(features: Tensor) -> Tensor:
    """Return the mean of (1 - cosine)² of features (2 B, F): all first views, then all second ones."""
    first, second = functional.normalize(features, dim=1).chunk(VIEWS)
    return (1 - (first * second).sum(1)).square().mean()


def weighted_bce(logits: Tensor, labels: Tensor, real_weight: float) -> Tensor:
    """Return the mean of -log p(label), weighted by `real_weight` for reals and 1 for fakes.

    Args:
        logits: (B, 1).
        labels: (B, 1), 1 = fake.
        real_weight: weight of each real image.
    """
    targets = (labels.reshape(-1) > 0.5).float()
    losses = functional.binary_cross_entropy_with_logits(
        logits.reshape(-1), targets, reduction="none"
    )
    weights = torch.where(targets > 0.5, 1.0, real_weight)
    return (losses * weights).sum() / weights.sum()
