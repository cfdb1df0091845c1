"""The losses of MCX-API: Y. Xu et al., WACVW 2023, with the pairs of P. Zhuang et al., AAAI 2020, arXiv 2002.10191.

Each image of a batch forms two pairs: one with the nearest image of its own class, one with the nearest
of the other class. The distance is that of their features. The features of a pair get the gates of
both. The features of an image with its own gate should have a higher probability of its class than
those with the gate of the other.

    L = mean cross-entropy of all gated features + mean of max(0, p(other's gate) - p(own gate) + .05)

Written from the papers, and compared with the published program in numbers alone. Difference: the classes
here are real and fake, as labels are; the probability of fake is that of all types of forgery together.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.batch import Batch
from trueface.models.blocks.mcx import Mcx, log_odds_of_fake
from trueface.training.objectives.protocol import (
    CORRECT,
    Logs,
    Objective,
    count_correct,
    network_and_images,
)
from trueface.training.objectives.registry import register_objective

PAIR = 2  # images
MARGIN = 0.05  # published, in units of a probability


class NearestPairs(NamedTuple):
    """Positions of paired images in a batch."""

    first: Tensor  # (P,) int64
    second: Tensor  # (P,) int64


@register_objective(
    "mcx",
    summary="gated features of pairs of images, of model mcx",
    binary=True,
    network="mcx",
    paired=True,
    least_images=PAIR,
)
class PairwiseInteraction(Objective):
    """Cross-entropy and score ranking of the gated features of pairs."""

    def can_learn(self, labels: Tensor) -> bool:
        """Return whether there are two images, which are a pair of one class or of both."""
        return len(labels) >= PAIR

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss, the number of images that are correct without gates, and the ranking loss.

        Raises:
            JobError: the model is not an `mcx`, or the images are features or crops of images.
        """
        network, images = network_and_images(model, batch, Mcx, "mcx", "mcx or mcx_SPACES")
        features = network.forward_features(images)  # (B, 2048)
        is_fake = batch.labels.reshape(-1) > 0.5
        pairs = nearest_pairs(features.detach().float(), is_fake)
        gated = network.interact(features[pairs.first], features[pairs.second])
        odds = log_odds_of_fake(network.classify(torch.cat(gated)))  # (4 P, 1)
        margins = class_margins(odds.view(len(gated), -1), is_fake, pairs)
        ranking = ranking_loss(margins)
        with torch.no_grad():
            right = count_correct(log_odds_of_fake(network.fc(features)), batch.labels)
        loss = functional.softplus(-margins).mean() + ranking
        return loss, {CORRECT: right, "ranking": ranking.detach()}


def nearest_pairs(features: Tensor, is_fake: Tensor) -> NearestPairs:
    """Return each image with the nearest of its class, and each with the nearest of the other class.

    An image without another one of a class does not form that pair.

    Args:
        features: (B, F).
        is_fake: (B,) bool.
    """
    distances = torch.cdist(features, features)
    same = is_fake[:, None] == is_fake
    itself = torch.eye(len(is_fake), dtype=torch.bool, device=is_fake.device)
    parts = []
    for allowed in (same & ~itself, ~same):
        first = allowed.any(1).nonzero().flatten()
        nearest = distances.masked_fill(~allowed, torch.inf).argmin(1)
        parts.append(NearestPairs(first, nearest[first]))
    return NearestPairs(*(torch.cat(each) for each in zip(*parts, strict=True)))


def class_margins(odds: Tensor, is_fake: Tensor, pairs: NearestPairs) -> Tensor:
    """Return the log odds of the own class, (4, P), of those of fake.

    Args:
        odds: log odds of fake, (4, P), in the order of `blocks.mcx.Attentive`.
        is_fake: of each image, (B,) bool.
        pairs: of the batch.
    """
    first, second = (torch.where(is_fake[each], 1.0, -1.0) for each in pairs)
    return odds * torch.stack([first, first, second, second])


def ranking_loss(margins: Tensor) -> Tensor:
    """Return the mean of max(0, p(other's gate) - p(own gate) + margin), of log odds (4, P)."""
    own, other = margins.sigmoid().view(2, 2, -1).unbind(1)
    return (other - own + MARGIN).clamp_min(0).mean()
