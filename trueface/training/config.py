"""The values that the trainer works with: what a kind's settings come to, for any number of classes."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from trueface.training.qualities.options import CollaborationOptions

ScheduleName = Literal["plateau", "step", "onecycle", "warmup_cosine", "warmup_onecycle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerConfig:
    """Objective, optimizer, schedule and selection of a training; names are those of the settings."""

    objective: str  # as registered in `trueface.training.objectives`
    num_epochs: int  # 1 at least
    batch_size: int  # images a step
    seed: int  # root of dropout; the order of images is the feed's own
    lr: float  # the highest, where the schedule moves it
    optimizer: Literal["adam", "adamw", "sgd"]
    weight_decay: float
    schedule: ScheduleName
    precision: str = "fp32"  # bf16 and fp16 keep the weights in fp32
    momentum: float = 0.0  # of sgd
    fused: bool = False  # one kernel for all parameters; rounds otherwise than a loop over them
    lr_decay_epochs: int = -1  # of plateau and step; <= 0: never
    early_stop: int = 0  # epochs without progress; 0: never
    select: Literal["best", "last"] = "best"  # which epoch's weights are kept
    ema: float = 0.0  # decay of a running mean of the weights; 0: none
    finite_gradients: bool = True  # end when their norm is not; False: the loss alone decides
    freeze: bool = False  # only the last layer learns
    freeze_bn: bool = True  # with freeze: batch statistics stay, too
    compile: bool = False
    rows_per_image: int = 1  # of a batch: one for each quality of an image
    collaboration: CollaborationOptions | None = None  # of the qualities' features

    @property
    def rows_per_step(self) -> int:
        """How many rows a whole batch has."""
        return self.batch_size * self.rows_per_image

    @classmethod
    def of(cls, settings: object, **changed: Any) -> "TrainerConfig":
        """Return what `settings` has under the same names; `changed` takes precedence."""
        names = [field.name for field in fields(cls)]
        values = {name: getattr(settings, name) for name in names if hasattr(settings, name)}
        return cls(**{**values, **changed})
