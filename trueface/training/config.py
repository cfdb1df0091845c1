"""The configuration of the trainer, derived from settings, for any number of classes.

Options of objectives are unchanged settings of fair trainings. This module does not import torch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from trueface.runtime.errors import UnknownName
from trueface.runtime.field_types import Accelerate, Count, Finite, Settings, setting
from trueface.training.layer_weights import canonical_layers
from trueface.training.objectives import registry
from trueface.training.objectives.registry import NOT_FAIR, OVERSAMPLE

ScheduleName = Literal["plateau", "step", "onecycle", "warmup_cosine", "warmup_onecycle"]
Selection = Literal["best", "last", "worst-cell"]
WORST_CELL = "worst-cell"  # value of the setting `select`
DEMOGRAPHIC = "demographic"  # the column of a batch with the number of each image's group
# published layers of a ResNet for objective add, with their weights
FREQUENCY_LAYERS = "layer2=1, layer3=2, layer4=.25"
VIEW_LAYERS = "layer2=.5, layer3=2.5, layer4=2"
Share = Annotated[Finite, Field(gt=0, le=1)]


def _method(name: str) -> str:
    names = registry.fair_names()
    if name not in names:
        raise ValueError(UnknownName("fair training", name, names))
    return name


class ObjectiveOptions(Settings):
    """How a training weighs groups, and cells: the images of one group and one class.

    Each objective reads what it declares.
    """

    fair: Annotated[str, AfterValidator(_method)] = setting(
        NOT_FAIR,
        added=True,
        modules=registry.fair_plugin_modules,
        description=f"Method that treats groups alike, instead of the objective: {NOT_FAIR}, "
        f"{registry.describe_fair_choices()}, or {OVERSAMPLE} (keeps the objective, draws subgroups "
        "equally often). Groups come from attributes and groups_by. A subgroup is a group × "
        "class",
    )
    fair_alpha_in: Share = setting(
        0.9,
        added=True,
        description="Fraction of a group's images that CVaR counts, those with the highest loss",
    )
    fair_alpha_out: Share = setting(
        0.5,
        added=True,
        description="Fraction of the groups that CVaR counts. With dag, fraction of the images",
    )
    fair_min: Count = setting(
        2,
        added=True,
        description="Smallest group in a batch, in images. Smaller groups are merged into one, and 1 "
        "merges none",
    )
    dro_step: Annotated[Finite, Field(gt=0)] = setting(
        0.01, added=True, description="Step size of the subgroup weights in dro"
    )
    mix_alpha: Annotated[Finite, Field(gt=0)] = setting(
        2.0,
        added=True,
        description="Parameter a of Beta(a, a), which draws the proportions of two mixed images (mix). "
        "Higher values give proportions closer to one half. The published value is 2",
    )

    core_weight: Annotated[Finite, Field(gt=0)] = setting(
        1.0,
        added=True,
        description="Weight of the distance between the features of two views (core). Published values are "
        "1 and, across data sets, 100",
    )
    real_weight: Annotated[Finite, Field(gt=0)] = setting(
        1.0,
        added=True,
        description="Weight of each real image in the loss (core), compared with a fake. The published value is "
        "4, for four fakes per real image",
    )

    altfreezing_steps: Count = setting(
        20,
        added=True,
        description="Steps of the optimizer after which altfreezing freezes the other kernels, spatial or temporal. "
        "Published values are 10 and 20",
    )

    teacher: str = setting(
        "",
        added=True,
        cost=True,
        description="Model from which add distils: the ID of an earlier model of the run, or the path of a "
        "checkpoint (.pt)",
    )
    add_views: Annotated[Finite, Field(ge=0)] = setting(
        16.0, added=True, description="Weight of the distance between projections of maps (add)"
    )
    add_spectra_layers: Annotated[str, AfterValidator(canonical_layers)] = setting(
        canonical_layers(FREQUENCY_LAYERS),
        added=True,
        description="Layers of student and teacher whose spectra add compares, with their weights",
    )
    add_view_layers: Annotated[str, AfterValidator(canonical_layers)] = setting(
        canonical_layers(VIEW_LAYERS),
        added=True,
        description="Layers of student and teacher whose projections add compares, with their weights",
    )

    @property
    def views(self) -> int:
        """The number of augmentations of each image in a batch."""
        return registry.objectives()[self.used_objective].views

    @property
    def used_objective(self) -> str:
        """The name of the objective that is minimized."""
        return registry.used_objective(self.model_dump(include={"fair", "objective"}))

    @property
    def balances_subgroups(self) -> bool:
        """Whether an epoch has equally many images of every cell."""
        return self.fair == OVERSAMPLE or registry.objectives()[self.used_objective].balanced

    @property
    def balances_classes(self) -> bool:
        """Whether every batch has as many reals as fakes, of whatever groups."""
        return registry.objectives()[self.used_objective].paired and not self.balances_subgroups

    @property
    def columns_read(self) -> tuple[str, ...]:
        """The columns that batches must have besides images and labels."""
        columns = registry.objectives()[self.used_objective].columns
        needed = needs_groups(self.model_dump(include={"fair", "objective", "select"}))
        return (*columns, *((DEMOGRAPHIC,) if needed and DEMOGRAPHIC not in columns else ()))


def is_checkpoint_file(teacher: str) -> bool:
    """Return whether the setting `teacher` is a path, and not the ID of a model."""
    return teacher.endswith(".pt")


def teacher_of(settings: Mapping[str, Any]) -> str:
    """Return the teacher from which a training with these settings distils, or '' for none."""
    spec = registry.objectives().get(registry.used_objective(settings))
    # an objective that is not installed here may have used it
    is_used = spec is None or "teacher" in spec.options
    return str(settings.get("teacher") or "") if is_used else ""


def without_effect(values: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the options without effect for the other values, each with the reason."""
    name = registry.used_objective(values)
    spec = registry.objectives().get(name)
    read = () if spec is None else spec.options
    chosen = registry.choice(values)
    options = ObjectiveOptions.added - {"fair"}
    idle = dict.fromkeys(sorted(options.difference(read)), f"{chosen} does not use it")
    if not values.get("attributes"):
        idle |= dict.fromkeys(("groups_by", "missing_attributes"), "attributes is empty")
    return idle


