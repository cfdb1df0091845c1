"""The triplet loss of features: N. Bonettini et al., ICPR 2020, arXiv 2004.07676, section III.C.

    L = mean over anchors of max(0, |a - p|₂ - |a - n|₂ + 1)

The positive p is another image of the anchor's class, and the negative n is one of the other class. Both are drawn
from the batch, in which the paper draws triplets from the whole set. The features, the input of the last layer, learn
from this loss alone. The paper trains the last layer afterwards. Here it learns in the same steps by cross-entropy,
whose gradient does not reach the features, so that the detector can be validated. For the paper's second training,
start one with `freeze: true` from this model.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.batch import Batch
from trueface.models.detectors import Detector
from trueface.runtime.errors import JobError
from trueface.training.objectives.protocol import CORRECT, Logs, Objective
from trueface.training.objectives.registry import register_objective

TRIPLET = 3  # images
MARGIN = 1.0  # published


@register_objective(
    "triplet",
    summary="triplet loss of features, with cross-entropy of the last layer alone",
    binary=True,
    paired=True,
    least_images=TRIPLET,
    features=True,
)
class TripletLoss(Objective):
    """The triplet loss of a batch, and the cross-entropy of its logits.

    A batch without two images of a class and one of the other is left out. Draws come from torch's global generator.
    """

    def can_learn(self, labels: Tensor) -> bool:
        """Return whether there is a triplet: images of both classes, and two of one."""
        fakes = int((labels > 0.5).sum())
        return len(labels) >= TRIPLET and 0 < fakes < len(labels)

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the sum of both losses, and the number of correct images.

        Raises:
            JobError: the model is not a detector with features.
        """
        if not isinstance(model, Detector):
            raise JobError("objective: triplet needs a detector. Choose another objective.")
        features = model.forward_features(batch.inputs)  # (B, F)
        logits = model.forward_head(features.detach()).float()
        labels = batch.labels.reshape(logits.shape).float()
        cross_entropy = functional.binary_cross_entropy_with_logits(logits, labels)
        margin = triplet_loss(features, batch.labels.flatten() > 0.5)
        correct = ((logits > 0) == (labels > 0.5)).sum()
        return margin + cross_entropy, {CORRECT: correct, "triplet": margin.detach()}


def triplet_loss(features: Tensor, fake: Tensor) -> Tensor:
    """Return the mean loss of the anchors of both classes, a scalar.

    Args:
        features: (B, F).
        fake: class of each image, (B,) bool.
    """
    classes = [chosen.nonzero().flatten() for chosen in (~fake, fake)]
    anchors, positives, negatives = [], [], []
    for own, other in (classes, classes[::-1]):
        if len(own) > 1 and len(other):
            order = own[torch.randperm(len(own)).to(own.device)]
            anchors.append(order)
            positives.append(order.roll(1))  # never the anchor itself
            negatives.append(other[torch.randint(len(other), (len(own),)).to(own.device)])
    if not anchors:
        return features.sum() * 0
    anchor, positive, negative = (
        features[torch.cat(part)] for part in (anchors, positives, negatives)
    )
    return functional.triplet_margin_loss(anchor, positive, negative, margin=MARGIN)
