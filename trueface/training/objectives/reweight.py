"""Re-weighting: every group × class counts the same in the loss, however many images it has."""

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
)
class Reweighting(Objective):
    """The mean over images of -log p(label), times N/(C n) for n of N images in one of C cells.

    The weights are those of the training set, so that they sum to N over it, not over a batch.
    """

    def prepare(self, facts: TrainingFacts, options: ObjectiveOptions) -> None:  # noqa: ARG002
        """Count the images of each cell.

        Raises:
            JobError: the images come without groups.
        """
        self._cells = Subgroups.from_training_facts(facts, "reweight")
        self._weights = balanced_weights(self._cells.counts)

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss and the number of correct images."""
        losses, logs = per_sample_bce(model, batch)
        weights = self._weights.to(losses.device)[self._cells.subgroup_ids_of_batch(batch)]
        return (weights * losses).mean(), logs
