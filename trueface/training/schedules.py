"""The learning rate of a training: five schedules, one of which is torch's own.

    plateau: A factor of `lr_gamma` (0.1) after every epoch that is more than `lr_decay_epochs` later
        than the best one. As in the original, counting continues after a decay. The counter of torch's
        ReduceLROnPlateau would restart.
    step: A factor of `lr_gamma` (0.1) after every `lr_decay_epochs` epochs, as torch's StepLR.
    onecycle: The OneCycleLR of torch, step by step (L. Smith and N. Topin, arXiv 1708.07120). It also
        moves the momentum of SGD from 0.95 to 0.85 and back, unless a momentum is set.
    warmup_cosine: For classes. A linear rise over 5 % of the steps, then a cosine to zero.
    warmup_onecycle: For classes. A cosine from 4 % to the highest rate over 30 % of the steps, then a
        cosine to zero. The OneCycleLR of torch rises for one step less and ends at 4e-6.

The last two are closed forms of the step number. As torch's LambdaLR they would be ahead of the
history by one step, and warn if half precision skips the first.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from trueface.training.config import TrainerConfig

LOWEST = 1e-6  # below it the original stops
# torch's own; arXiv 1708.07120
ONE_CYCLE_RISE, ONE_CYCLE_LOW = 0.3, 0.04
# fraction of the steps in which the cosine's rate rises from nothing; P. Goyal et al., arXiv 1706.02677
WARMUP = 0.05


class LearningRateSchedule(Protocol):
    """Moves the learning rate of an optimizer; the rate itself is in the optimizer's state."""

    @property
    def is_finished(self) -> bool:
        """Whether the rate is too low for more epochs to change anything."""
        return False

    def begin_step(self) -> None:
        """Set the rate of the step that is about to begin."""
        return

    def end_step(self) -> None:
        """Note a step of the optimizer."""
        return

    def end_epoch(self, idle_epochs: int) -> None:  # noqa: ARG002  # for others
        """Note the end of an epoch, and how many epochs the best one is ago."""
        return

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs."""
        return {"cycle": None}

    def restore(self, state: Mapping[str, Any], epochs: int) -> None:  # noqa: ARG002  # for others
        """Go on from what `state` gave, after so many epochs."""
        return


class Decay(LearningRateSchedule):
    """Decays the rate at fixed intervals of epochs, or without progress. See the module."""

    def __init__(self, optimizer: Optimizer, config: TrainerConfig) -> None:
        self._optimizer, self._config, self._epochs = optimizer, config, 0

    @property
    def is_finished(self) -> bool:
        """Whether the rate is below the original's least."""
        return current_lr(self._optimizer) < min(LOWEST, self._config.lr)

    def end_epoch(self, idle_epochs: int) -> None:
        """Count an epoch; decay the rate if it is time, or if patience has run out."""
        self._epochs += 1
        every = self._config.lr_decay_epochs
        if every <= 0:
            return
        if idle_epochs > every if self._config.schedule == "plateau" else not self._epochs % every:
            for group in self._optimizer.param_groups:
                group["lr"] *= self._config.lr_gamma

    def restore(self, state: Mapping[str, Any], epochs: int) -> None:  # noqa: ARG002  # none kept
        """Go on after so many epochs."""
        self._epochs = epochs


class OneCycle(LearningRateSchedule):
    """Moves the rate with every step, as torch does."""

    def __init__(self, optimizer: Optimizer, config: TrainerConfig, steps: int) -> None:
        self._torch = OneCycleLR(
            optimizer, config.lr, total_steps=steps + 1, cycle_momentum=config.cycle_momentum
        )

    def end_step(self) -> None:
        """Set the rate of the next step."""
        self._torch.step()

    def state(self) -> dict[str, Any]:
        """Return the state of torch's scheduler."""
        return {"cycle": self._torch.state_dict()}

    def restore(self, state: Mapping[str, Any], epochs: int) -> None:  # noqa: ARG002  # counted
        """Go on from the state of torch's scheduler."""
        self._torch.load_state_dict(state["cycle"])


class ClosedForm(LearningRateSchedule):
    """Sets the rate before every step, to a fraction of the highest."""

    def __init__(
        self, optimizer: Optimizer, config: TrainerConfig, steps: int, rule: "Rule"
    ) -> None:
        self._optimizer, self._highest = optimizer, config.lr
        self._rule, self._steps, self._step = rule, steps, 0

    def begin_step(self) -> None:
        """Set the rate of the step that is about to begin."""
        lr = self._highest * self._rule(self._step, self._steps)
        for group in self._optimizer.param_groups:
            group["lr"] = lr

    def end_step(self) -> None:
        """Count a step."""
        self._step += 1

    def state(self) -> dict[str, Any]:
        """Return the number of the next step."""
        return {"step": self._step}

    def restore(self, state: Mapping[str, Any], epochs: int) -> None:  # noqa: ARG002  # counted
        """Go on at the step of the state."""
        self._step = state["step"]


Rule = Callable[[int, int], float]  # (step from 0, steps) -> fraction of the highest rate


def warmup_cosine(step: int, steps: int) -> float:
    """Return the rate of a step, from 0, as a fraction of the highest."""
    rise = max(1, round(WARMUP * steps))
    return (step + 1) / rise if step < rise else _cosine(step - rise, steps - rise)


def warmup_onecycle(step: int, steps: int) -> float:
    """Return the rate of a step, from 0, as a fraction of the highest."""
    rise, low = max(1, round(ONE_CYCLE_RISE * steps)), ONE_CYCLE_LOW
    if step < rise:
        return low + (1 - low) * (1 - math.cos(math.pi * step / rise)) / 2
    return _cosine(step - rise, steps - rise)


RULES: Mapping[str, Rule] = MappingProxyType(
    {"warmup_cosine": warmup_cosine, "warmup_onecycle": warmup_onecycle}
)


def make_schedule(optimizer: Optimizer, config: TrainerConfig, images: int) -> LearningRateSchedule:
    """Return the schedule of a training with this number of images per epoch."""
    steps = math.ceil(images / config.rows_per_step) * config.num_epochs
    match config.schedule:
        case "plateau" | "step":
            return Decay(optimizer, config)
        case "onecycle":
            return OneCycle(optimizer, config, steps)
        case "warmup_cosine" | "warmup_onecycle":
            return ClosedForm(optimizer, config, steps, RULES[config.schedule])


def current_lr(optimizer: Optimizer) -> float:
    """Return the learning rate that an optimizer has now."""
    return float(optimizer.param_groups[0]["lr"])


def _cosine(step: int, steps: int) -> float:
    return (1 + math.cos(math.pi * step / max(steps, 1))) / 2
