"""Label-distribution-aware margins: rare cells of group × class must be told apart by more."""

from torch import Tensor, nn

from trueface.data.dataset import Batch
from trueface.models.logits import wide
from trueface.training.config import ObjectiveOptions
from trueface.training.fairness.cells import Cells
from trueface.training.fairness.ldam import ldam_margins, margin_losses
from trueface.training.objectives.protocol import CORRECT, Logs, Objective, TrainingFacts, logits_of
from trueface.training.objectives.registry import register_objective


@register_objective(
    "ldam",
    summary="margins by the size of each cell",
    binary=True,
    columns=("demographic",),
    mean=True,
    fair=True,
)
class LabelDistributionMargins(Objective):
    """K. Cao et al., NeurIPS 2019 (arXiv 1906.07413), margins of cells in the place of classes.

    The detector's logit z counts as the two logits 0 and z. The deferred re-weighting of the paper
    is not part of it.
    """

    def prepare(self, facts: TrainingFacts, options: ObjectiveOptions) -> None:  # noqa: ARG002
        """Count the images of each cell.

        Raises:
            JobError: the images come without groups.
        """
        self._cells = Cells.of(facts, "ldam")
        self._margins = ldam_margins(self._cells.counts)

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss and the number of correct images."""
        logits = wide(logits_of(model, batch.images))  # (B, 2)
        labels = batch.labels.reshape(-1).long()
        margins = self._margins.to(logits.device)[self._cells.of_batch(batch)]
        loss = margin_losses(logits, labels, margins).mean()
        return loss, {CORRECT: (logits.argmax(1) == labels).sum()}
