"""Label-distribution-aware margins (LDAM): rare cells of group × class get larger margins."""

from torch import Tensor, nn

from trueface.data.batch import Batch
from trueface.models.logits import as_multiclass_logits
from trueface.training.cells import Subgroups
from trueface.training.config import ObjectiveOptions
from trueface.training.group_losses import ldam_margins, margin_losses
from trueface.training.objectives.protocol import CORRECT, Logs, Objective, TrainingFacts, logits_of
from trueface.training.objectives.registry import register_objective


@register_objective(
    "ldam",
    summary="margins by the size of each subgroup",
    binary=True,
    columns=("demographic",),
    mean=True,
    fair=True,
    capturable=True,
)
class LabelDistributionMargins(Objective):
    """LDAM of K. Cao et al., NeurIPS 2019 (arXiv 1906.07413), with margins of cells instead of classes.

    The detector's logit z counts as the two logits 0 and z. The deferred re-weighting of the paper
    is not included.
    """

    def prepare(self, facts: TrainingFacts, options: ObjectiveOptions) -> None:  # noqa: ARG002
        """Count the images of each cell.

        Raises:
            JobError: the images have no groups.
        """
        self._cells = Subgroups.from_training_facts(facts, "ldam")
        self._margins = ldam_margins(self._cells.counts)

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss and the number of correct images."""
        logits = as_multiclass_logits(logits_of(model, batch.inputs))  # (B, 2)
        labels = batch.labels.reshape(-1).long()
        self._margins = self._margins.to(logits.device)
        margins = self._margins[self._cells.subgroup_ids_of_batch(batch)]
        loss = margin_losses(logits, labels, margins).mean()
        return loss, {CORRECT: (logits.argmax(1) == labels).sum()}
