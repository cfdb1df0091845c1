"""The values that the trainer works with: what a kind's settings come to, for any number of classes."""

from dataclasses import dataclass, fields
from typing import Any, Literal

ScheduleName = Literal["plateau", "step", "onecycle", "warmup_cosine", "warmup_onecycle"]
Selection = Literal["best", "last", "worst-cell"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveOptions:
    """What objectives are set to; names are those of the settings. Each reads what it declares."""

    fair_alpha_in: float = 0.9  # share of the worst images of a group
    fair_alpha_out: float = 0.5  # share of the worst groups
    fair_smooth: float = 0.0  # of the threshold between groups, in units of the loss
    fair_min: int = 2  # images of a batch; smaller groups are joined
    dro_step: float = 0.01  # how fast the weights of cells move
    mix_alpha: float = 2.0  # of Beta(a, a), for the shares of mixed images

    @classmethod
    def of(cls, settings: object) -> "ObjectiveOptions":
        """Return what `settings` has under the same names, and defaults for the rest."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: getattr(settings, name) for name in names if hasattr(settings, name)})


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
    lr_gamma: float = 0.1  # of plateau and step: what the rate is multiplied by
    early_stop: int = 0  # epochs without progress; 0: never
    select: Selection = "best"  # which epoch's weights are kept
    ema: float = 0.0  # decay of a running mean of the weights; 0: none
    finite_gradients: bool = True  # end when their norm is not; False: the loss alone decides
    freeze: bool = False  # only the last layer learns
    freeze_bn: bool = True  # with freeze: batch statistics stay, too
    compile: bool = False
    options: ObjectiveOptions = ObjectiveOptions()  # of the objective
    sam: float = 0.0  # radius of a second pass at moved weights; see `loop`; 0: none
    awp: float = 0.0  # likewise, in parts of each weight's length
    awp_from: int = 1  # the first epoch, from 1, with awp
    rows_per_image: int = 1  # of a batch: one for each quality of an image

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
