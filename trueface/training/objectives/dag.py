"""DAG-FDD: the loss is the mean over the worst fraction of a batch. It does not need groups."""

from torch import Tensor, nn

from trueface.data.batch import Batch
from trueface.training.cells import cvar
from trueface.training.config import ObjectiveOptions
from trueface.training.objectives.protocol import Logs, Objective, TrainingFacts, per_sample_bce
from trueface.training.objectives.registry import register_objective


@register_objective(
    "dag",
    summary="DAG-FDD: CVaR over images, without groups",
    binary=True,
    fair=True,
    capturable=True,
    options=("fair_alpha_out",),
)
class DemographicAgnostic(Objective):
    """CVaR over the images of a batch: Y. Ju et al., WACV 2024 (arXiv 2306.16635), DAG-FDD.

    The authors' code searches for the threshold between the smallest loss - 1000 and the largest. Here the
    weights are explicit; see `trueface.training.cells`.
    """

    def prepare(self, facts: TrainingFacts, options: ObjectiveOptions) -> None:  # noqa: ARG002
        """Set the fraction of the images that counts."""
        self._alpha = options.fair_alpha_out

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss and the number of correct images."""
        losses, logs = per_sample_bce(model, batch)
        return cvar(losses, self._alpha), logs
