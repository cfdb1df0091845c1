"""CVaR on two levels as in DAW-FDD, over cells of group × class instead of groups."""

from torch import Tensor

from trueface.data.batch import Batch
from trueface.training.cells import CLASSES, merge_small_groups
from trueface.training.group_losses import GroupCvar
from trueface.training.objectives.registry import register_objective


@register_objective(
    "cvar2",
    summary="CVaR over subgroups of the CVaR over their images",
    binary=True,
    columns=("demographic",),
    fair=True,
    capturable=True,
    options=("fair_alpha_in", "fair_alpha_out", "fair_min"),
)
class SubgroupCvar(GroupCvar):
    """CVaR over the cells of a batch.

    If the real images of a group are often called fake, only one of its two cells has a high loss. CVaR over
    groups would average it with the low loss of the other cell. Cells with fewer than `fair_min` images in a
    batch are merged with those of the same class.
    """

    name = "cvar2"

    def group_numbers(self, batch: Batch) -> tuple[Tensor, int]:
        """Return the cell of each image after merging small cells, (B,), and the number of cell numbers."""
        return merge_small_groups(
            self.cells.subgroup_ids_of_batch(batch),
            self.options.fair_min,
            count=CLASSES * self.cells.groups,
            blocks=CLASSES,
        )
