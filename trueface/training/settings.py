"""The settings of a detector's training, and their conflicts.

This module does not import torch. See `quality_settings` for several qualities.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from trueface.data.attribute_table import GROUPS_BY
from trueface.data.clips import ClipsValue, clips_setting
from trueface.data.settings import AugmentationSettings, Precision
from trueface.models.registry import (
    describe_models,
    model_name,
    modules_of_model,
    revisions_of_model,
    spec_of,
)
from trueface.runtime.errors import UsageError
from trueface.runtime.field_types import (
    Accelerate,
    Accumulate,
    Count,
    Finite,
    Settings,
    setting,
)
from trueface.training import config
from trueface.training.config import ObjectiveOptions, Selection, TrainerConfig, is_momentum_held
from trueface.training.ineffective_settings import (
    AWP_FROM,
    ONLY_CLOSED_FORM,
    ineffective_qualities,
    ineffective_settings,
    ineffective_views,
)
from trueface.training.objectives import registry
from trueface.training.parts.registry import with_parts
from trueface.training.quality_settings import QualitySettings

MOMENTUM = 0.9  # momentum of SGD, if none is set
HOLDING = ("momentum", "optimizer", "schedule")  # decide whether onecycle moves the momentum
BOTH = "sam and awp cannot be combined: set one of them to 0"
RANDOM_COPIES = frozenset({"corrupted", "varied", "turned"})
# without effect on a training in closed form, which takes no steps and reads each copy once
WITHOUT_STEPS = frozenset(
    {
        "accelerate", "accumulate", "augment_cycle", "blur_prob", "checkpoint_every", "compile", "dropout", "early_stop", "ema",
        "flip_prob", "freeze", "freeze_bn", "groups_by", "jpeg_prob", "lr", "lr_decay_epochs",
        "num_epochs", "objective", "optimizer", "optimizer_state", "resize_prob", "resume",
        "save_optimizer", "sbi", "schedule", "select", "tensorboard", "weight_decay", "sam", "awp", "awp_from", "momentum",
        "lr_gamma", "ema_warmup", "blur_sigma", "jpeg_qual", "resize_scale", "resize_ratio",
    }
)  # fmt: skip


class PerturbationSettings(Settings):
    """SAM, AWP, the momentum of SGD, and the factor of the learning rate."""

    momentum: Annotated[Finite, Field(ge=0, lt=1)] | None = setting(
        None,
        added=True,
        description="Momentum of SGD. By default 0.9, and with schedule onecycle from 0.95 down to 0.85 and back",
    )
    lr_gamma: Annotated[Finite, Field(gt=0, le=1)] = setting(
        0.1,
        added=True,
        description="Factor that multiplies lr when it falls (schedules plateau and step)",
    )
    sam: Finite = setting(
        0.0,
        added=True,
        cost=True,
        ge=0,
        description="Radius of sharpness-aware minimization (SAM). The gradient of a step is computed at "
        "weights that are moved this far, in the L2 norm of all weights, toward a higher "
        "loss. 0 turns SAM off",
    )
    awp: Finite = setting(
        0.0,
        added=True,
        cost=True,
        ge=0,
        lt=1,
        description="Strength of adversarial weight perturbation (AWP). Each layer's weights are moved "
        "toward a higher loss by this fraction of their L2 norm. 0 turns AWP off",
    )
    awp_from: Count = setting(
        AWP_FROM, added=True, description="First epoch with AWP, counted from 1"
    )

    @model_validator(mode="after")
    def _one_perturbation(self) -> Self:
        if self.sam and self.awp:
            raise UsageError(BOTH)
        return self


def solver_of(settings: Mapping[str, Any]) -> str:
    """Return how the last layer is trained under settings, complete or not: gradient or ridge."""
    solver, name = settings.get("solver", "auto"), settings.get("model", "nodown")
    if solver != "auto":
        return str(solver)
    try:
        return spec_of(model_name(str(name))).solver
    except ValueError:  # reported where the name is checked
        return "gradient"


def _objective(name: str) -> str:
    return registry.objective_name(name, binary=True)


class LearningSettings(PerturbationSettings, AugmentationSettings):
    """What trainings and unlearnings share: network, augmentation and optimisation."""

    model: Annotated[str, AfterValidator(model_name)] = setting(
        "nodown",
        cost=True,
        aliases=("model_flag",),
        column="architecture",
        modules=modules_of_model,
        description=f"Network: {describe_models()}",
    )
    weights: str = Field(
        "default",
        description="Initial weights: default (pretrained on ImageNet), none (random), or the path of a state "
        "dict",
    )
    normalization: Literal["model", "imagenet", "half"] = Field(
        "model",
        description="Normalization of the pixel values: model (the usual one of the model), imagenet "
        "(mean and standard deviation of ImageNet), or half (x * 2 - 1)",
    )
    nodown: bool = setting(
        False,
        added=True,
        cost=True,
        description="Keep the resolution in the first convolution: its stride becomes 1 instead of 2",
    )
    solver: Literal["auto", "gradient", "ridge"] = setting(
        "auto",
        added=True,
        cost=True,
        description="Solver of the last layer: gradient (gradient steps), ridge (ridge regression in "
        "closed form on a frozen backbone), or auto (the usual solver of the model)",
    )
    freeze: bool = setting(
        False, cost=True, aliases=("model_freeze",), description="Train only the last layer"
    )
    freeze_bn: bool = Field(
        True, description="With freeze, also keep the batch norm statistics unchanged"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout probability before the last layer")

    objective: Annotated[str, AfterValidator(_objective)] = setting(
        registry.DEFAULT,
        added=True,
        modules=registry.plugin_modules,
        description=f"Loss function: {registry.describe_choices(binary=True)}. A subgroup is a group × class",
    )
    num_epochs: Count = setting(
        100, cost=True, aliases=("training_epochs",), description="Number of epochs"
    )
    lr: Finite = setting(
        1e-4,
        aliases=("learning_rate",),
        gt=0,
        description="Learning rate. With schedule onecycle, the highest one",
    )
    lr_decay_epochs: int = setting(
        -1,
        aliases=("learning_dropoff",),
        description="Epochs before lr falls, without progress (schedule plateau) or in total (step). With "
        "0 or less, lr never falls",
    )
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="Optimizer")
    weight_decay: Finite = Field(0.0, ge=0, description="Weight decay of the optimizer")
    schedule: Literal["plateau", "step", "onecycle"] = Field(
        "plateau", description="Learning rate schedule"
    )
    early_stop: int = Field(
        0, ge=0, description="Stop after this many epochs without progress. 0 never stops early"
    )
    select: Selection = Field(
        "best",
        description="Epoch whose weights are kept: best (best validation result), last, or worst-cell "
        "(best validation accuracy in the worst subgroup, needs attributes)",
    )
    ema: float = setting(
        0.0,
        cost=True,
        ge=0,
        lt=1,
        description="Decay of the exponential moving average of the weights. 0 turns it off",
    )
    ema_warmup: bool = setting(
        False,
        added=True,
        description="Let the decay of ema rise from 3/12 with each step n, as (1 + n) / (10 + n), for short trainings",
    )
    save_weights: bool = Field(True, description="Save the weights of the selected epoch")
    precision: Precision = setting("fp32", cost=True)
    channels_last: bool = Field(
        True,
        description="Use the channels_last memory format, which is faster on CPUs and tensor cores",
    )
    compile: bool = setting(
        False, cost=True, description="Compile the network with torch.compile before training"
    )
    accelerate: Accelerate = setting("off", added=True, cost=True)
    accumulate: Accumulate = setting(1, added=True, cost=True)

    @model_validator(mode="before")
    @classmethod
    def _frozen_if_body_stays(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        if (
            values.get("solver") == "gradient"
            and solver_of({**values, "solver": "auto"}) == "ridge"
        ):
            raise UsageError(
                f"solver: gradient does not work with model {values['model']}, which has tens of "
                "thousands of features; leave solver out"
            )
        # so that plans, feature stores and unlearnings know that the backbone does not change
        return {**values, "freeze": True} if _body_stays(values) else values

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the settings that a training in closed form ignores, each with the reason."""
        if solver_of(values) != "ridge":
            return ineffective_settings(values)
        return dict.fromkeys(WITHOUT_STEPS, "the last layer is fitted in closed form")

    @classmethod
    def decisive(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of the hash. A momentum of 0.9 is the default, except with schedule onecycle."""
        decisive = super().decisive(values)
        if decisive.get("momentum") == MOMENTUM and not is_momentum_held(values):
            del decisive["momentum"]
        return decisive

    @classmethod
    def revisions(cls, values: Mapping[str, Any]) -> Sequence[str]:
        """Return the changes that changed results with these settings."""
        held = ("onecycle: momentum held",) if is_momentum_held(values) else ()
        return (*super().revisions(values), *revisions_of_model(values["model"]), *held)

    @property
    def is_ridge(self) -> bool:
        """Whether the last layer is fitted in closed form."""
        return solver_of({"solver": self.solver, "model": self.model}) == "ridge"

    @property
    def trainer(self) -> TrainerConfig:
        """The configuration of the trainer."""
        return TrainerConfig.from_settings(
            self,
            fused=True,
            momentum=MOMENTUM if self.momentum is None else self.momentum,
            cycle_momentum=not self._holds_momentum,
        )

    @property
    def _holds_momentum(self) -> bool:
        return is_momentum_held(self.model_dump(include=set(HOLDING)))

    @property
    def neutral_to_results(self) -> frozenset[str]:
        """The settings that cannot change a result, as they are set."""
        fields = type(self).model_fields
        usual = {name for name in self.added if getattr(self, name) == fields[name].default}
        if self.momentum == MOMENTUM and not self._holds_momentum:
            usual.add("momentum")
        return self.neutral | usual


@with_parts
class TrainSettings(ObjectiveOptions, QualitySettings, LearningSettings):
    """The settings of a detector's training."""

    clips: ClipsValue = clips_setting(cost=True)
    copies: Literal[
        "auto", "none", "corrupted", "mirrored", "corrupted+mirrored", "corrupted+varied+turned"
    ] = setting(
        "auto",
        added=True,
        cost=True,
        description="Copies of each image that a training in closed form also uses, where auto means "
        "corrupted+mirrored. Corrupted copies are made alike for both classes. Varied copies "
        "are small, grey, in few colours, re-shared, or have lost pixels. Turned copies are "
        "rotated by 90, 180 or 270 degrees",
    )
    penalty: Finite = setting(
        0.0,
        added=True,
        ge=0,
        description="Penalty of the ridge regression, in mean squared norms of a feature row. 0 chooses "
        "the best value on validation",
    )
    shots: int = setting(
        0,
        added=True,
        ge=0,
        description="Number of new examples of each class for a training in closed form that starts from "
        "another one. 0 takes all new images",
    )
    shot_weight: Finite = setting(
        0.0,
        added=True,
        ge=0,
        description="Weight of each example of shots. 0 gives all of them together a fifth of the total "
        "weight",
    )
    groups_by: str = setting(
        GROUPS_BY,
        added=True,
        description="Column of attributes with the groups of the objective: intersec, gender, race, or a "
        "column of your own",
    )
    warm_start: bool = Field(
        False,
        description="Start from the weights that an earlier run left in this model's folder, if there are "
        "any",
    )
    optimizer_state: Literal["fresh", "kept"] = Field(
        "fresh",
        description="State of the optimizer at the start of a fine-tuning: fresh (new) or kept (that of "
        "the base model)",
    )
    save_optimizer: bool = Field(
        False,
        description="Save the state of the optimizer, for a fine-tuning with optimizer_state: kept",
    )
    resume: bool = setting(
        True, neutral=True, description="Resume the training if it was interrupted"
    )
    checkpoint_every: int = setting(
        0,
        neutral=True,
        ge=0,
        description="Also save a checkpoint after this many batches. 0 saves one after each epoch only",
    )
    processes: int = setting(
        0,
        neutral=True,
        ge=0,
        le=64,
        description="Number of processes that share each batch. 0 starts one per GPU of the job, or one "
        "on the CPU",
    )
    tensorboard: bool = setting(
        False, neutral=True, description="Also write TensorBoard event files next to the weights"
    )
    features: bool = Field(
        False, description="Write the input of the last layer, one row per training image"
    )

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:
        """Return settings that a closed-form training ignores or that the objective does not read."""
        if solver_of(values) == "ridge":
            closed_form = {} if values.get("shots") else {"shot_weight": "shots is 0"}
            copies = copies_of(values.get("copies", "auto"))
            # examples are added only to a base of the same augment_seed
            if not values.get("shots") and RANDOM_COPIES.isdisjoint(copies):
                closed_form["augment_seed"] = "no copy of an image is random"
        else:
            closed_form = dict.fromkeys(("copies", "penalty", "shot_weight"), ONLY_CLOSED_FORM)
        return {
            **config.without_effect(values),
            **ineffective_qualities(values),
            **ineffective_views(values),
            **super().without_effect(values),
            **closed_form,
        }

    @property
    def trainer(self) -> TrainerConfig:
        """The configuration of the trainer."""
        return replace(super().trainer, objective=self.used_objective, options=self)

    @property
    def rows_per_image(self) -> int:
        """The number of rows per image in a batch."""
        return super().rows_per_image * self.views

    @property
    def copies_learned(self) -> tuple[str, ...]:
        """The copies of each image that a training in closed form reads in addition to the image."""
        return copies_of(self.copies)


def copies_of(copies: str) -> tuple[str, ...]:
    """Return the copies that a value of the setting `copies` names."""
    if copies == "none":
        return ()
    return tuple(("corrupted+mirrored" if copies == "auto" else copies).split("+"))


def has_frozen_backbone(settings: LearningSettings) -> bool:
    """Return whether a training leaves the backbone unchanged, bit by bit."""
    return settings.freeze and settings.freeze_bn


def _body_stays(settings: Mapping[str, Any]) -> bool:
    """Return whether only the last layer can learn under settings, complete or not."""
    try:
        stays = spec_of(model_name(str(settings.get("model", "nodown")))).frozen
    except ValueError:  # reported where the name is checked
        stays = False
    return stays or solver_of(settings) == "ridge"
