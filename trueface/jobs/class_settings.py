"""The settings of `classify` and `forget`: no torch here."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from launcher.api import Settings, UnknownName
from trueface.runtime.field_types import Count, Finite
from trueface.unlearning.applicability import Goal
from trueface.unlearning.hyperparameters import Options
from trueface.unlearning.registry import METHODS, modules_of
from trueface.unlearning.settings import options_among, with_options

SINGLE = (
    "{base} has forgotten before, and images are forgotten once: start from the model that was "
    "trained, with a larger forget_fraction where more shall go"
)
Stem = Literal["small", "large"]

# What a network's input must have at least, or be a multiple of, in pixels.
LEAST: Mapping[tuple[str, Stem], int] = MappingProxyType(
    {("vgg16", "small"): 32, ("vgg16", "large"): 32, ("vit", "small"): 8, ("vit", "large"): 32}
)
LEAST_OF_OTHERS = 8
PATCH: Mapping[Stem, int] = MappingProxyType({"small": 4, "large": 16})  # of vit


# what a forgetting must have in common with its base's training
SHARED = ("model", "stem", "size", "images_per_class", "seed", "split_seed", "data_root")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a network is usually trained from scratch."""

    summary: str
    optimizer: Literal["sgd", "adamw"]
    lr: float
    weight_decay: float


# He et al., arXiv 1512.03385, section 4.2, for CIFAR-10, with the weight decay of wide ResNets
# (arXiv 1605.07146, section 3); VGG at half their rate; ViT as Touvron et al., arXiv 2012.12877.
RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "vgg16": Recipe(
            summary="VGG-16 with batch norm", optimizer="sgd", lr=0.05, weight_decay=5e-4
        ),
        "resnet18": Recipe(summary="ResNet-18", optimizer="sgd", lr=0.1, weight_decay=5e-4),
        "resnet50": Recipe(summary="ResNet-50", optimizer="sgd", lr=0.1, weight_decay=5e-4),
        "vit": Recipe(summary="vision transformer", optimizer="adamw", lr=1e-3, weight_decay=0.05),
    }
)


def _network(name: str) -> str:
    if name not in RECIPES:
        raise ValueError(UnknownName("model", name, RECIPES))
    return name


def _method(name: str) -> str:
    if name not in METHODS:
        raise ValueError(UnknownName("unlearning method", name, METHODS))
    return name


class ClassifySettings(Settings):
    """A training of a network that tells classes apart."""

    neutral: ClassVar[frozenset[str]] = frozenset({"num_threads"})
    costs: ClassVar[frozenset[str]] = frozenset(
        {
            "data_root", "model", "stem", "size", "images_per_class", "num_epochs", "batch_size",
            "precision", "channels_last",
        }
    )  # fmt: skip

    data_root: str = Field(
        description="folder with the data set's files as torchvision keeps them, or with "
        "train/<class>/ and test/<class>/; folders: or with <class>/ alone"
    )
    model: Annotated[str, AfterValidator(_network)] = Field(
        "resnet18", description=", ".join(f"{key} ({one.summary})" for key, one in RECIPES.items())
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

    @property
    def recipe(self) -> Recipe:
        """How the network is trained, what was given in the place of what is usual."""
        usual = RECIPES[self.model]
        return Recipe(
            summary=usual.summary,
            optimizer=usual.optimizer if self.optimizer == "usual" else self.optimizer,
            lr=usual.lr if self.lr is None else self.lr,
            weight_decay=usual.weight_decay if self.weight_decay is None else self.weight_decay,
        )

    @field_validator("size")
    @classmethod
    def _large_enough(cls, size: int, others: ValidationInfo) -> int:
        model, stem = others.data.get("model"), others.data.get("stem")
        if model is None or stem is None:  # wrong themselves, and said to be
            return size
        least = LEAST.get((model, stem), LEAST_OF_OTHERS)
        if size < least:
            raise ValueError(
                f"{model} with the {stem} stem needs {least} pixels, and this is {size}"
            )
        if model == "vit" and size % PATCH[stem]:
            raise ValueError(f"vit with the {stem} stem needs a multiple of {PATCH[stem]} pixels")
        return size


class ForgettingSettings(ClassifySettings):
    """An unlearning of a class or of some images, and what a training needs besides.

    Every hyper-parameter of every method is a setting, too: see `unlearn.flat`.
    """

    costs: ClassVar[frozenset[str]] = ClassifySettings.costs | {"method", "unlearn_epochs"}
    modules: ClassVar[Mapping[str, Callable[[Any], tuple[str, ...]]]] = {"method": modules_of}

    method: Annotated[str, AfterValidator(_method)] = Field(description=", ".join(METHODS))
    force: bool = Field(False, description="apply a method that is known not to work here")
    forget_class: int | str = Field(
        0, description="the class that shall go: its name, or its place in their order from 0"
    )
    forget_fraction: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="forget this fraction of the training images instead of a class, drawn at random "
        "by the seed: 0.1 is a tenth; 0: a class",
    )
    afterwards: bool = Field(
        True, description="measure how soon the forgotten is learned again, and a linear probe"
    )

    @property
    def goal(self) -> Goal:
        """What shall be forgotten."""
        return "instances" if self.forget_fraction else "class"

    @property
    def options(self) -> Options:
        """The method's hyper-parameters."""
        return options_among(self.method, self.model_dump())


ForgetSettings = with_options(ForgettingSettings)


def differences(trained: Mapping[str, Any], used: Mapping[str, Any]) -> Iterable[str]:
    """Return which settings differ that a training and its forgetting must have in common."""
    # a version until 0.2 did not write split_seed: the images themselves are compared then
    return [key for key in SHARED if trained.get(key, used.get(key)) != used.get(key)]
