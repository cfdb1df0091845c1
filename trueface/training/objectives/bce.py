"""Binary cross-entropy: the loss of detectors, whose one logit is positive for fakes."""

from torch import Tensor, nn
from torch.nn import functional

from trueface.data.batch import Batch
from trueface.training.objectives.protocol import Logs, Objective, logits_of
from trueface.training.objectives.registry import register_objective


@register_objective("bce", summary="binary cross-entropy", binary=True, mean=True, capturable=True)
class BinaryCrossEntropy(Objective):
    """The mean over images of -log p(label)."""

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss and the number of correct images."""
        logits = logits_of(model, batch.inputs)  # (B, 1)
        labels = batch.labels.reshape(logits.shape).float()
        loss = functional.binary_cross_entropy_with_logits(logits, labels)
        return loss, {"correct": ((logits > 0) == (labels > 0.5)).sum()}
