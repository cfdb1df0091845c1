"""The moving average of a network's weights, which samples better than the weights themselves."""

import copy

import torch
from torch import nn

from trueface.diffusion.network import EpsNetwork


class Ema:
    """An average of weights over the steps of a training (arXiv 2006.11239, appendix B).

    The decay rises with the steps, (1 + n) / (10 + n) up to what is asked for, so that a short
    training is not averaged with its beginning.

    Args:
        network: under training.
        decay: highest, 0 … 1; 0: the average is the last weights.
    """

    def __init__(self, network: EpsNetwork, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.network = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take the weights after one more step into the average."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(  # the one pass over all weights that there is
            list(self.network.parameters()), list(network.parameters()), 1 - decay
        )
