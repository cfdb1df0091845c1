"""Boundary shrink: what is forgotten goes to the nearest other class, and the border after it.

Which class is nearest is asked by one step of the fast gradient sign method against the model as it
came; then the model is trained on the forget set with these classes.

Source: M. Chen et al., "Boundary unlearning: rapid forgetting of deep networks via shifting the
decision boundary", CVPR 2023, arXiv 2303.11570. What differs:
  - where the step does not leave the own class, the likeliest other one is taken; else the sample
    would be taught its label once more;
  - the nearest class is looked up once for each sample, as it is tested, not anew for every
    augmented view: two passes more instead of two an epoch. Of two classes it is the other one, unasked;
  - the bound is a share of the inputs' range, which is the paper's for images in 0 … 1;
  - batch statistics stay as they are: those of the forget set alone would break all other answers.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from trueface.data.examples import Examples
from trueface.models.logits import cross_entropy
from trueface.runtime.errors import JobError
from trueface.unlearning.adversarial import away, climb, floats, other, range_of
from trueface.unlearning.api import Request, Result
from trueface.unlearning.hyperparameters import ShrinkOptions
from trueface.unlearning.log import Step
from trueface.unlearning.methods.common import descend
from trueface.unlearning.optimization import Descent, teach


def unlearn(request: Request) -> Result:
    """Train the model on the forget set with the nearest other classes.

    Raises:
        JobError: nothing could be read, stopped, or no finite result.
    """
    options = request.own(ShrinkOptions)
    moved = nearest(request, options.bound)
    descent, log = Descent(request.model.parameters(), options), []
    for epoch in range(options.epochs):
        teach(request.model, options.bn)
        loss = descend(
            request,
            descent,
            moved.batches("trained", epoch=epoch, batch_size=options.batch_size),
            lambda batch: cross_entropy(request.logits(batch.inputs), batch.labels),
        )
        request.watch.progress(step=epoch + 1, total=options.epochs, loss=loss)
        log.append(Step(step=epoch + 1, metrics={"loss": loss, **request.measured()}))
    return Result(model=request.model, log=tuple(log))


def nearest(request: Request, bound: float) -> Examples:
    """Return the forget set, each sample labelled with the class that lies nearest to it.

    Args:
        request: the model as it came, and the forget set.
        bound: of the attack, in the inputs' range.

    Raises:
        JobError: nothing could be read, or stopped.
    """
    if request.classes == 2:
        return request.forget.relabelled([1 - label for label in request.forget.trained])
    request.model.eval()
    # a pass of its own: samples of one batch do not tell what the others' lie between
    within = range_of(_inputs(request))
    found: dict[int, int] = {}
    for batch in request.forget.batches("trained", epoch=None):
        request.check_stop()
        points = floats(batch.inputs.to(request.watch.device))
        labels = batch.labels.to(request.watch.device)
        slope, eps = away(request.logits, labels), bound * within.width
        attacked = climb(slope, points, eps=eps, steps=1, within=within)
        with torch.no_grad():
            classes = other(request.logits(attacked), labels)
        found.update(zip(batch.positions.tolist(), classes.tolist(), strict=True))
    rows = [row for row, position in enumerate(request.forget.positions) if position in found]
    if not rows:
        raise JobError(f"not one of {len(request.forget)} samples could be read")
    some = request.forget.some(rows)
    return some.relabelled([found[position] for position in some.positions])


def _inputs(request: Request) -> Iterator[Tensor]:
    for batch in request.forget.batches("trained", epoch=None):
        request.check_stop()
        yield floats(batch.inputs)
