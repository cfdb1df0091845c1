"""Label-distribution-aware margins (LDAM): rare cells of group × class get larger margins.

Source: K. Cao et al., NeurIPS 2019 (arXiv 1906.07413), equations 12 and 13. In the code of L. Lin et al.,
CVPR 2024 (arXiv 2402.17229), the counts of one dataset are constants. Here they are counted.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.batch import Batch
from trueface.models.logits import as_multiclass_logits
from trueface.training.cells import Subgroups
from trueface.training.config import ObjectiveOptions
from trueface.training.objectives.protocol import CORRECT, Logs, Objective, TrainingFacts, logits_of
from trueface.training.objectives.registry import register_objective

LARGEST = 0.5  # margin of the label with the fewest images, max_m in both programs
SCALE = 30.0  # factor of the logits, s in both programs


def ldam_margins(counts: Tensor) -> Tensor:
    """Return the margin of each label: proportional to n^(-1/4), `LARGEST` for the rarest.

    Args:
        counts: number of images of each label, (K,). A label without images has the margin 0.
    """
    filled = counts > 0
    raw = counts.clamp(min=1).double() ** -0.25 * filled
    return (raw * (LARGEST / raw.max().clamp(min=torch.finfo(raw.dtype).tiny))).float()


def ldam_loss(logits: Tensor, labels: Tensor, margins: Tensor) -> Tensor:
    """Return the mean cross-entropy after subtracting the margin of the label from its logit.

    Args:
        logits: logits, (N, K).
        labels: label of each image, (N,) int64.
        margins: margins of the labels from `ldam_margins`, (K,).
    """
    return margin_losses(logits, labels, margins[labels]).mean()


def margin_losses(logits: Tensor, labels: Tensor, margins: Tensor) -> Tensor:
    """Return the loss of each image, (N,). `margins` (N,) contains the margin of each image."""
    right = functional.one_hot(labels, logits.shape[1])
    moved = logits - right * margins[:, None]
    return functional.cross_entropy(SCALE * moved, labels, reduction="none")


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
