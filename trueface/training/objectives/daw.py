"""DAW-FDD: the loss is the mean over the worst fraction of images of the worst fraction of groups."""

from torch import Tensor, nn

from trueface.data.batch import Batch
from trueface.training.cells import Subgroups, bilevel_cvar, merge_small_groups
from trueface.training.config import DEMOGRAPHIC, ObjectiveOptions
from trueface.training.objectives.protocol import Logs, Objective, TrainingFacts, per_sample_bce
from trueface.training.objectives.registry import register_objective


@register_objective(
    "daw",
    summary="DAW-FDD: CVaR over groups of the CVaR over their images",
    binary=True,
    columns=("demographic",),
    fair=True,
    capturable=True,
    options=("fair_alpha_in", "fair_alpha_out", "fair_smooth", "fair_min"),
)
class DemographicAware(Objective):
    """CVaR over the groups of a batch: Y. Ju et al., WACV 2024 (arXiv 2306.16635), DAW-FDD.

    As in the authors' code, groups are independent of the class; `cvar2` uses groups × classes. Groups with
    fewer than `fair_min` images in a batch are merged. In the paper they are not merged, and a single image can
    count as much as a large group.
    """

    name = "daw"
    smooth = 0.0  # τ1 if `fair_smooth` is 0
    ridge = 0.0  # τ2

    def prepare(self, facts: TrainingFacts, options: ObjectiveOptions) -> None:
        """Set the fractions and the number of groups.

        Raises:
            JobError: the images have no groups, or there is only one group.
        """
        self._cells = Subgroups.from_training_facts(facts, self.name, compares=True)
        self._options = options

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss and the number of correct images."""
        losses, logs = per_sample_bce(model, batch)
        chosen = self._options
        groups, count = self._numbers(batch)
        loss = bilevel_cvar(
            losses,
            groups,
            alpha_in=chosen.fair_alpha_in,
            alpha_out=chosen.fair_alpha_out,
            smooth=chosen.fair_smooth or self.smooth,
            ridge=self.ridge,
            count=count,
        )
        return loss, logs

    def _numbers(self, batch: Batch) -> tuple[Tensor, int]:
        """Return the group of each image after merging small groups, (B,), and the number of group numbers."""
        least, count = self._options.fair_min, self._cells.groups
        return merge_small_groups(batch.column(DEMOGRAPHIC), least, count=count)
