"""The fusion loss of fairness generalisation: DAW-FDD, smoothed on the level of groups."""

from torch import Tensor, nn

from trueface.data.dataset import Batch
from trueface.training.config import ObjectiveOptions
from trueface.training.cvar import fused
from trueface.training.fairness.cells import Cells, merged
from trueface.training.fairness.settings import DEMOGRAPHIC
from trueface.training.objectives.per_image import binary_losses
from trueface.training.objectives.protocol import Logs, Objective, TrainingFacts
from trueface.training.objectives.registry import register_objective

SMOOTH = 0.001  # τ1 of the authors' code
RIDGE = 1e-4  # τ2 of the authors' code


@register_objective(
    "fused",
    summary="the smoothed two-level CVaR of fairness generalisation",
    binary=True,
    columns=("demographic",),
    fair=True,
    options=("fair_alpha_in", "fair_alpha_out", "fair_smooth", "fair_min"),
)
class FusionLoss(Objective):
    """L. Lin et al., CVPR 2024 (arXiv 2402.17229): its bi-level loss alone, without its network.

    In their code the flags for both shares, --lamda1 and --lamda2, were read and not used: .9 and
    .5 were fixed. Here they are `fair_alpha_in` and `fair_alpha_out`, whose defaults are these
    numbers.
    """

    def prepare(self, facts: TrainingFacts, options: ObjectiveOptions) -> None:
        """Take shares and smoothing, and the number of groups.

        Raises:
            JobError: the images come without groups, or are all of one.
        """
        self._groups = Cells.of(facts, "fused", compares=True).groups
        self._options = options

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss and the number of correct images."""
        losses, logs = binary_losses(model, batch)
        chosen = self._options
        groups, count = merged(batch.column(DEMOGRAPHIC), chosen.fair_min, count=self._groups)
        loss = fused(
            losses,
            groups,
            alpha_in=chosen.fair_alpha_in,
            alpha_out=chosen.fair_alpha_out,
            smooth=chosen.fair_smooth or SMOOTH,
            ridge=RIDGE,
            count=count,
        )
        return loss, logs
