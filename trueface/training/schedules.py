"""The learning rate of a training: three rules, and when there is no more to be had."""

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from trueface.training.settings import LearningSettings

DECAY = 0.1  # the original's
LEAST = 1e-6  # below it the original stops


class Rate:
    """The rule of a training's learning rate at work.

    plateau: the rate falls to a tenth after every epoch that is more than `lr_decay_epochs` later
    than the best one (the original's rule, which does not begin to count anew when it has fallen);
    step: after every `lr_decay_epochs` epochs, whatever they brought; onecycle: step by step,
    L. Smith and N. Topin, arXiv 1708.07120.
    """

    def __init__(self, optimizer: Optimizer, settings: LearningSettings, images: int) -> None:
        self._optimizer, self._settings = optimizer, settings
        self.idle_epochs = 0  # since the best one
        self._epochs = 0
        self._cycle: OneCycleLR | None = None
        if settings.schedule == "onecycle":
            steps = math.ceil(images / settings.batch_size) * settings.num_epochs
            self._cycle = OneCycleLR(optimizer, settings.lr, total_steps=steps + 1)

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self._optimizer.param_groups[0]["lr"])

    @property
    def exhausted(self) -> bool:
        """Whether more epochs would change nothing, or are not wanted."""
        patience = self._settings.early_stop
        if 0 < patience <= self.idle_epochs:
            return True
        return self._cycle is None and self.lr < min(LEAST, self._settings.lr)

    def step(self) -> None:
        """Note a step of the optimizer."""
        if self._cycle is not None:
            self._cycle.step()

    def heed(self, *, progress: bool) -> None:
        """Note an epoch, and whether it is the best so far."""
        self._epochs += 1
        self.idle_epochs = 0 if progress else self.idle_epochs + 1
        every = self._settings.lr_decay_epochs
        falls = {
            "plateau": self.idle_epochs > every,
            "step": every > 0 and self._epochs % every == 0,
        }
        if every > 0 and falls.get(self._settings.schedule, False):
            for group in self._optimizer.param_groups:
                group["lr"] *= DECAY

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs; the rate itself is in the optimizer's state."""
        return {
            "idle_epochs": self.idle_epochs,
            "epochs": self._epochs,
            "cycle": None if self._cycle is None else self._cycle.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.idle_epochs, self._epochs = state["idle_epochs"], state["epochs"]
        if self._cycle is not None:
            self._cycle.load_state_dict(state["cycle"])
