"""Retraining: a new model from the retained images alone, the reference of every other method.

Start, settings and seed are those of the first training; only the forgotten images are missing.
Source: exact unlearning as L. Bourtoule et al. define it, "Machine unlearning", IEEE S&P 2021,
arXiv 1912.03817, section III.
"""

from launcher.api import JobError
from trueface.train import fit
from trueface.unlearn.method import Request, Unlearned, steps


def unlearn(request: Request) -> Unlearned:
    """Train a fresh model on the retained images; the forget set is never read.

    Raises:
        JobError: there is nothing to retain, stopped, or the loss is no finite number.
    """
    if request.retain is None or not len(request.retain):
        raise JobError("retrain needs the images that are not to be forgotten, and there are none")
    model = request.fresh()
    feed = request.retain.feed("trained")
    trained = fit(model, feed, request.validation, request.settings, watch=request.watch)
    return Unlearned(
        model=model,
        log=steps(trained.epochs),
        seconds=trained.seconds,
        samples_read=trained.samples_read,
    )
