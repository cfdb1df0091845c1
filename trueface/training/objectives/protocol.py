"""What an objective is to the trainer, and how it asks a model for logits."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor, nn

from trueface.data.dataset import Batch
from trueface.models.detectors import Detector
from trueface.runtime.files import Json

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

    def perturbed(self, model: nn.Module) -> AbstractContextManager[None] | None:  # noqa: ARG002
        """Return a context that changes the weights for a second pass; None: there is none.

        It is entered when the gradients of the first pass are there. Inside, `training_step` is
        called again, and its gradients are those of the optimizer's step, which is taken after the
        context has restored the weights: P. Foret et al., arXiv 2010.01412, algorithm 1.
        """
        return None

    def begin_epoch(self, epoch: int, done: int, batches: int) -> None:
        """Note the epoch, from 0, how many of its batches are done, and how many it has."""

    def notes(self) -> dict[str, Json]:
        """Return what the training's result shall say of the objective, by name."""
        return {}


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
