"""Re-weighting: every cell of group × class has the same weight in the loss, independent of its size."""

from torch import Tensor, nn

from trueface.data.batch import Batch
from trueface.training.cells import Subgroups, balanced_weights
from trueface.training.config import ObjectiveOptions
from trueface.training.objectives.protocol import Logs, Objective, TrainingFacts, per_sample_bce
from trueface.training.objectives.registry import register_objective


@register_objective(
    "reweight",
    summary="subgroups weighted equally",
    binary=True,
    columns=("demographic",),
    mean=True,
    fair=True,
    capturable=True,
)
class Reweighting(Objective):
    """The mean over images of -log p(label), weighted by N/(C n) for n of N images in one of C cells.

    The weights are computed from the training set. They sum to N over the set, not over a batch.
    """

    def prepare(self, facts: TrainingFacts, options: ObjectiveOptions) -> None:  # noqa: ARG002
        """Count the images of each cell.

        Raises:
            JobError: the images have no groups.
        """
        self._cells = Subgroups.from_training_facts(facts, "reweight")
        self._weights = balanced_weights(self._cells.counts)

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss and the number of correct images."""
        losses, logs = per_sample_bce(model, batch)
        self._weights = self._weights.to(losses.device)
        weights = self._weights[self._cells.subgroup_ids_of_batch(batch)]
        return (weights * losses).mean(), logs