def needs_groups(settings: Mapping[str, Any]) -> str:
    """Return the setting that needs the group of every image, such as "fair: dro", or ''."""
    spec = registry.objectives().get(registry.used_objective(settings))
    by_group = spec is not None and (DEMOGRAPHIC in spec.columns or spec.balanced)
    if by_group or settings.get("fair") == OVERSAMPLE:
        return registry.choice(settings)
    return f"select: {WORST_CELL}" if settings.get("select") == WORST_CELL else ""


def eager_reason(
    *, sam: float, awp: float, schedule: str, compiles: bool, processes: int, accumulate: int
) -> str:
    """Return which settings of a training keep its steps from being replayed as a CUDA graph; "" if none."""
    if processes > 1:
        return f"{processes} processes share each step"
    if compiles:
        return "compile: true launches the kernels in its own way"
    if sam or awp:
        return f"{'sam' if sam else 'awp'} reads the norm of the gradients between two passes"
    if accumulate > 1:
        return f"accumulate: {accumulate} takes a step of the optimizer after several batches"
    if schedule == "onecycle":
        return "schedule: onecycle also changes the momentum of each step"
    return ""


def is_momentum_held(settings: Mapping[str, Any]) -> bool:
    """Return whether schedule onecycle leaves the momentum of SGD as it is, because a value is set."""
    moves = settings.get("schedule") == "onecycle" and settings.get("optimizer") == "sgd"
    return moves and settings.get("momentum") is not None


