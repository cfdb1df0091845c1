"""The interface between objectives and the trainer, and logits of a model."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.batch import Batch
from trueface.data.image_set import ImageSet, labels_and_columns
from trueface.models.detectors import Detector
from trueface.runtime.files import Json
from trueface.training.config import ObjectiveOptions

CORRECT = "correct"  # in the logs of every step: how many images were classified correctly
Logs = Mapping[str, Tensor | float]


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """What is known of all training images before the first step."""

    labels: Tensor = field(default_factory=lambda: torch.empty(0))  # (N,) as trained: 1 fake
    columns: Mapping[str, Tensor] = field(default_factory=dict)  # (N,) int64 each
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of a column's numbers

    @classmethod
    def from_feed(cls, feed: object) -> "TrainingFacts":
        """Return the facts of the images of a feed; of a feed that has none, nothing."""
        images = getattr(getattr(feed, "dataset", feed), "image_set", None)
        return cls() if images is None else cls.from_image_set(images)

    @classmethod
    def from_image_set(cls, images: ImageSet) -> "TrainingFacts":
        """Return the facts of images, as they are trained.

        Where a transform makes fakes of real images, it does so by chance in each epoch: labels
        are those of the first, of which all others are alike.
        """
        names: Mapping[str, tuple[str, ...]] = getattr(images, "column_names", {})
        labels, columns = labels_and_columns(images, range(len(images.labels)), epoch=0)
        return cls(labels=labels, columns=columns, names=names)


class Objective(Protocol):
    """A training objective. A subclass defines `training_step` and registers its name."""

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss of a batch, a scalar with its gradient, and the values to log.

        The trainer calls it in the precision of the training, then computes gradients and steps.

        Args:
            model: in training mode. Call it with `logits_of`, as often as needed.
            batch: on the model's device, with the declared columns.

        Returns:
            The loss, and logged values by name: `correct`, the number of correctly classified
            images, and any other numbers, which appear in the job's progress.
        """
        ...

    def ascent_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss that adversarial weight perturbation ascends, and the values to log.

        It replaces `training_step` in the first pass of such a step. An objective whose loss has
        further terms leaves them out here, so that the weights are perturbed against the
        classification alone. Others have one loss. Args are those of `training_step`.
        """
        return self.training_step(model, batch)

    def prepare(self, facts: TrainingFacts, options: ObjectiveOptions) -> None:  # noqa: ARG002
        """Learn of the training before its first step; by default there is nothing to learn.

        Raises:
            JobError: the images have not what the objective needs.
        """
        return

    def stepped(self) -> None:
        """Note that the optimizer has taken the step of the batch; it follows one pass or two."""
        return

    def state(self) -> dict[str, Tensor]:
        """Return what later steps depend on, so that an interrupted training can go on with it."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:  # noqa: ARG002
        """Go on from what `state` gave; `prepare` was called before."""
        return

    def perturbed(self, model: nn.Module) -> AbstractContextManager[None] | None:  # noqa: ARG002
        """Return a context that changes the weights for a second pass, or None.

        It is entered when the gradients of the first pass are computed. Inside, `training_step` is
        called again, and its gradients are those of the optimizer's step, which is taken after the
        context has restored the weights: P. Foret et al., arXiv 2010.01412, algorithm 1. With the
        settings `sam` and `awp` every objective has such a pass; see `training.loop`.
        """
        return None

    def begin_epoch(self, epoch: int, done: int, batches: int) -> None:
        """Note the epoch, from 0, how many of its batches are done, and how many it has."""
        del epoch, done, batches  # for others

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


def per_sample_bce(model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
    """Return -log p(label) of each image, (B,), and the number of correct ones."""
    logits = logits_of(model, batch.inputs)  # (B, 1)
    labels = batch.labels.reshape(logits.shape).float()
    losses = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return losses.flatten(), {CORRECT: ((logits > 0) == (labels > 0.5)).sum()}
