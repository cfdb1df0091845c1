"""What methods that are trainings have in common: what is learned, from where, and how."""

from torch import nn

from launcher.api import JobError
from trueface.unlearn.method import Request, Result
from trueface.unlearn.options import TrainingOptions
from trueface.unlearn.samples import Examples, Label


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
