"""Cross-entropy: the loss of networks that classify K classes."""

from torch import Tensor, nn

from trueface.data.batch import Batch
from trueface.models.logits import as_multiclass_logits, cross_entropy
from trueface.training.objectives.protocol import Logs, Objective, logits_of
from trueface.training.objectives.registry import register_objective


@register_objective("ce", summary="cross-entropy", mean=True, capturable=True)
class CrossEntropy(Objective):
    """The mean over images of -log p(label); one logit z counts as the two logits 0 and z."""

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss and the number of correct images."""
        logits = as_multiclass_logits(logits_of(model, batch.inputs))  # (B, K)
        labels = batch.labels.reshape(-1).long()
        return cross_entropy(logits, labels), {"correct": (logits.argmax(1) == labels).sum()}
