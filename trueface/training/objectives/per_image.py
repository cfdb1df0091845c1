"""The loss of each image, which objectives that weigh images and groups combine."""

from torch import Tensor, nn
from torch.nn import functional

from trueface.data.dataset import Batch
from trueface.training.objectives.protocol import CORRECT, Logs, logits_of


def binary_losses(model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
    """Return -log p(label) of each image, (B,), and the number of correct ones."""
    logits = logits_of(model, batch.images)  # (B, 1)
    labels = batch.labels.reshape(logits.shape).float()
    losses = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return losses.flatten(), {CORRECT: ((logits > 0) == (labels > 0.5)).sum()}
