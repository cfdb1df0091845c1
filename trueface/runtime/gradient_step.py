"""One step down the loss of a batch: gradients, their check and clipping, optimizer, moving average.

Every training of this package takes its steps here. Loss and norm of the gradients are read from the
device together, once per step.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from trueface.runtime.moving_average import ExponentialMovingAverage

LEAST_SCALE = 1.0  # of fp16 gradients; a healthy training's is in the thousands
# the loss, the norm of the gradients, or the scale of fp16 gradients
Quantity = Literal["loss", "norm", "scale"]
# returns the error of a quantity with a value that is not finite, or of a scale that is too small
NonFiniteError = Callable[[Quantity, float], Exception]


class GradientStep:
    """The steps of an optimizer, each down the loss of a batch.

    Args:
        optimizer: of the parameters that learn.
        clip: longer gradients are shortened to this norm. 0: never.
        nonfinite: makes the error that is raised before the optimizer's step if the loss or the norm
            of the gradients is not finite. None: neither is checked, and the loss is read after the
            step.
        checks_norm: the norm is checked as well as the loss.
        scaler: of the loss, for fp16. It leaves out steps with gradients that are not finite, so that
            their norm is not checked.
        average: of the network, updated after each step.

    Attributes:
        optimizer: of the parameters that learn.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        clip: float = 0.0,
        nonfinite: NonFiniteError | None = None,
        checks_norm: bool = True,
        scaler: GradScaler | None = None,
        average: ExponentialMovingAverage[nn.Module] | None = None,
    ) -> None:
        self.optimizer = optimizer
        self._scaler = scaler if scaler is not None and scaler.is_enabled() else None
        self._clip, self._nonfinite, self._average = clip, nonfinite, average
        self._checks_norm = checks_norm and nonfinite is not None and self._scaler is None
        self._parameters = [
            parameter for group in optimizer.param_groups for parameter in group["params"]
        ]

    def __call__(self, loss: Tensor) -> float:
        """Take one step down `loss` and return its value."""
        self.backward(loss)
        return self.apply(loss)

    def backward(self, loss: Tensor) -> None:
        """Set the gradients to those of `loss`, times the scale of fp16."""
        self.optimizer.zero_grad(set_to_none=True)
        if self._scaler is not None:
            loss = self._scaler.scale(loss)
        loss.backward()  # type: ignore[no-untyped-call]  # torch

    def apply(self, loss: Tensor | None = None) -> float:
        """Check and clip the gradients that are set, and take the optimizer's step along them.

        Args:
            loss: whose gradients they are. None: it is not checked.

        Returns:
            Its value, or 0.
        """
        value = self.check(loss)
        if self._scaler is None:
            self.optimizer.step()
        else:
            self._scaler.step(self.optimizer)
            self._scaler.update()
        if self._average is not None:
            self._average.update()
        return self.read_loss(loss) if value is None else value

    def check(self, loss: Tensor | None) -> float | None:
        """Check a loss and the gradients that are set, and clip these; take no step.

        Returns:
            The value of the loss, or None if nothing is checked.
        """
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        norm = None
        if self._clip or self._checks_norm:
            norm = get_total_norm([each.grad for each in self._parameters if each.grad is not None])
        if self._clip and norm is not None:
            clip_grads_with_norm_(self._parameters, self._clip, norm)
        if self._nonfinite is None:
            return None
        if norm is None or not self._checks_norm:
            value = self.read_loss(loss)
        elif loss is None:
            value = 0.0
            self._require_finite("norm", norm.item())
        else:  # each reading waits for the device
            value, length = torch.stack((loss.detach(), norm)).tolist()
            self._require_finite("loss", value)
            self._require_finite("norm", length)
        if self._scaler is not None and (scale := self._scaler.get_scale()) < LEAST_SCALE:
            raise self._nonfinite("scale", scale)
        return value

    def read_loss(self, loss: Tensor | None) -> float:
        """Return the value of a loss, or 0 without one; check it as before a step."""
        if loss is None:
            return 0.0
        value = loss.item()
        self._require_finite("loss", value)
        return value

    def _require_finite(self, quantity: Quantity, value: float) -> None:
        if self._nonfinite is not None and not math.isfinite(value):
            raise self._nonfinite(quantity, value)


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Set the learning rate of all parameters from now on."""
    for group in optimizer.param_groups:
        group["lr"] = lr
