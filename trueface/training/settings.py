"""The settings of a detector's training, in several qualities too, and why some of them do not go together.

No torch here.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from trueface.corruptions.registry import RAW
from trueface.data.attribute_table import GROUPS_BY
from trueface.data.qualities import (
    files_of,
    joined,
    listed,
    missing_programs,
    modules_of,
    spelt,
    with_files,
)
from trueface.data.settings import PLACES, AugmentationSettings, Precision
from trueface.models.registry import listed_models, model_name, modules_of_model, spec_of
from trueface.runtime.errors import UsageError
from trueface.runtime.field_types import Count, Finite, Settings
from trueface.training import config
from trueface.training.config import ObjectiveOptions, Selection, TrainerConfig
from trueface.training.objectives import registry
from trueface.training.parts.registry import with_parts

BOTH = "sam and awp each move the weights before the second pass of a step; set one of them to 0"
LEARNING: Mapping[str, str] = {
    "training_epochs": "num_epochs",
    "learning_rate": "lr",
    "learning_dropoff": "lr_decay_epochs",
    "model_flag": "model",
    "model_freeze": "freeze",
}
# what a training in closed form has no use for: it takes no steps, and sees each copy once
WITHOUT_STEPS = frozenset(
    {
        "augment_cycle", "blur_prob", "checkpoint_every", "compile", "dropout", "early_stop", "ema",
        "flip_prob", "freeze", "freeze_bn", "groups_by", "jpeg_prob", "lr", "lr_decay_epochs",
        "num_epochs", "objective", "optimizer", "optimizer_state", "resize_prob", "resume",
        "save_optimizer", "sbi", "schedule", "select", "tensorboard", "weight_decay", "sam", "awp", "awp_from", "momentum",
        "lr_gamma",
    }
)  # fmt: skip


class PerturbationSettings(Settings):
    """What a training has besides: SAM, AWP, SGD's momentum, and the factor of the learning rate."""

    added: ClassVar[frozenset[str]] = frozenset({"sam", "awp", "awp_from", "momentum", "lr_gamma"})

    momentum: Annotated[Finite, Field(ge=0, lt=1)] = Field(0.9, description="of sgd")
    lr_gamma: Annotated[Finite, Field(gt=0, le=1)] = Field(
        0.1, description="plateau and step: what lr is multiplied by when it falls"
    )
    sam: Finite = Field(
        0.0,
        ge=0,
        description="sharpness-aware minimization: the gradient of a step is taken at weights that "
        "were moved so far, in total, to where the loss is higher; 0: off",
    )
    awp: Finite = Field(
        0.0,
        ge=0,
        lt=1,
        description="adversarial weight perturbation: likewise, each layer's weights by this share "
        "of their own length; 0: off",
    )
    awp_from: Count = Field(3, description="the first epoch, from 1, with awp")

    @model_validator(mode="after")
    def _one_perturbation(self) -> Self:
        if self.sam and self.awp:
            raise UsageError(BOTH)
        return self


