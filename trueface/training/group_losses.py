"""Losses of several objectives for fairness between groups: CVaR on two levels, and margins by size."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.batch import Batch
from trueface.training.cells import Subgroups, bilevel_cvar, merge_small_groups
from trueface.training.config import DEMOGRAPHIC, ObjectiveOptions
from trueface.training.objectives.protocol import Logs, Objective, TrainingFacts, per_sample_bce

# τ1 and τ2 of the fusion loss in the code of L. Lin et al., CVPR 2024, arXiv 2402.17229
FUSION_SMOOTH, FUSION_RIDGE = 0.001, 1e-4
LARGEST_MARGIN = 0.5  # margin of the label with the fewest images, max_m in both programs
LDAM_SCALE = 30.0  # factor of the logits, s in both programs


class GroupCvar(Objective):
    """CVaR over the groups of a batch of the CVaR over their images, as in DAW-FDD.

    Groups with fewer than `fair_min` images in a batch are merged. In the paper they are not merged, and a
    single image can count as much as a large group. See `training.cells`.
    """

    name: ClassVar[str]  # name of the objective, for messages
    smooth: ClassVar[float] = 0.0  # τ1, in units of the loss
    ridge: ClassVar[float] = 0.0  # τ2

    def prepare(self, facts: TrainingFacts, options: ObjectiveOptions) -> None:
        """Set the fractions and the number of groups.

        Raises:
            JobError: the images have no groups, or there is only one group.
        """
        self.cells = Subgroups.from_training_facts(facts, self.name, compares=True)
        self.options = options

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss and the number of correct images."""
        losses, logs = per_sample_bce(model, batch)
        options = self.options
        groups, count = self.group_numbers(batch)
        loss = bilevel_cvar(
            losses,
            groups,
            alpha_in=options.fair_alpha_in,
            alpha_out=options.fair_alpha_out,
            smooth=self.smooth,
            ridge=self.ridge,
            count=count,
        )
        return loss, logs

    def group_numbers(self, batch: Batch) -> tuple[Tensor, int]:
        """Return the group of each image after merging small groups, (B,), and the number of group numbers."""
        least, count = self.options.fair_min, self.cells.groups
        return merge_small_groups(batch.column(DEMOGRAPHIC), least, count=count)


def ldam_margins(counts: Tensor) -> Tensor:
    """Return the margin of each label: proportional to n^(-1/4), `LARGEST_MARGIN` for the rarest.

    LDAM of K. Cao et al., NeurIPS 2019 (arXiv 1906.07413), equations 12 and 13. In the code of L. Lin et al.,
    the counts of one dataset are constants. Here they are counted.

    Args:
        counts: number of images of each label, (K,). A label without images has the margin 0.
    """
    filled = counts > 0
    raw = counts.clamp(min=1).double() ** -0.25 * filled
    return (raw * (LARGEST_MARGIN / raw.max().clamp(min=torch.finfo(raw.dtype).tiny))).float()


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
    return functional.cross_entropy(LDAM_SCALE * moved, labels, reduction="none")
