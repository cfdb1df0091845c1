"""One pass over samples, a step down a loss for each batch of them."""

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from trueface.data.examples import Batch, Examples, Label
from trueface.runtime.errors import JobError
from trueface.unlearning.api import Request, Result
from trueface.unlearning.hyperparameters import TrainingOptions
from trueface.unlearning.optimization import Descent


def descend(
    request: Request,
    descent: Descent,
    batches: Iterable[Batch],
    loss: Callable[[Batch], Tensor],
) -> float:
    """Take one step for each batch and return the mean loss.

    Args:
        request: tells the device, and whether to stop.
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


def kept(request: Request) -> Examples:
    """Return what is to be kept.

    Raises:
        JobError: there is nothing.
    """
    if request.retain is None or not len(request.retain):
        raise JobError("there is nothing to learn from: no images that are not to be forgotten")
    return request.retain


def corrected(request: Request) -> Examples:
    """Return the forget set under its right labels, with what is kept as it was trained.

    Raises:
        JobError: the right labels are not known.
    """
    if request.forget.true is None:
        raise JobError("the right labels of what is to be forgotten are not known")
    sound = request.forget.relabelled(request.forget.true)
    return sound if request.retain is None else sound + request.retain


def started(request: Request) -> nn.Module:
    """Return a new model, as the one at hand was before its training.

    Raises:
        JobError: nobody said how to make one.
    """
    if request.fresh is None:
        raise JobError("a new start needs `fresh`: a function that makes the untrained model")
    return request.fresh().to(request.watch.device)


def learned(request: Request, model: nn.Module, some: Examples, which: Label) -> Result:
    """Train a model on samples the way its sort is trained."""
    log = request.learn(
        model,
        some,
        which,
        validation=request.validation,
        options=request.own(TrainingOptions),
        watch=request.watch,
    )
    return Result(model=model, log=log)
