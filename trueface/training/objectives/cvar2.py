"""CVaR on two levels, as DAW-FDD has it, over cells of group × class in the place of groups."""

from torch import Tensor, nn

from trueface.data.dataset import Batch
from trueface.training.cells import CLASSES, GroupCells, fused, merged
from trueface.training.config import ObjectiveOptions
from trueface.training.objectives.protocol import Logs, Objective, TrainingFacts, binary_losses
from trueface.training.objectives.registry import register_objective


@register_objective(
    "cvar2",
    summary="CVaR over cells of CVaR over their images",
    binary=True,
    columns=("demographic",),
    fair=True,
    options=("fair_alpha_in", "fair_alpha_out", "fair_smooth", "fair_min"),
)
class CellCvar(Objective):
    """CVaR over the cells of a batch: a group that is often called fake has one bad cell of two.

    Over groups that cell's loss would be hidden behind the good one of the same group. Cells of
    fewer than `fair_min` images in a batch are joined with those of the same class.
    """

    def prepare(self, facts: TrainingFacts, options: ObjectiveOptions) -> None:
        """Take shares, and the cells.

        Raises:
            JobError: the images come without groups, or are all of one.
        """
        self._cells = GroupCells.of(facts, "cvar2", compares=True)
        self._options = options

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss and the number of correct images."""
        losses, logs = binary_losses(model, batch)
        chosen = self._options
        cells, count = merged(
            self._cells.of_batch(batch),
            chosen.fair_min,
            count=CLASSES * self._cells.groups,
            blocks=CLASSES,
        )
        loss = fused(
            losses,
            cells,
            alpha_in=chosen.fair_alpha_in,
            alpha_out=chosen.fair_alpha_out,
            smooth=chosen.fair_smooth,
            count=count,
        )
        return loss, logs
