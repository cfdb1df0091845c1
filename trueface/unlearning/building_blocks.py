"""What several methods do: a pass of gradient steps, a training, labels at random."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from trueface.data.examples import Batch, Examples, Label
from trueface.runtime.errors import JobError
from trueface.runtime.rng import derive, numpy_stream
from trueface.unlearning.api import Request, Result
from trueface.unlearning.hyperparameters import TrainingOptions
from trueface.unlearning.optimization import Descent

ONLY_OTHER = (
    "there are two classes, so a label other than the flipped one is the true one: this was a "
    "relabelling"
)


def descend(
    request: Request,
    descent: Descent,
    batches: Iterable[Batch],
    loss: Callable[[Batch], Tensor],
) -> float:
    """Take one step for each batch and return the mean loss.

    Args:
        request: gives the device, and whether to stop.
        descent: takes the steps.
        batches: one pass.
        loss: of a batch; its labels lie on the device.

    Raises:
        JobError: stopped, no finite loss, or not one batch could be read.
    """
    losses = []
    for batch in batches:
        request.check_stop()
        labels = batch.labels.to(request.watch.device)
        losses.append(descent.step(loss(batch._replace(labels=labels))))
    if not losses:
        raise JobError("not one sample of a pass could be read, so there was nothing to learn from")
    return sum(losses) / len(losses)


def retain_set(request: Request) -> Examples:
    """Return the samples to keep.

    Raises:
        JobError: there are none.
    """
    if request.retain is None or not len(request.retain):
        raise JobError("there is nothing to learn from: no images that are not to be forgotten")
    return request.retain


def drawn(samples: Examples, count: int, name: str, seed: int) -> Examples:
    """Return `count` of N samples, or all where there are fewer, drawn at random, in their order.

    Args:
        samples: (N,) to draw from.
        count: how many, from 0.
        name: of the draw; others of the same seed do not depend on it.
        seed: of the job.
    """
    random = torch.Generator().manual_seed(derive(name, seed))
    rows = torch.randperm(len(samples), generator=random)[:count]
    return samples.subset(sorted(rows.tolist()))


def correct_labels(request: Request) -> Examples:
    """Return the forget set with its true labels, and the retain set as it was trained.

    Raises:
        JobError: the true labels are not known.
    """
    if request.forget.true is None:
        raise JobError("the true labels of what is to be forgotten are not known")
    relabelled = request.forget.relabelled(request.forget.true)
    return relabelled if request.retain is None else relabelled + request.retain


def new_model(request: Request) -> nn.Module:
    """Return a model as the one at hand was before its training.

    Raises:
        JobError: the request cannot make one.
    """
    if request.fresh is None:
        raise JobError("a new start needs `fresh`: a function that makes the untrained model")
    return request.fresh().to(request.watch.device)


def train(request: Request, model: nn.Module, samples: Examples, label: Label) -> Result:
    """Train a model in place, as models of its sort are trained."""
    log = request.learn(
        model,
        samples,
        label,
        validation=request.validation,
        options=request.own(TrainingOptions),
        watch=request.watch,
    )
    return Result(model=model, log=log)


def random_other_labels(request: Request, epoch: int) -> tuple[int, ...]:
    """Return a random other label for each forgotten sample, the same for the same seed and epoch.

    Where classes shall go, it is one of those that stay, as long as there are any.
    """
    trained = request.forget.trained
    random = numpy_stream(f"random labels/{epoch}", request.seed)
    gone = set(trained) if request.goal == "class" else set()
    left = [label for label in range(request.classes) if label not in gone]
    if gone and left:
        return tuple(random.choice(left, len(trained)).tolist())
    return _others(trained, request.classes, random)


def _others(labels: Sequence[int], classes: int, random: np.random.Generator) -> tuple[int, ...]:
    moves = random.integers(1, classes, len(labels))
    return tuple(((np.asarray(labels) + moves) % classes).tolist())