def idle_settings(values: Mapping[str, Any]) -> dict[str, str]:
    """Return those of these settings that change nothing beside others, each with the reason."""
    idle = {}
    if values["optimizer"] != "sgd":
        idle["momentum"] = "it is of optimizer: sgd"
    if not values["awp"]:
        idle["awp_from"] = "awp is 0"
    if values["schedule"] not in {"plateau", "step"}:
        idle["lr_gamma"] = "it is of schedule: plateau and step"
    return idle


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

    costs: ClassVar[frozenset[str]] = AugmentationSettings.costs | {
        "model", "nodown", "freeze", "num_epochs", "ema", "precision", "compile", "solver",
        "sam", "awp",
    }  # fmt: skip
    aliases: ClassVar[Mapping[str, str]] = {**PLACES, **LEARNING}
    columns: ClassVar[Mapping[str, str]] = {"architecture": "model"}
    modules: ClassVar[Mapping[str, Callable[[Any], tuple[str, ...]]]] = {
        **AugmentationSettings.modules,
        "model": modules_of_model,
        "objective": registry.modules_of,
    }
    added: ClassVar[frozenset[str]] = (
        AugmentationSettings.added | PerturbationSettings.added | {"objective", "nodown", "solver"}
    )

    model: Annotated[str, AfterValidator(model_name)] = Field("nodown", description=listed_models())
    weights: str = Field("default", description="default (ImageNet), none, or a state dict's path")
    normalization: Literal["model", "imagenet", "half"] = Field(
        "model",
        description="of pixels, as the weights want it; model: its usual; half: x * 2 - 1",
    )
    nodown: bool = Field(
        False, description="the first convolution keeps the resolution: its stride of 2 becomes 1"
    )
    solver: Literal["auto", "gradient", "ridge"] = Field(
        "auto",
        description="of the last layer: gradient steps, or ridge regression in closed form on a "
        "frozen network; auto: as the model usually is",
    )
    freeze: bool = Field(False, description="train the last layer only")
    freeze_bn: bool = Field(True, description="with freeze: batch statistics stay as they are too")
    dropout: float = Field(0.0, ge=0, lt=1, description="before the last layer")

    objective: Annotated[str, AfterValidator(_objective)] = Field(
        registry.DEFAULT, description=registry.described(binary=True)
    )
    num_epochs: Count = Field(100, description="passes over the training images")
    lr: Finite = Field(1e-4, gt=0, description="learning rate (the highest, with onecycle)")
    lr_decay_epochs: int = Field(
        -1,
        description="plateau: epochs without progress before lr falls; step: epochs "
        "between falls; <= 0: never",
    )
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="update rule")
    weight_decay: Finite = Field(0.0, ge=0, description="of the optimizer")
    schedule: Literal["plateau", "step", "onecycle"] = Field(
        "plateau", description="of the learning rate"
    )
    early_stop: int = Field(
        0, ge=0, description="stop after so many epochs without progress; 0: never"
    )
    select: Selection = Field(
        "best",
        description="which epoch's weights are kept: best on validation, last, or worst-cell: the "
        "best accuracy of the worst group × class on validation (trainings with attributes)",
    )
    ema: float = Field(
        0.0, ge=0, lt=1, description="keep a running mean of the weights, of this decay; 0: none"
    )
    save_weights: bool = Field(True, description="keep the best epoch's weights")
    precision: Precision = "fp32"
    channels_last: bool = Field(True, description="memory format; quicker on CPUs and tensor cores")
    compile: bool = Field(False, description="let torch compile the network first")

    @model_validator(mode="before")
    @classmethod
    def _frozen_if_body_stays(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        if given.get("solver") == "gradient" and solver_of({**given, "solver": "auto"}) == "ridge":
            raise UsageError(
                f"model {given['model']} has ten thousands of features, and is fitted in closed "
                "form: leave solver out"
            )
        # so that plans, feature stores and unlearnings know that the body stays as it is
        return {**given, "freeze": True} if _body_stays(given) else given

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the settings that a training in closed form ignores, each with the reason."""
        if solver_of(values) != "ridge":
            return idle_settings(values)
        return dict.fromkeys(WITHOUT_STEPS, "the last layer is fitted in closed form")

    @property
    def is_ridge(self) -> bool:
        """Whether the last layer is fitted in closed form."""
        return solver_of({"solver": self.solver, "model": self.model}) == "ridge"

    @property
    def trainer(self) -> TrainerConfig:
        """What the trainer works with."""
        return TrainerConfig.of(self, fused=True)

    @property
    def neutral_to_results(self) -> frozenset[str]:
        """The settings that cannot change a result, as they are set."""
        fields = type(self).model_fields
        usual = {name for name in self.added if getattr(self, name) == fields[name].default}
        return self.neutral | usual


MEDIAN, DIM = "median", "dim"
LAYERS = (
    "layer2=.1, layer3=.25, layer4=.5"  # of a ResNet; the weights are those of the published files
)
LEAST_SHARE = 1e-3  # of the classification loss's gradient: a term below it does nothing
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
LEAST_ITEMS = 4  # of a batch with collab: with fewer the measures say nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class CollaborationOptions:
    """The collaboration of a training: what its loss is given besides the classification."""

    weight: float  # alpha, above 0
    form: str  # normalised, plain or cca
    width: str | float  # of the kernel: `median`, `dim` or a number
    layers: Mapping[str, float]  # weights by the layer's name, in their order
    qualities: int  # M, 2 at least


def read_layers(text: str) -> dict[str, float]:
    """Return the weights of layers, `layer3=.25, layer4=.5`, by name.

    Raises:
        ValueError: no such text, a layer twice, or a weight that is none.
    """
    weights: dict[str, float] = {}
    for word in text.split(","):
        name, equals, number = (part.strip() for part in word.partition("="))
        if not equals or not _NAME.fullmatch(name):
            raise ValueError(f"{word.strip()!r}: write layer=weight, such as {LAYERS}")
        if name in weights:
            raise ValueError(f"layer {name} stands there twice")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not (math.isfinite(weight) and weight > 0):
            raise ValueError(f"{word.strip()}: a weight is a number above 0")
        weights[name] = weight
    return weights


def spelt_layers(text: str) -> str:
    """Return the weights of layers in their one spelling; ValueError as `read_layers`."""
    return ", ".join(f"{name}={weight:g}" for name, weight in read_layers(text).items())


def read_width(text: str) -> str | float:
    """Return the width of the kernel: `median`, `dim`, or a number above 0.

    Raises:
        ValueError: none of these.
    """
    if text in {MEDIAN, DIM}:
        return text
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{text!r} is no width: write median, dim, or a number above 0")
    return number


def spelt_width(text: str) -> str:
    """Return the width in its one spelling; ValueError as `read_width`."""
    width = read_width(text)
    return width if isinstance(width, str) else f"{width:g}"


def _text(value: Any) -> Any:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else value


class QualitySettings(Settings):
    """In which qualities a training sees each of its images, and how their features are made to agree."""

    added: ClassVar[frozenset[str]] = frozenset(
        {
            "qualities", "quality_batch", "quality_list", "collab", "collab_form", "collab_width",
            "collab_layers",
        }
    )  # fmt: skip
    costs: ClassVar[frozenset[str]] = frozenset({"qualities", "quality_batch", "collab"})
    modules: ClassVar[Mapping[str, Callable[[Any], tuple[str, ...]]]] = {"qualities": modules_of}

    qualities: Annotated[
        str,
        AfterValidator(spelt),
        BeforeValidator(joined, json_schema_input_type=str | list[str]),
    ] = Field(
        "",
        description="each image comes once in each of these in the same batch: raw, chains of "
        "corruptions as in tests such as half+jpeg30, ranges such as jpeg30-100 that are drawn for "
        "each image and epoch, files:NAME of quality_list; empty: as it is",
    )
    quality_batch: Literal["paired", "mixed"] = Field(
        "paired",
        description="paired: batch_size images, each in all qualities; mixed: each in one that is "
        "drawn for it",
    )
    quality_list: str = Field(
        "",
        description="a data.json that names the files of each image in further qualities: "
        "{train: {raw: […], c23: […], labels: […]}}; c23 and c40 in qualities are then these files",
    )
    collab: Finite = Field(
        0.0,
        ge=0,
        description="weight of the dependence between features of the qualities of an image, which is "
        "made larger; 0: none",
    )
    collab_form: Literal["normalised", "plain", "cca"] = Field(
        "normalised",
        description="of the dependence (HSIC): normalised to 0 … 1, plain as published, or by "
        "canonical correlations",
    )
    collab_width: Annotated[
        str, AfterValidator(spelt_width), BeforeValidator(_text, json_schema_input_type=str | float)
    ] = Field(
        MEDIAN,
        description="of its Gaussian kernel: median distance of the batch, dim (6 times the root of the "
        "features' number), or a number",
    )
    collab_layers: Annotated[str, AfterValidator(spelt_layers)] = Field(
        spelt_layers(LAYERS),
        description="layers whose features count, with their weights; where the body is frozen, the "
        "hidden layers of the head",
    )

    @model_validator(mode="before")
    @classmethod
    def _files_by_name(cls, given: Any) -> Any:
        """Let qualities name the files of a list by its words: c23 is then no corruption."""
        if not isinstance(given, Mapping) or not given.get("quality_list"):
            return given
        qualities = joined(given.get("qualities", ""))
        if not isinstance(qualities, str):
            return given
        return {**given, "qualities": with_files(qualities)}

    @property
    def quality_names(self) -> tuple[str, ...]:
        """The qualities, in their order; none: each image comes as it is."""
        return listed(self.qualities)

    @property
    def rows_per_image(self) -> int:
        """How many rows of a batch an image has."""
        return max(len(self.quality_names), 1) if self.quality_batch == "paired" else 1

    @property
    def collaboration(self) -> CollaborationOptions | None:
        """How features are made to agree; None: they are not."""
        if self.collab == 0:
            return None
        return CollaborationOptions(
            weight=self.collab,
            form=self.collab_form,
            width=read_width(self.collab_width),
            layers=read_layers(self.collab_layers),
            qualities=len(self.quality_names),
        )


@with_parts
class TrainSettings(ObjectiveOptions, QualitySettings, LearningSettings):
    """A training: what it starts from, and what it leaves to those that start from it."""

    neutral: ClassVar[frozenset[str]] = LearningSettings.neutral | {
        "checkpoint_every", "processes", "resume", "tensorboard",
    }  # fmt: skip

    added: ClassVar[frozenset[str]] = (
        LearningSettings.added
        | ObjectiveOptions.added
        | QualitySettings.added
        | {"copies", "groups_by", "penalty", "shots", "shot_weight"}
    )
    costs: ClassVar[frozenset[str]] = LearningSettings.costs | QualitySettings.costs | {"copies"}
    modules: ClassVar[Mapping[str, Callable[[Any], tuple[str, ...]]]] = {
        **LearningSettings.modules,
        **QualitySettings.modules,
        "fair": registry.modules_of_fair,
    }

    copies: Literal[
        "auto", "none", "corrupted", "mirrored", "corrupted+mirrored", "corrupted+varied+turned"
    ] = Field(
        "auto",
        description="what a training in closed form sees of each image besides itself: a corrupted "
        "copy, alike for both classes, and the mirror image; auto: both; varied: one that is small, grey, in "
        "few colours, shared, or has lost pixels; turned: by one to three quarters",
    )
    penalty: Finite = Field(
        0.0,
        ge=0,
        description="of a training in closed form, in mean squared lengths of a row; 0: the best on "
        "validation",
    )
    shots: int = Field(
        0,
        ge=0,
        description="of a training in closed form that starts from another: so many examples of each "
        "class of the new images are taken; 0: all",
    )
    shot_weight: Finite = Field(
        0.0, ge=0, description="what each of these examples counts; 0: a fifth of all together"
    )
    groups_by: str = Field(
        GROUPS_BY,
        description="column of attributes whose groups the objective sees: intersec, gender, race, or "
        "one of your own",
    )
    warm_start: bool = Field(
        False,
        description="start from the weights that an earlier run left in this model's own folder, "
        "where there are any",
    )
    optimizer_state: Literal["fresh", "kept"] = Field(
        "fresh", description="kept: a fine-tuning goes on with the state of its base's optimizer"
    )
    save_optimizer: bool = Field(
        False, description="keep the optimizer's state, for a fine-tuning that goes on with it"
    )
    resume: bool = Field(
        True, description="go on where the same training was interrupted, if it was"
    )
    checkpoint_every: int = Field(
        0, ge=0, description="keep the state after so many batches, too; 0: after epochs only"
    )
    processes: int = Field(
        0,
        ge=0,
        le=64,
        description="processes that share each batch; 0: one for each GPU of the job, or one on the CPU",
    )
    tensorboard: bool = Field(
        False, description="write its numbers as TensorBoard event files, too, beside its weights"
    )
    features: bool = Field(
        False, description="write what the last layer gets, one row a training image"
    )

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:
        """Return what a training in closed form ignores, and what the objective does not read."""
        return {**config.without_effect(values), **super().without_effect(values)}

    @property
    def trainer(self) -> TrainerConfig:
        """What the trainer works with."""
        return replace(super().trainer, objective=self.used_objective, options=self)

    @property
    def copies_learned(self) -> tuple[str, ...]:
        """The copies of each image that a training in closed form sees besides the image."""
        return copies_of(self.copies)


def copies_of(copies: str) -> tuple[str, ...]:
    """Return the copies that the setting of this name means."""
    if copies == "none":
        return ()
    return tuple(("corrupted+mirrored" if copies == "auto" else copies).split("+"))


def _body_stays(settings: Mapping[str, Any]) -> bool:
    """Return whether only the last layer can learn under settings, complete or not."""
    try:
        stays = spec_of(model_name(str(settings.get("model", "nodown")))).frozen
    except ValueError:  # reported where the name is checked
        stays = False
    return stays or solver_of(settings) == "ridge"


def unfit_qualities(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield why a training must not run with its qualities.

    Args:
        settings: of the training, complete.
    """
    text = str(settings.get("qualities", ""))
    names = listed(text)
    yield from missing_programs(text)
    files = [name for name in names if files_of(name) is not None]
    if files and not settings["quality_list"]:
        yield f"qualities: {files[0]} needs quality_list: the data.json that names its files"
    if settings.get("quality_list") and not files:
        yield (
            f"quality_list: {settings['quality_list']} is not used: name its qualities in qualities, such "
            f"as {RAW}, c23"
        )
    if names and settings["decode"] != "exact":
        yield (
            f"qualities with decode: {settings['decode']}: images would be resized before they are corrupted; "
            "leave decode out"
        )
    if settings.get("collab", 0) > 0:
        yield from _unfit_collaboration(settings, names)


def _unfit_collaboration(settings: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[str]:
    if len(names) < 2:  # a pair
        yield (
            f"collab: {settings['collab']:g} needs two qualities at least, which features shall agree "
            "between; give qualities: [raw, jpeg75], or leave collab out"
        )
    if settings["quality_batch"] != "paired":
        yield "collab needs quality_batch: paired: each image in all qualities"
    if settings["batch_size"] < LEAST_ITEMS:
        yield (
            f"collab with batch_size: {settings['batch_size']}: with fewer than {LEAST_ITEMS} images "
            f"their dependence says nothing; set batch_size: {LEAST_ITEMS} at least"
        )
    if settings.get("fair") == "mix":
        yield (
            "collab with fair: mix: each quality of an image would be mixed with another image, so that "
            "their features need not agree; leave one of them out"
        )
    if settings["freeze"] and not _has_hidden(settings):
        yield (
            "collab with freeze: true: no weight of the layers would move, whose features shall agree; "
            "leave one of them out, or take a model with a hidden layer in its head such as "
            "moments/mobilenet"
        )


def _has_hidden(settings: Mapping[str, Any]) -> bool:
    """Tell whether the last layer of a network has a hidden one, which learns also on a frozen body."""
    return spec_of(str(settings["model"])).frozen
