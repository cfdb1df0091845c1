"""How good a model in training is on images that it never learns from, for any number of classes."""

import threading
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.dataset import Batch, Feed
from trueface.data.loading import closing
from trueface.evaluation.operating_threshold import Calibration, calibrate
from trueface.runtime.errors import JobError
from trueface.runtime.precision import autocast
from trueface.training.cells import cell_numbers, worst_cell
from trueface.training.config import DEMOGRAPHIC, WORST_CELL
from trueface.training.distributed import ALONE, ProcessGroup
from trueface.training.objectives.protocol import logits_of


class ValidationAnswers(NamedTuple):
    """The answers of a detector to validation, in the order of its images."""

    labels: NDArray[np.int8]  # (N,) 1 fake
    logits: NDArray[np.float64]  # (N,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What decides between the epochs of a training; accuracies in 0 … 1."""

    loss: float  # cross-entropy, whatever the objective is
    accuracy: float
    balanced_accuracy: float | None  # mean over classes; None: a detector saw one class only
    calibration: Calibration | None = None  # of a detector; None: of several classes
    answers: ValidationAnswers | None = None  # of a detector, likewise
    worst_cell: float | None = None  # accuracy of the worst group × class; None: not asked for


def validate(
    model: nn.Module,
    images: Feed,
    *,
    device: str,
    precision: str,
    stop: threading.Event | None = None,
    group: ProcessGroup = ALONE,
    by_cell: bool = False,
) -> Validation:
    """Return how good a model is on one pass of images; it is left in evaluation mode.

    Args:
        model: on the device.
        images: in order, not augmented.
        device: of the model.
        precision: of its arithmetic; logits are float32 whatever it is.
        stop: ends the pass; None: nothing does.
        group: of the processes that each have a part of the images; all get the same result.
        by_cell: measure the worst group × class, too: the images have the column `demographic`.

    Raises:
        JobError: stopped, no image could be read, one came twice, the groups of the images are not
            known, or a logit is no finite number.
    """
    model.eval()
    answers: list[Tensor] = []  # of each batch: logits, label and position, one image a row
    with torch.inference_mode(), closing(images(0)) as batches:
        for batch in batches:
            if stop is not None and stop.is_set():
                raise JobError("stopped; nothing was written, the next attempt begins anew")
            if not len(batch.labels):
                continue
            with autocast(device, precision):
                logits = logits_of(model, batch.images.to(device, non_blocking=True)).cpu()
            groups = [_groups_of(batch)] if by_cell else []
            facts = (*groups, batch.labels.reshape(-1), batch.indices)
            # float64 holds all of them exactly
            answers.append(torch.cat([logits.double(), *(f.double()[:, None] for f in facts)], 1))
    every = group.gather(torch.cat(answers) if answers else torch.empty(0, 0).double())
    if not len(every):
        raise JobError(f"not one of {len(images)} images for validation could be read")
    every = every[every[:, -1].argsort()]
    _refuse_repeated(every[:, -1].numpy())
    width = every.shape[1] - (3 if by_cell else 2)
    rows, classes = every[:, :width].float(), every[:, -2].long()
    broken = int((~rows.isfinite()).any(1).sum())
    if broken:
        raise JobError(
            f"{broken} of {len(rows)} logits are no finite numbers: the model is broken, "
            "train it again with a lower lr"
        )
    if rows.shape[1] > 1:
        return _of_logits(rows, classes)
    answered = ValidationAnswers(
        (classes.numpy() == 1).astype(np.int8), rows.squeeze(1).double().numpy()
    )
    result = replace(
        of_one_logit(answered.logits, answered.labels == 1),
        calibration=calibrate(*answered),
        answers=answered,
    )
    if not by_cell:
        return result
    numbers = every[:, -3].long()
    cells = cell_numbers(classes, numbers, int(numbers.max()) + 1)
    return replace(result, worst_cell=worst_cell((rows.squeeze(1) > 0) == (classes == 1), cells))


def _groups_of(batch: Batch) -> Tensor:
    if DEMOGRAPHIC not in batch.columns:
        raise JobError(
            f"select: {WORST_CELL} needs the group of every image of validation, and these come "
            "without; name their CSV files with attributes"
        )
    return batch.columns[DEMOGRAPHIC]


def _refuse_repeated(positions: NDArray[np.int64]) -> None:
    repeated = int(np.sum(np.diff(positions) == 0))
    if repeated:
        raise JobError(f"{repeated} images were validated twice")


def of_one_logit(logits: NDArray[np.float64], positive: NDArray[np.bool_]) -> Validation:
    """Return loss and accuracies of a detector's logits (N,), without a calibration.

    Args:
        logits: (N,).
        positive: (N,) which images are fake.
    """
    predicted = logits > 0
    balanced = None
    if positive.any() and not positive.all():
        balanced = float(predicted[positive].mean() + (~predicted[~positive]).mean()) / 2
    return Validation(
        loss=float(np.logaddexp(0.0, -np.where(positive, logits, -logits)).mean()),
        accuracy=float((predicted == positive).mean()),
        balanced_accuracy=balanced,
    )


def _of_logits(logits: torch.Tensor, labels: torch.Tensor) -> Validation:
    correct = (logits.argmax(1) == labels).numpy()
    classes = labels.numpy()
    accuracies = [correct[classes == label].mean() for label in np.unique(classes)]
    return Validation(
        loss=float(functional.cross_entropy(logits, labels)),
        accuracy=float(np.mean(correct)),
        balanced_accuracy=float(np.mean(accuracies)),
    )
