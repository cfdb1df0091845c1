"""The loss of Capsule-Forensics v2: H. Nguyen et al., 2019, arXiv 1910.12467."""

from torch import Tensor, nn
from torch.nn import functional

from trueface.data.batch import Batch
from trueface.models.blocks.capsule import Capsule, mean_log_odds
from trueface.training.objectives.protocol import (
    CORRECT,
    Logs,
    Objective,
    count_correct,
    network_and_images,
)
from trueface.training.objectives.registry import register_objective


@register_objective(
    "capsule",
    summary="sum of the losses of the four classifiers of model capsule",
    binary=True,
    network="capsule",
)
class CapsuleLoss(Objective):
    """The sum of the cross-entropies of the four numbers of the output capsules."""

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss and the number of correct images.

        Raises:
            JobError: the model is not `capsule`, or the images are features or crops of images.
        """
        network, images = network_and_images(model, batch, Capsule, "capsule", "capsule")
        capsules = network.forward_capsules(images).float()
        loss = capsule_loss(capsules, batch.labels)
        return loss, {CORRECT: count_correct(mean_log_odds(capsules), batch.labels)}


def capsule_loss(capsules: Tensor, labels: Tensor) -> Tensor:
    """Return the sum over numbers of the mean cross-entropy over images.

    Args:
        capsules: output capsules (B, 4, 2), columns real and fake.
        labels: label of each image, (B, 1), 1 = fake.
    """
    classes = (labels.reshape(-1, 1) > 0.5).long().expand(-1, capsules.shape[1])  # (B, 4)
    return capsules.shape[1] * functional.cross_entropy(capsules.transpose(1, 2), classes)
