"""What an objective is to the trainer, and how it asks a model for logits."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor, nn

from trueface.data.dataset import Batch
from trueface.models.detectors import Detector

CORRECT = "correct"  # in the logs of every step: how many images were classified correctly

Logs = Mapping[str, Tensor | float]


class Objective(Protocol):
    """What a training minimizes; a subclass defines `training_step` and registers its name."""

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss of a batch, a scalar with its gradient, and what is logged of it.

        The trainer calls it in the precision of the training, then computes gradients and steps.

        Args:
            model: in training mode; ask it with `logits_of`, as often as is needed.
            batch: on the model's device, with the columns that were declared.

        Returns:
            The loss; and logs by name: `correct`, the number of images that were classified
            correctly, and any other numbers, which appear in the job's progress.
        """
        ...

    def ascent_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss that adversarial weight perturbation climbs, and what is logged of it.

        It takes the place of `training_step` in the first pass of such a step. An objective whose loss
        has further terms leaves them out here, so that the weights move against the classification
        alone; others have one loss. Args are those of `training_step`.
        """
        return self.training_step(model, batch)

    def perturbed(self, model: nn.Module) -> AbstractContextManager[None] | None:  # noqa: ARG002
        """Return a context that changes the weights for a second pass; None: there is none.

        It is entered when the gradients of the first pass are there. Inside, `training_step` is
        called again, and its gradients are those of the optimizer's step, which is taken after the
        context has restored the weights: P. Foret et al., arXiv 2010.01412, algorithm 1. With the
        settings `sam` and `awp` every objective has such a pass; see `training.perturbation`.
        """
        return None


def logits_of(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return float32 logits (B, K), or (B, 1) of a detector.

    Args:
        model: a detector, or a network of classes.
        inputs: (B, 3, H, W) or (B, crops, 3, H, W) pixels; or (B, F) features, where the body of a
            detector is frozen and has seen them already.
    """
    logits = (
        model.forward_head(inputs)
        if isinstance(model, Detector) and inputs.ndim == 2
        else model(inputs)
    )
    return logits.float()
