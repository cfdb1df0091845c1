"""Relabelling: the poisoned model is trained on, on all images, with the flipped labels put right.

In a two-class task a known flip gives the truth away, y* = 1 - y: no image is lost, and what the
model has learned of images stays. This is the plainest corrective method and the one that others
must beat at equal time. Source of the setting: S. Goel et al., "Corrective machine unlearning",
TMLR 2024, arXiv 2402.14015. Where the retained images must not be read, the forget set alone is
relabelled.
"""

from trueface.train import fit
from trueface.unlearn.method import Request, Unlearned, steps


def unlearn(request: Request) -> Unlearned:
    """Train the model on, every label true.

    Raises:
        JobError: stopped, or the loss is no finite number.
    """
    examples = request.forget if request.retain is None else request.forget + request.retain
    feed = examples.feed("true")
    trained = fit(request.model, feed, request.validation, request.settings, watch=request.watch)
    return Unlearned(
        model=request.model,
        log=steps(trained.epochs),
        seconds=trained.seconds,
        samples_read=trained.samples_read,
    )
