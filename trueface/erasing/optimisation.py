"""The loop of gradient steps that the methods have in common."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from trueface.erasing.problem import STOPPED, ErasingProblem
from trueface.runtime.errors import JobError
from trueface.runtime.stepping import Steps, run_steps


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
    descent = _Descent(problem, parameters, loss_of, after)
    run_steps(descent, problem.watch)
    if not all(bool(parameter.isfinite().all()) for parameter in parameters):
        raise JobError(
            f"parameters are no numbers after step {descent.total} of {descent.total}; lower lr, which is "
            f"{problem.options.lr:g}"
        )


class _Descent(Steps):
    stopped = STOPPED

    def __init__(
        self,
        problem: ErasingProblem,
        parameters: Sequence[nn.Parameter],
        loss_of: Callable[[], Tensor],
        after: Callable[[], None],
    ) -> None:
        super().__init__(problem.options.num_steps)
        self.problem, self.loss_of, self.after = problem, loss_of, after
        self.optimizer = torch.optim.Adam(parameters, lr=problem.options.lr)

    def advance(self) -> Mapping[str, float]:
        """Learn from a fresh batch."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss_of()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        self.optimizer.step()
        self.after()
        return {"loss": float(loss.detach())}

    def diverged(self, name: str, loss: float) -> str:
        """Name the step and the rate."""
        return (
            f"the {name} is {loss} at step {self.step} of {self.total}; lower lr, which is "
            f"{self.problem.options.lr:g}"
        )

    def note(self, losses: Mapping[str, float]) -> Mapping[str, float]:
        """Keep the loss of each step."""
        self.problem.history.append((self.step, losses["loss"]))
        return losses


def mean_square(difference: Tensor) -> Tensor:
    """Return the mean of the squared entries: the squared norm of the papers, per pixel."""
    return difference.square().mean()
