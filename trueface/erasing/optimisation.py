"""The loop of gradient steps that the methods have in common."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from trueface.erasing.problem import ErasingProblem
from trueface.runtime.errors import JobError

MOST_REPORTS = 100  # of the progress, over all steps


def descend(
    problem: ErasingProblem,
    parameters: Sequence[nn.Parameter],
    loss_of: Callable[[], Tensor],
    *,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Take the problem's steps with Adam; keep the loss of each in `problem.history`.

    Adam without weight decay, at a constant rate, as in the programs of ESD and of All but One's
    predecessors. It scales gradients by their size, so that a loss taken as a mean over pixels and one
    taken as their sum give the same steps.

    Args:
        problem: steps, learning rate, stop signal, progress.
        parameters: that change.
        loss_of: the loss of a fresh batch, each time it is called.
        after: called behind each step.

    Raises:
        JobError: stopped, or the loss or a parameter is not a number any more; says at which step.
    """
    options, total = problem.options, problem.options.num_steps
    optimizer = torch.optim.Adam(parameters, lr=options.lr)
    for step in range(1, total + 1):
        problem.refuse_stop(step - 1)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise JobError(
                f"the loss is {value} at step {step} of {total}; lower lr, which is {options.lr:g}"
            )
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        optimizer.step()
        after()
        problem.history.append((step, value))
        if step % max(1, total // MOST_REPORTS) == 0 or step == total:
            problem.watch.progress(step=step, total=total, loss=value)
    if not all(bool(parameter.isfinite().all()) for parameter in parameters):
        raise JobError(
            f"parameters are no numbers after step {total} of {total}; lower lr, which is {options.lr:g}"
        )


def mean_square(difference: Tensor) -> Tensor:
    """Return the mean of the squared entries: the squared norm of the papers, per pixel."""
    return difference.square().mean()
