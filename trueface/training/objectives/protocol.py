"""The interface between objectives and the trainer, and logits of a model."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.batch import Batch
from trueface.data.loading.image_set import ImageSet, labels_and_columns
from trueface.models.detectors import Detector
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json
from trueface.training.config import ObjectiveOptions

Network = TypeVar("Network", bound=nn.Module)
_IMAGES = 4  # dimensions of (B, 3, H, W)
CORRECT = "correct"  # key in the logs of every step: the number of correctly classified images
Logs = Mapping[str, Tensor | float]


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """The facts on all training images that objectives read before the first step."""

    # training labels, (N,), 1 = fake
    labels: Tensor = field(default_factory=lambda: torch.empty(0))
    columns: Mapping[str, Tensor] = field(default_factory=dict)  # (N,) int64 each
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # names of a column's values

    @classmethod
    def from_feed(cls, feed: object) -> "TrainingFacts":
        """Return the facts on the images of a feed, or empty facts if the feed has none."""
        images = getattr(getattr(feed, "dataset", feed), "image_set", None)
        return cls() if images is None else cls.from_image_set(images)

    @classmethod
    def from_image_set(cls, images: ImageSet) -> "TrainingFacts":
        """Return the facts on images with their training labels.

        If a transform turns random real images into fakes in each epoch, the labels are those of the first
        epoch. Other epochs have the same distribution.
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
            images, and any other numbers. The progress of the job shows them.
        """
        ...

    def can_learn(self, labels: Tensor) -> bool:  # noqa: ARG002
        """Return whether a batch has what the loss compares, such as a pair. Other batches are left out.

        Args:
            labels: (B, 1), 1 = fake. By default every batch is taken.
        """
        return True

    def ascent_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss that adversarial weight perturbation ascends, and the values to log.

        It replaces `training_step` in the first pass of such a step. An objective whose loss has
        further terms omits them here, so that only the classification determines the perturbation. By
        default it is the same as `training_step`, whose arguments it has.
        """
        return self.training_step(model, batch)

    def prepare(self, facts: TrainingFacts, options: ObjectiveOptions) -> None:  # noqa: ARG002
        """Read the facts on the training before its first step. By default nothing is read.

        Raises:
            JobError: the images lack facts that the objective needs.
        """
        return

    def before_step(self, model: nn.Module) -> None:  # noqa: ARG002
        """Change the gradients of a step. It is called before the optimizer's step, once per step.

        By default nothing changes. A parameter without a gradient stays as it is.
        """
        return

    def stepped(self) -> None:
        """Handle the end of a step. It is called after the optimizer's step, once per step."""
        return

    def state(self) -> dict[str, Tensor]:
        """Return the state that later steps depend on, so that an interrupted training can resume."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:  # noqa: ARG002
        """Restore the result of `state`. `prepare` was called before."""
        return

    def perturbed(self, model: nn.Module) -> AbstractContextManager[None] | None:  # noqa: ARG002
        """Return a context that changes the weights for a second pass, or None.

        It is entered after the gradients of the first pass are computed. Inside the context,
        `training_step` is called again. Its gradients are used for the optimizer's step, after the
        context has restored the weights (P. Foret et al., arXiv 2010.01412, algorithm 1). With the
        settings `sam` and `awp`, every objective has a second pass; see `training.loop`.
        """
        return None

    def begin_epoch(self, epoch: int, first_batch: int, batches: int) -> None:
        """Handle the start of an epoch, which may resume.

        Args:
            epoch: number of the epoch, counted from 0.
            first_batch: number of its finished batches.
            batches: number of its batches.
        """
        del epoch, first_batch, batches  # only some objectives use them

    def notes(self) -> dict[str, Json]:
        """Return values of the objective for the result of the training, by name."""
        return {}


class Distillation(Objective):
    """An objective with a teacher, which the part `teacher` of a training loads."""

    teacher: Detector | None = None  # frozen, on the device of the student


def logits_of(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return float32 logits (B, K), or (B, 1) of a detector.

    Args:
        model: a detector or a classifier.
        inputs: pixels, (B, 3, H, W) or (B, crops, 3, H, W); or features, (B, F), if the backbone of a
            detector is frozen.
    """
    logits = (
        model.forward_head(inputs)
        if isinstance(model, Detector) and inputs.ndim == 2
        else model(inputs)
    )
    return logits.float()


def network_and_images(
    model: nn.Module, batch: Batch, network: type[Network], objective: str, models: str
) -> tuple[Network, Tensor]:
    """Return the network of a detector, and the batch's normalised images (B, 3, H, W).

    Args:
        model: in training.
        batch: of the step.
        network: class that has the parts that the objective needs.
        objective: name of the objective, for messages.
        models: names of the models of that class, for messages.

    Raises:
        JobError: the model is another one, or the batch has features or crops of images.
    """
    if not (isinstance(model, Detector) and isinstance(model.network, network)):
        name = model.spec.name if isinstance(model, Detector) else type(model).__name__
        raise JobError(
            f"objective: {objective} needs model {models}, got model {name}. Choose one of these "
            "models or another objective."
        )
    if batch.inputs.ndim != _IMAGES:
        raise JobError(
            f"objective: {objective} trains its whole network on whole images. Leave out freeze "
            "and test_crops."
        )
    return model.network, model.normalize_pixels(batch.inputs)


def count_correct(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the number of images whose logit (B, 1) is on the side of their label (B, 1)."""
    return ((logits.reshape(-1) > 0) == (labels.reshape(-1) > 0.5)).sum()


def per_sample_bce(model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
    """Return -log p(label) of each image, (B,), and the number of correct images."""
    logits = logits_of(model, batch.inputs)  # (B, 1)
    labels = batch.labels.reshape(logits.shape).float()
    losses = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return losses.flatten(), {CORRECT: ((logits > 0) == (labels > 0.5)).sum()}
