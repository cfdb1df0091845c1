"""One pass over samples, a step down a loss for each batch of them."""

from collections.abc import Callable, Iterable

from torch import Tensor

from launcher.api import JobError
from trueface.unlearn.descent import Descent
from trueface.unlearn.method import Request
from trueface.unlearn.samples import Batch


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
