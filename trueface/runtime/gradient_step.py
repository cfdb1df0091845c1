"""One step down the loss of a batch: gradients, their check and clipping, optimizer, moving average.

Every training of this package takes its steps here. The loss and the norm of the gradients are read
from the device together, once per step.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from trueface.runtime.moving_average import ExponentialMovingAverage

LEAST_SCALE = 1.0  # loss scale of fp16; trainings that converge have scales in the thousands
# the loss, the norm of the gradients, or the loss scale of fp16
Quantity = Literal["loss", "norm", "scale"]
# returns the error for a quantity whose value is not finite, or for a scale that is too small
NonFiniteError = Callable[[Quantity, float], Exception]


class GradientStep:
    """The steps of an optimizer, each down the loss of a batch.

    Args:
        optimizer: optimizer of the trainable parameters.
        clip: largest norm of the gradients; longer ones are scaled down to it. 0 disables clipping.
        nonfinite: returns the error that is raised before the optimizer's step if the loss or the
            norm of the gradients is not finite. If None, neither is checked, and the loss is read
            after the step.
        checks_norm: whether the norm is checked as well as the loss.
        scaler: gradient scaler for fp16. It skips steps whose gradients are not finite. The norm is
            therefore not checked.
        average: moving average of the network, updated after each step.

    Attributes:
        optimizer: optimizer of the trainable parameters.
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

    def backward(self, loss: Tensor, *, adds: bool = False) -> None:
        """Compute the gradients of `loss`, multiplied by the loss scale under fp16.

        Args:
            loss: a scalar.
            adds: add them to the current gradients, instead of replacing these.
        """
        if not adds:
            self.optimizer.zero_grad(set_to_none=True)
        if self._scaler is not None:
            loss = self._scaler.scale(loss)
        loss.backward()  # type: ignore[no-untyped-call]  # torch

    def apply(self, loss: Tensor | None = None) -> float:
        """Check and clip the current gradients, and take a step of the optimizer.

        Args:
            loss: the loss that the gradients were computed from. If None, no loss is checked.

        Returns:
            The value of the loss, or 0 without one.
        """
        return self.apply_and_read(loss)[0]

    def apply_and_read(self, loss: Tensor | None, *scalars: Tensor) -> list[float]:
        """Take the step of `apply`; return the values of the loss and of further scalars.

        All of them are read from the device at once. Integers are exact up to 2^24.
        """
        values = self._check_gradients(loss, scalars)
        self._step_optimizer()
        if self._average is not None:
            self._average.update()
        return _read(loss, *scalars) if values is None else values

    def read(self, loss: Tensor | None, *scalars: Tensor) -> list[float]:
        """Return the values of the loss and of further scalars, without taking a step."""
        value, *others = _read(loss, *scalars)
        self.require_finite("loss", value)
        return [value, *others]

    def scale_gradients(self, factor: float) -> None:
        """Multiply the current gradients by a factor."""
        gradients = [each.grad for each in self._parameters if each.grad is not None]
        if gradients:
            torch._foreach_mul_(gradients, factor)

    def enqueue(self, loss: Tensor) -> Tensor:
        """Take a step down `loss` without reading from the device; `accept` is called afterwards.

        Returns:
            Loss, norm of the gradients (0 if it is not needed) and loss scale of this step, (3,) float64.
        """
        self.backward(loss)
        norm = self._clip_gradients()
        one = torch.ones((), device=loss.device)
        scale = one if self._scaler is None else self._scaler.scale(one)
        self._step_optimizer()
        values = (loss.detach(), torch.zeros_like(one) if norm is None else norm, scale)
        return torch.stack([value.double() for value in values])

    def accept(self, loss: float, norm: float, scale: float) -> None:
        """Check what `enqueue` returned, and update the moving average.

        The optimizer has taken its step, so the weights of a refused step must not be written.
        """
        self.require_finite("loss", loss)
        if self._checks_norm:
            self.require_finite("norm", norm)
        self._require_scale(scale)
        if self._average is not None:
            self._average.update()

    def discard(self) -> None:
        """Drop the gradients, and the marks of an unfinished `enqueue` in the gradient scaler."""
        self.optimizer.zero_grad(set_to_none=True)
        if self._scaler is not None:
            self._scaler.update(self._scaler.get_scale())

    def check(self, loss: Tensor | None) -> float | None:
        """Check a loss and the current gradients, and clip the gradients, without taking a step.

        Returns:
            The value of the loss, or None if nothing is checked.
        """
        values = self._check_gradients(loss, ())
        return None if values is None else values[0]

    def _check_gradients(
        self, loss: Tensor | None, scalars: Sequence[Tensor]
    ) -> list[float] | None:
        norm = self._clip_gradients()
        if self._nonfinite is None:
            return None
        value, length, *others = _read(loss, norm if self._checks_norm else None, *scalars)
        self.require_finite("loss", value)
        self.require_finite("norm", length)
        if self._scaler is not None:
            self._require_scale(self._scaler.get_scale())
        return [value, *others]

    def read_loss(self, loss: Tensor | None) -> float:
        """Return the value of a loss, or 0 without one, after checking that it is finite."""
        if loss is None:
            return 0.0
        value = loss.item()
        self.require_finite("loss", value)
        return value

    def _clip_gradients(self) -> Tensor | None:
        """Divide the gradients by the loss scale and clip them; return their norm if it is needed."""
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        if not self._clip and not self._checks_norm:
            return None
        norm = get_total_norm([each.grad for each in self._parameters if each.grad is not None])
        if self._clip:
            clip_grads_with_norm_(self._parameters, self._clip, norm)
        return norm

    def _step_optimizer(self) -> None:
        if self._scaler is None:
            self.optimizer.step()
        else:
            self._scaler.step(self.optimizer)
            self._scaler.update()

    def _require_scale(self, scale: float) -> None:
        if self._nonfinite is not None and scale < LEAST_SCALE:
            raise self._nonfinite("scale", scale)

    def require_finite(self, quantity: Quantity, value: float) -> None:
        """Raise the error for a quantity whose value is not finite, if quantities are checked."""
        if self._nonfinite is not None and not math.isfinite(value):
            raise self._nonfinite(quantity, value)


def _read(*scalars: Tensor | None) -> list[float]:
    """Return the values of scalars, 0 for None. Each read waits for the device, so there is one."""
    given = [
        each.detach().to(torch.promote_types(each.dtype, torch.float32))
        for each in scalars
        if each is not None
    ]
    values = iter(torch.stack(given).tolist() if given else ())
    return [0.0 if each is None else next(values) for each in scalars]


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Set the learning rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = lr
