"""Steps whose gradients are taken at weights that were moved to where the loss is higher: SAM and AWP.

    sam    all learnable parameters together: eps = rho * g / |g|. P. Foret et al., arXiv 2010.01412,
           algorithm 1
    awp    each weight of two dimensions or more by itself, in parts of its own length:
           phi_l = gamma * |theta_l| * g_l / |g_l|. D. Wu et al., arXiv 2004.05884, equation 10; biases
           and batch norms stay

Both make two passes a step: g at the weights as they are, and the gradient of the optimizer's step at
the moved ones. In the second pass nothing else differs: dropout draws the same masks, and what the
first pass noted in buffers (the running statistics of batch norm) stays. Differences from the programs
that were published with them:
  - weights come back from a copy: adding and subtracting does not restore their bits;
  - AWP's direction comes from the model itself. The published proxy, a copy that takes one SGD step
    without momentum or decay, gives the same direction, as its length is divided out;
  - AWP's masks of dropout are those of the first pass, and it moves no statistics of a second model.

With fp16 the scale of the loss is divided out with the gradient's length. Of a group's ranks each has the
averaged gradients, so all move their weights alike.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from trueface.runtime.errors import JobError, UsageError
from trueface.training.config import TrainerConfig
from trueface.training.settings import BOTH

# of parameters and their gradients: what each gradient is multiplied by and added; None: no way up
Lengths = Callable[[Sequence[Tensor], Sequence[Tensor]], list[float] | None]
log = logging.getLogger(__name__)


class Perturbation:
    """A second pass of each step, at moved weights.

    Args:
        lengths: how far each parameter goes along its gradient.
        least_dimensions: of parameters that move.
        first_epoch: from 0, with which it begins.
        of_ascent: the first pass is that of an objective's `ascent_step`.
    """

    def __init__(
        self,
        lengths: Lengths,
        *,
        least_dimensions: int = 0,
        first_epoch: int = 0,
        of_ascent: bool = False,
    ) -> None:
        self._lengths, self._least_dimensions = lengths, least_dimensions
        self._first_epoch, self.of_ascent = first_epoch, of_ascent

    def in_epoch(self, epoch: int) -> "Perturbation | None":
        """Return this, or None in the epochs, from 0, before it begins."""
        return self if epoch >= self._first_epoch else None

    @contextmanager
    def moved(self, model: nn.Module, draws: "Draws") -> Iterator[None]:
        """Return a context of moved weights; it is entered when the first pass's gradients are there.

        At its end weights and buffers have the bits that they had at its start. Where the gradient is 0,
        or no finite number, nothing moves.

        Args:
            model: its parameters that have no gradient, as frozen ones, stay.
            draws: from before the first pass.
        """
        moving = [
            parameter
            for parameter in model.parameters()
            if parameter.grad is not None and parameter.ndim >= self._least_dimensions
        ]
        gradients = [cast(Tensor, parameter.grad) for parameter in moving]
        values, buffers = [each.detach() for each in moving], list(model.buffers())
        kept = [(each, each.clone()) for each in (*values, *buffers)]
        factors = self._lengths(values, gradients) if moving else None
        if factors is not None:
            for value, gradient, factor in zip(values, gradients, factors, strict=True):
                value.add_(gradient, alpha=factor)
        draws.repeat()
        try:
            yield
        finally:
            for tensor, value in kept:
                tensor.copy_(value)


class Draws:
    """The state of the generators that dropout draws from, so that a pass can be repeated.

    Args:
        device: of the model.
    """

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._states = self._now()

    def repeat(self) -> None:
        """Let the next pass draw what was drawn since."""
        torch.set_rng_state(self._states[0])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(self._states[1], self._device)

    def _now(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        if self._device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self._device))
        return states


def make(config: TrainerConfig) -> Perturbation | None:
    """Return the perturbation that a training asks for; None: none.

    Raises:
        UsageError: it asks for both.
    """
    if config.sam and config.awp:
        raise UsageError(BOTH)
    if config.sam:
        return sam(config.sam)
    if config.awp:
        if config.freeze:
            log.warning("awp=%g freeze=true effect=it moves the last layer only", config.awp)
        return awp(config.awp, first_epoch=config.awp_from - 1)
    return None


def refuse_two(own: object, config: TrainerConfig) -> None:
    """Refuse a perturbation beside the one that an objective has of its own.

    Raises:
        JobError: `own`, what the objective answered, is one.
    """
    if own is not None:
        name = "sam" if config.sam else "awp"
        raise JobError(
            f"objective {config.objective} has a second pass of its own, and {name}: "
            f"{getattr(config, name):g} asks for another; set {name}: 0"
        )


def sam(radius: float) -> Perturbation:
    """Return sharpness-aware minimization: all parameters move by `radius` in total, > 0."""

    def lengths(_: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[float] | None:
        norm = math.hypot(*_norms(gradients))
        return [radius / norm] * len(gradients) if 0 < norm < math.inf else None

    return Perturbation(lengths)


def awp(share: float, *, first_epoch: int = 0) -> Perturbation:
    """Return adversarial weight perturbation: each weight moves by `share` of its length, > 0.

    Args:
        share: gamma; weights whose gradient is 0 stay.
        first_epoch: from 0.
    """

    def lengths(values: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[float] | None:
        norms = _norms(gradients)
        if not all(map(math.isfinite, norms)):
            return None
        own = _norms(values)
        return [
            share * length / norm if norm else 0.0 for length, norm in zip(own, norms, strict=True)
        ]

    return Perturbation(lengths, least_dimensions=2, first_epoch=first_epoch, of_ascent=True)


def _norms(tensors: Sequence[Tensor]) -> list[float]:
    """Return the lengths of tensors; of all at once, as each answer of a GPU is waited for."""
    norms: list[float] = torch.stack([torch.linalg.vector_norm(each) for each in tensors]).tolist()
    return norms