def explain_long_average(
    ema: float, *, warmup: bool, images: int, rows_per_step: int, epochs: int
) -> str:
    """Return why a moving average over a training's steps would still contain its first weights, or ''.

    Args:
        ema: decay of the average.
        warmup: whether the decay rises with each step.
        images: per epoch.
        rows_per_step: of the optimizer.
        epochs: of the training.
    """
    window, steps = 1 / (1 - ema), math.ceil(images / rows_per_step) * epochs
    if ema == 0 or warmup or window <= steps:
        return ""
    return (
        f"it averages over {window:,.0f} steps, but the training has {steps:,}, so the weights of the first "
        "steps count most. Set a lower ema, or ema_warmup: true"
    )


def long_accumulation_reason(accumulate: int, *, images: int, rows_per_batch: int) -> str:
    """Return why a training cannot accumulate so many batches, or ''.

    Args:
        accumulate: batches per step of the optimizer.
        images: per epoch.
        rows_per_batch: of a whole batch.
    """
    batches = math.ceil(images / rows_per_batch)
    if accumulate == 1 or accumulate <= batches:
        return ""
    return f"an epoch has {batches} batches, so accumulate: {max(1, batches)} trains the same model"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerConfig:
    """Objective, optimizer, schedule and selection of a training; names are those of the settings."""

    objective: str  # as registered in `trueface.training.objectives`
    num_epochs: int  # 1 at least
    batch_size: int  # images per batch
    seed: int  # root seed of dropout; loaders have their own seed for the order of images
    lr: float  # the highest, where the schedule moves it
    optimizer: Literal["adam", "adamw", "sgd"]
    weight_decay: float
    schedule: ScheduleName
    precision: str = "fp32"  # bf16 and fp16 keep the weights in fp32
    momentum: float = 0.0  # only sgd uses it
    cycle_momentum: bool = True  # onecycle also moves momentum, or the first beta of Adam
    fused: bool = False  # one kernel for all parameters; rounds otherwise than a loop over them
    lr_decay_epochs: int = -1  # plateau and step use it; <= 0: never
    lr_gamma: float = 0.1  # factor of the rate with plateau and step
    early_stop: int = 0  # epochs without progress; 0: never
    select: Selection = "best"  # epoch whose weights are kept
    ema: float = 0.0  # decay of a running mean of the weights; 0: none
    ema_warmup: bool = False  # whether the decay rises with each step
    finite_gradients: bool = True  # end when their norm is not; False: the loss alone decides
    freeze: bool = False  # only the last layer learns
    freeze_bn: bool = True  # with freeze: batch statistics stay, too
    compile: bool = False
    accelerate: Accelerate = "off"  # graph: steps are replayed as a CUDA graph
    options: ObjectiveOptions = field(default_factory=ObjectiveOptions)  # options of the objective
    sam: float = 0.0  # radius of a second pass at moved weights; see `loop`; 0: none
    awp: float = 0.0  # radius of AWP, as a fraction of the norm of each weight
    awp_from: int = 1  # the first epoch, from 1, with awp
    rows_per_image: int = 1  # rows of a batch for each image: one for each quality or view
    accumulate: int = 1  # batches per step of the optimizer

    @property
    def rows_per_batch(self) -> int:
        """How many rows a whole batch has."""
        return self.batch_size * self.rows_per_image

    @property
    def rows_per_step(self) -> int:
        """How many rows a whole step of the optimizer has."""
        return self.rows_per_batch * self.accumulate

    def long_average_reason(self, images: int) -> str:
        """Return why the moving average is too long for a training with so many images per epoch, or ''."""
        return explain_long_average(
            self.ema,
            warmup=self.ema_warmup,
            images=images,
            rows_per_step=self.rows_per_step,
            epochs=self.num_epochs,
        )

    def long_accumulation_reason(self, images: int) -> str:
        """Return why a training with so many images per epoch cannot accumulate so many batches, or ''."""
        return long_accumulation_reason(
            self.accumulate, images=images, rows_per_batch=self.rows_per_batch
        )

    @classmethod
    def from_settings(cls, settings: object, **changes: Any) -> "TrainerConfig":
        """Return what `settings` has under the same names; `changes` takes precedence."""
        names = [field.name for field in fields(cls)]
        values = {name: getattr(settings, name) for name in names if hasattr(settings, name)}
        return cls(**{**values, **changes})
