"""The exponential moving average of a network's weights over the steps of its training.

`torch.optim.swa_utils.AveragedModel` gives the same bits, but not all that is needed here. It also averages frozen
weights: with a frozen ResNet-18, an update takes 5.6 ms instead of 0.8 ms on a core. It always begins with the
weights after the first step, and copies buffers that are not averaged.
"""

import copy
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

Network_co = TypeVar("Network_co", bound=nn.Module, covariant=True)

# keys of a state, as `torch.optim.swa_utils.AveragedModel` writes them
COUNT, PREFIX = "n_averaged", "module."


class ExponentialMovingAverage(Generic[Network_co]):
    """An average of weights: after each step, average += (1 - decay) · (weights - average).

    Frozen parameters are not averaged, because they do not change.

    Args:
        network: the network in training.
        decay: fraction of the average that each update retains, in 0 … 1. With 0 the average equals
            the last weights.
        rises: whether the decay of update n is at most (1 + n) / (10 + n). The initial weights then
            have little influence after a short training (arXiv 2006.11239, appendix B).
        begins_after_step: whether the average begins with the weights after the first step, as in
            `torch.optim.swa_utils`. Otherwise it begins with the initial weights.
        buffers: whether buffers are averaged as well, such as the statistics of batch norm.
            Otherwise the average has the buffers that the network had at the start.

    Attributes:
        network: a copy with the average weights, in evaluation mode and without gradients.
        steps: number of updates.
    """

    def __init__(
        self,
        network: Network_co,
        decay: float,
        *,
        rises: bool = False,
        begins_after_step: bool = False,
        buffers: bool = False,
    ) -> None:
        self.decay, self.rises, self.buffers = decay, rises, buffers
        self.begins_after_step, self.steps = begins_after_step, 0
        self.network = copy.deepcopy(network)
        self._latest: nn.Module = network
        pairs = zip(self.network.parameters(), network.parameters(), strict=True)
        self._parameters = [pair for pair in pairs if pair[1].requires_grad]
        self.network.eval().requires_grad_(requires_grad=False)

    @torch.no_grad()
    def update(self) -> None:
        """Update the average with the current weights, after a step of the training."""
        self.steps += 1
        pairs: list[tuple[Tensor, Tensor]] = [*self._parameters]
        if self.buffers:
            pairs += zip(self.network.buffers(), self._latest.buffers(), strict=True)
        if self.begins_after_step and self.steps == 1:
            for average, latest in pairs:
                average.copy_(latest)
            return
        rising = (1 + self.steps) / (10 + self.steps)
        decay = min(self.decay, rising) if self.rises else self.decay
        counts = [pair for pair in pairs if not pair[0].is_floating_point()]
        for average, latest in counts:
            average.copy_(average * decay + latest * (1 - decay))
        if counts:
            pairs = [pair for pair in pairs if pair[0].is_floating_point()]
        averages, weights = zip(*pairs, strict=True)
        torch._foreach_lerp_(averages, weights, 1 - decay)  # one pass over all weights

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the number of updates, with the keys of torch's `AveragedModel`."""
        return {COUNT: torch.tensor(self.steps), **self.network.state_dict(prefix=PREFIX)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the average and the number of updates that `state_dict` returned."""
        self.steps = int(state[COUNT])
        self.network.load_state_dict(
            {name.removeprefix(PREFIX): value for name, value in state.items() if name != COUNT}
        )
