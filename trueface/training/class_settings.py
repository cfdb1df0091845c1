"""The settings of a training of a classifier with K classes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator

from trueface.models.registry import (
    LEAST_SIZE,
    RECIPES,
    ClassifierShape,
    ClassifierSpec,
    Stem,
    modules_of_classifier,
)
from trueface.runtime.errors import UnknownName
from trueface.runtime.field_types import (
    Accelerate,
    Accumulate,
    Count,
    Finite,
    LoadingProcesses,
    Settings,
    setting,
)
from trueface.training.config import TrainerConfig
from trueface.training.objectives import registry


def _network(name: str) -> str:
    if name not in RECIPES:
        raise ValueError(UnknownName("model", name, RECIPES))
    return name


def _objective(name: str) -> str:
    return registry.objective_name(name, binary=False)


class ClassifySettings(Settings):
    """The settings of a training of a classifier with K classes."""

    # built at first use, because most task files use few job types
    model_config = ConfigDict(defer_build=True)

    data_root: str = setting(
        cost=True,
        description="Folder with the data set's files as published or as torchvision stores them, or with "
        "train/<class>/ and test/<class>/. For the data IDs folders and vggface2, <class>/ alone is enough",
    )
    model: Annotated[str, AfterValidator(_network)] = setting(
        "resnet18",
        cost=True,
        column="architecture",
        modules=modules_of_classifier,
        description="Network: "
        + ", ".join(f"{name} ({recipe.summary})" for name, recipe in RECIPES.items()),
    )
    stem: Stem = setting(
        "small",
        cost=True,
        description="First layers of the network: small (keep the resolution, for images of 32 pixels) or "
        "large (torchvision's own, for 224 pixels)",
    )
    size: int = setting(
        32,
        cost=True,
        ge=8,
        le=1024,
        description="Side length to which images are cropped and resized, in pixels",
    )
    images_per_class: int = setting(
        0,
        cost=True,
        ge=0,
        description="Number of images of each class, in the training list and in the test list. 0 takes "
        "all",
    )

    objective: Annotated[str, AfterValidator(_objective)] = setting(
        "ce",
        added=True,
        modules=registry.plugin_modules,
        description=f"Loss function: {registry.describe_choices(binary=False)}",
    )
    num_epochs: Count = setting(100, cost=True, description="Number of epochs")
    lr: Annotated[Finite, Field(gt=0)] | None = Field(
        None, description="Highest learning rate. By default, the usual one of the network"
    )
    batch_size: Count = setting(128, cost=True, description="Images per step")
    optimizer: Literal["usual", "sgd", "adamw"] = Field(
        "usual",
        description="Optimizer: sgd, adamw, or usual (adamw for vit, sgd for the other networks)",
    )
    momentum: Annotated[Finite, Field(ge=0, lt=1)] = Field(0.9, description="Momentum of SGD")
    weight_decay: Annotated[Finite, Field(ge=0)] | None = Field(
        None, description="Weight decay of the optimizer. By default, the usual one of the network"
    )
    schedule: Literal["cosine", "onecycle"] = Field(
        "cosine",
        description="Learning rate schedule: cosine (after a short warmup from 0) or onecycle",
    )
    flip: bool = Field(True, description="Mirror half of the training images")
    crop: bool = Field(True, description="Shift training images by up to an eighth of their side")
    seed: int = Field(
        42,
        ge=0,
        description="Random seed of the training, including the choice of validation images",
    )
    split_seed: int = Field(
        42,
        ge=0,
        description="Random seed of the test list, for data sets with <class>/ alone. It does not depend "
        "on seed",
    )
    precision: Literal["fp32", "bf16", "fp16"] = setting(
        "fp32",
        cost=True,
        description="Precision of the computation. With bf16 and fp16, the weights stay in fp32",
    )
    accelerate: Accelerate = setting("off", added=True, cost=True)
    accumulate: Accumulate = setting(1, added=True, cost=True)
    channels_last: bool = setting(
        True,
        cost=True,
        description="Use the channels_last memory format, which is faster on CPUs and tensor cores",
    )
    num_threads: LoadingProcesses = setting(
        "auto",
        neutral=True,
        description="Number of threads that decode images. auto starts one on each of the job's cores and "
        "its share of the free ones. 0 starts one per core of the job",
    )
    tensorboard: bool = setting(
        False, neutral=True, description="Also write TensorBoard event files next to the weights"
    )

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:
        """Return settings without effect for the other values, each with the reason."""
        optimizer = values["optimizer"]
        if optimizer == "usual":
            optimizer = RECIPES[values["model"]].optimizer
        return {} if optimizer == "sgd" else {"momentum": f"only sgd uses it, not {optimizer}"}

    @property
    def recipe(self) -> ClassifierSpec:
        """The training recipe of the network, with the given settings instead of its defaults."""
        usual = RECIPES[self.model]
        return replace(
            usual,
            optimizer=usual.optimizer if self.optimizer == "usual" else self.optimizer,
            lr=usual.lr if self.lr is None else self.lr,
            weight_decay=usual.weight_decay if self.weight_decay is None else self.weight_decay,
        )

    def shape(self, classes: int) -> ClassifierShape:
        """Return the shape of a network with this number of classes."""
        return ClassifierShape(model=self.model, stem=self.stem, size=self.size, classes=classes)

    @property
    def trainer(self) -> TrainerConfig:
        """The configuration of the trainer."""
        recipe = self.recipe
        return TrainerConfig.from_settings(
            self,
            optimizer=recipe.optimizer,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            schedule=f"warmup_{self.schedule}",
            # if the norm overflows, the step is still valid because of batch norm
            finite_gradients=False,
        )

    @field_validator("size")
    @classmethod
    def _large_enough(cls, size: int, others: ValidationInfo) -> int:
        model, stem = others.data.get("model"), others.data.get("stem")
        if model is None or stem is None:  # invalid values, which are reported elsewhere
            return size
        recipe = RECIPES[model]
        patch, least = recipe.patch.get(stem, 1), recipe.least_size.get(stem, LEAST_SIZE)
        if size < least:
            raise ValueError(
                f"{model} with the {stem} stem needs images of at least {least} pixels"
            )
        if size % patch:
            raise ValueError(
                f"{model} with the {stem} stem needs a size that is a multiple of {patch} pixels"
            )
        return size
