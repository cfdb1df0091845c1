"""The losses of RECCE: J. Cao et al., CVPR 2022.

    L = flooded(classification) + .1 reconstruction + .1 metric

The losses follow the published program (github.com/VISION-SJTU/RECCE, MIT).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.batch import Batch
from trueface.models.blocks.recce import Recce
from trueface.training.objectives.protocol import (
    CORRECT,
    Logs,
    Objective,
    count_correct,
    network_and_images,
)
from trueface.training.objectives.registry import register_objective

FLOOD = 0.04  # published level below which the classification loss rises again
RECONSTRUCTION, METRIC = 0.1, 0.1  # published weights
_LEAST = 1e-6  # added to the number of pairs, as published


@register_objective(
    "recce",
    summary="classification, reconstruction of reals and metric loss of model recce",
    binary=True,
    network="recce",
    least_images=2,  # a pair
)
class RecceLosses(Objective):
    """The weighted sum of three losses of one forward pass."""

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss, the number of correct images, and each of the three parts.

        Raises:
            JobError: the model is not `recce`, or the images are features or crops of images.
        """
        network, images = network_and_images(model, batch, Recce, "recce", "recce")
        parts = network.forward_parts(images)
        is_fake = batch.labels.reshape(-1) > 0.5
        logits = parts.logit.float()
        classification = functional.binary_cross_entropy_with_logits(
            logits.reshape(-1), is_fake.float()
        )
        drawn = reconstruction(parts.reconstruction.float(), images.float(), is_fake)
        metric = metric_loss([each.float() for each in parts.similarities], is_fake)
        flooded = (classification - FLOOD).abs() + FLOOD
        loss = flooded + RECONSTRUCTION * drawn + METRIC * metric
        return loss, {
            CORRECT: count_correct(logits, batch.labels),
            "classification": classification.detach(),
            "reconstruction": drawn.detach(),
            "metric": metric.detach(),
        }


def reconstruction(reconstructed_images: Tensor, images: Tensor, is_fake: Tensor) -> Tensor:
    """Return the mean absolute difference between real images and their reconstructions; 0 without any.

    Args:
        reconstructed_images: reconstructions, (B, 3, H, W).
        images: images, (B, 3, H, W).
        is_fake: (B,) bool.
    """
    differences = (reconstructed_images - images).abs().mean((1, 2, 3))
    return torch.where(is_fake, 0.0, differences).sum() / (~is_fake).sum().clamp_min(1)


def metric_loss(similarities: Sequence[Tensor], is_fake: Tensor) -> Tensor:
    """Return the sum over maps of max(0, 1 - similarity of two reals + similarity of a real and a fake).

    Both similarities are means over pairs. Two fakes do not count.

    Args:
        similarities: (B, B) in 0 … 1 each.
        is_fake: (B,) bool.
    """
    mixed = (is_fake[:, None] != is_fake).float()
    real = (~is_fake).float()
    alike = real[:, None] * real * (1 - torch.eye(len(real), device=real.device))
    losses = [
        (1 - _mean_of(each, alike) + _mean_of(each, mixed)).clamp_min(0) for each in similarities
    ]
    return torch.stack(losses).sum()


def _mean_of(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / (mask.sum() + _LEAST)
