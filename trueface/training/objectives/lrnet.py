"""The loss of LRNet: the sum of the cross-entropies of its two networks, which the authors train apart."""

from torch import Tensor, nn
from torch.nn import functional

from trueface.data.batch import Batch
from trueface.models.blocks.lrnet import LrNet, log_odds_of_mean
from trueface.models.detectors import Detector
from trueface.runtime.errors import JobError
from trueface.training.objectives.protocol import CORRECT, Logs, Objective, count_correct
from trueface.training.objectives.registry import register_objective


@register_objective(
    "lrnet",
    summary="sum of the losses of the two networks of model lrnet",
    binary=True,
    network="lrnet",
)
class LrNetLoss(Objective):
    """The sum of two cross-entropies, of points and of their differences."""

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss, the number of correct clips, and both parts.

        Raises:
            JobError: the model is not `lrnet`.
        """
        if not (isinstance(model, Detector) and isinstance(model.network, LrNet)):
            raise JobError("objective: lrnet needs model lrnet. Choose it or another objective.")
        margins = model.network.forward_streams(model.normalize_landmarks(batch.inputs)).float()
        labels = batch.labels.reshape(-1, 1).expand(-1, 2).float()
        losses = functional.binary_cross_entropy_with_logits(margins, labels, reduction="none")
        points, differences = losses.mean(0)
        return points + differences, {
            CORRECT: count_correct(log_odds_of_mean(margins), batch.labels),
            "points": points.detach(),
            "differences": differences.detach(),
        }
