"""The settings of a training of a network of classes."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator

from trueface.models.registry import (
    LEAST_SIZE,
    RECIPES,
    Recipe,
    Shape,
    Stem,
    modules_of_classifier,
)
from trueface.runtime.errors import UnknownName
from trueface.runtime.field_types import Count, Finite, Settings
from trueface.training.config import TrainerConfig
from trueface.training.objectives import registry


def _network(name: str) -> str:
    if name not in RECIPES:
        raise ValueError(UnknownName("model", name, RECIPES))
    return name


def _objective(name: str) -> str:
    return registry.objective_name(name, binary=False)


class ClassifySettings(Settings):
    """A training of a network that tells classes apart."""

    model_config = ConfigDict(defer_build=True)  # most task files use few of the kinds
    neutral: ClassVar[frozenset[str]] = frozenset({"num_threads", "tensorboard"})
    modules: ClassVar[Mapping[str, Callable[[Any], tuple[str, ...]]]] = {
        "model": modules_of_classifier,
        "objective": registry.modules_of,
    }
    costs: ClassVar[frozenset[str]] = frozenset(
        {
            "data_root", "model", "stem", "size", "images_per_class", "num_epochs", "batch_size",
            "precision", "channels_last",
        }
    )  # fmt: skip
    added: ClassVar[frozenset[str]] = frozenset({"objective"})
    columns: ClassVar[Mapping[str, str]] = {"architecture": "model"}

    data_root: str = Field(
        description="folder with the data set's files as torchvision keeps them, or with "
        "train/<class>/ and test/<class>/; folders: or with <class>/ alone"
    )
    model: Annotated[str, AfterValidator(_network)] = Field(
        "resnet18",
        description=", ".join(f"{name} ({recipe.summary})" for name, recipe in RECIPES.items()),
    )
    stem: Stem = Field(
        "small",
        description="first layers; small: for images of 32 pixels, nothing is skipped or pooled; "
        "large: torchvision's own, for 224",
    )
    size: int = Field(32, ge=8, le=1024, description="side that images are cut and resized to")
    images_per_class: int = Field(
        0, ge=0, description="of the training list and of the test list each; 0: all"
    )

    objective: Annotated[str, AfterValidator(_objective)] = Field(
        "ce", description=registry.described(binary=False)
    )
    num_epochs: Count = Field(100, description="passes over the training images")
    lr: Annotated[Finite, Field(gt=0)] | None = Field(
        None, description="highest learning rate; default: the network's usual one"
    )
    batch_size: Count = Field(128, description="images a step")
    optimizer: Literal["usual", "sgd", "adamw"] = Field(
        "usual", description="update rule; usual: adamw for vit, sgd for others"
    )
    momentum: Annotated[Finite, Field(ge=0, lt=1)] = Field(0.9, description="of sgd")
    weight_decay: Annotated[Finite, Field(ge=0)] | None = Field(
        None, description="of the weights; default: the network's usual one"
    )
    schedule: Literal["cosine", "onecycle"] = Field(
        "cosine", description="of the learning rate; cosine: after a short rise from nothing"
    )
    flip: bool = Field(True, description="mirror half of the training images")
    crop: bool = Field(True, description="move training images by up to an eighth of their side")
    seed: int = Field(
        42,
        ge=0,
        description="root of every random choice of the training, that of validation included",
    )
    split_seed: int = Field(
        42,
        ge=0,
        description="of the test list, where the classes lie in one folder: not the seed's",
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="of the arithmetic; bf16 and fp16 keep the weights in fp32"
    )
    channels_last: bool = Field(True, description="memory format; quicker on CPUs and tensor cores")
    num_threads: int = Field(0, ge=0, description="threads that decode; 0: one a core")
    tensorboard: bool = Field(
        False, description="write its numbers as TensorBoard event files, too, beside its weights"
    )

    @property
    def recipe(self) -> Recipe:
        """How the network is trained, what was given in the place of what is usual."""
        usual = RECIPES[self.model]
        return replace(
            usual,
            optimizer=usual.optimizer if self.optimizer == "usual" else self.optimizer,
            lr=usual.lr if self.lr is None else self.lr,
            weight_decay=usual.weight_decay if self.weight_decay is None else self.weight_decay,
        )

    def shape(self, classes: int) -> Shape:
        """Return what the network of so many classes looks like."""
        return Shape(model=self.model, stem=self.stem, size=self.size, classes=classes)

    @property
    def trainer(self) -> TrainerConfig:
        """What the trainer works with."""
        recipe = self.recipe
        return TrainerConfig.of(
            self,
            optimizer=recipe.optimizer,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            schedule=f"warmup_{self.schedule}",
            finite_gradients=False,  # of a norm that overflows batch norms make a sound step
        )

    @field_validator("size")
    @classmethod
    def _large_enough(cls, size: int, others: ValidationInfo) -> int:
        model, stem = others.data.get("model"), others.data.get("stem")
        if model is None or stem is None:  # wrong themselves, and said to be
            return size
        recipe = RECIPES[model]
        patch, least = recipe.patch.get(stem, 1), recipe.least_size.get(stem, LEAST_SIZE)
        if size < least:
            raise ValueError(
                f"{model} with the {stem} stem needs {least} pixels, and this is {size}"
            )
        if size % patch:
            raise ValueError(f"{model} with the {stem} stem needs a multiple of {patch} pixels")
        return size
