"""The settings of every kind of job: one vocabulary for task files and the command line.

Names and defaults are the flags of the original train.py where it has one; what is ours says so
in its description. Ranges are given as one number or as two.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
)

from launcher.api import Settings, UnknownName
from trueface.unlearn import METHODS

BATCH_SIZE = 64  # of trainings; the original's

_NUMBER = TypeAdapter(int)  # as settings take it: 16, "16", 16.0

ARCHITECTURES: Mapping[str, str] = {
    "baseline": "ResNet-50",
    "nodown": "ResNet-50 whose first convolution keeps the resolution",
    "baseline18": "ResNet-18",
    "nodown18": "ResNet-18 whose first convolution keeps the resolution",
    "slim18": "narrow ResNet-18 on a high-pass residual, for CPUs",
}


def _pair(value: Any) -> Any:  # the border to YAML and argv: anything may come in
    if isinstance(value, int | float | str):
        return (value, value)
    if isinstance(value, list | tuple) and len(value) == 1:
        return (value[0], value[0])
    return value


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"the range goes from {value[0]} down to {value[1]}")
    return value


def _above_zero(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] <= 0:
        raise ValueError(f"{value[0]} is not above zero")
    return value


def _quality(value: tuple[int, int]) -> tuple[int, int]:
    if value[0] < 1 or value[1] > 100:
        raise ValueError(f"JPEG quality {value[0]} to {value[1]} is not within 1 to 100")
    return value


def _architecture(name: str) -> str:
    return _known("model", name, ARCHITECTURES)


def _method(name: str) -> str:
    return _known("unlearning method", name, METHODS)


def _known(what: str, name: str, known: Mapping[str, str]) -> str:
    if name not in known:
        raise ValueError(str(UnknownName(what, name, known)))
    return name


def _eighth(value: Any) -> Any:
    """Return the batch size of tests that the original took from that of trainings."""
    if isinstance(value, bool):
        return value
    try:
        return max(_NUMBER.validate_python(value) // 8, 1)
    except ValidationError:  # no whole number, in whichever form; said where the setting is checked
        return value


# What launcher.py called settings that have another name in train.py.
PLACES: Mapping[str, str] = {"dataset_path": "data_root"}
LEARNING: Mapping[str, str] = {
    "training_epochs": "num_epochs",
    "learning_rate": "lr",
    "learning_dropoff": "lr_decay_epochs",
    "model_flag": "model",
    "model_freeze": "freeze",
}

Finite = Annotated[float, Field(allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1)]
FloatRange = Annotated[
    tuple[Finite, Finite],
    BeforeValidator(_pair),
    AfterValidator(_rising),
    PlainSerializer(list, return_type=list[float]),
]
IntRange = Annotated[
    tuple[int, int],
    BeforeValidator(_pair),
    AfterValidator(_rising),
    PlainSerializer(list, return_type=list[int]),
]
Positive = Annotated[FloatRange, AfterValidator(_above_zero)]
Quality = Annotated[IntRange, AfterValidator(_quality)]
Count = Annotated[int, Field(ge=1)]


class DataSettings(Settings):
    """Where the images are and how they are read."""

    neutral: ClassVar[frozenset[str]] = frozenset({"num_threads"})
    costs: ClassVar[frozenset[str]] = frozenset(
        {"data_root", "split_path", "batch_size", "num_threads"}
    )
    aliases: ClassVar[Mapping[str, str]] = PLACES

    data_root: str = Field(description="folder with PreSocial, Facebook, …")
    split_path: str = Field(description="folder with train.json, val.json and test.json")
    batch_size: Count = Field(BATCH_SIZE, description="images a step")
    num_threads: int = Field(0, ge=0, description="loading processes; 0 loads in the job's own")
    on_bad_image: Literal["skip", "stop"] = Field(
        "skip", description="an image that cannot be decoded: skip and count it, or stop"
    )


class TestSettings(DataSettings):
    """A test: which crop of each image is scored."""

    __test__ = False  # not a test case, whatever its name
    costs: ClassVar[frozenset[str]] = DataSettings.costs | {
        "resize_size", "patch_size", "test_crops",
    }  # fmt: skip
    # as in the original: images are not cropped to patches, and so fewer of them fit into memory
    shared: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        "batch_size": _eighth,
        "patch_size": lambda _: -1,
    }

    batch_size: Count = Field(_eighth(BATCH_SIZE), description="images a step")
    resize_size: Count = Field(256, description="side of the centre crop, in pixels")
    patch_size: int = Field(-1, description="side of the patches, in pixels; <= 0: none")
    test_crops: int = Field(
        0, ge=0, description="score the mean of so many fixed patches; 0: the centre crop"
    )
    save_scores: bool = Field(True, description="write one score a image")


class LearningSettings(DataSettings):
    """What trainings and unlearnings share: network, augmentation and optimisation."""

    costs: ClassVar[frozenset[str]] = DataSettings.costs | {
        "model", "freeze", "num_epochs", "ema",
        "resize_size", "patch_size", "test_crops",
    }  # fmt: skip
    aliases: ClassVar[Mapping[str, str]] = {**PLACES, **LEARNING}

    model: Annotated[str, AfterValidator(_architecture)] = Field(
        "nodown", description=", ".join(ARCHITECTURES)
    )
    weights: str = Field("default", description="default (ImageNet), none, or a state dict's path")
    freeze: bool = Field(False, description="train the last layer only")
    freeze_bn: bool = Field(True, description="with freeze: batch statistics stay as they are too")
    dropout: float = Field(0.0, ge=0, lt=1, description="before the last layer")

    num_epochs: Count = Field(100, description="passes over the training images")
    lr: Finite = Field(1e-4, gt=0, description="learning rate (the highest, with onecycle)")
    lr_decay_epochs: int = Field(
        -1, description="epochs without progress before lr falls to a tenth; <= 0: never"
    )
    optimizer: Literal["adam", "adamw"] = Field("adam", description="update rule")
    weight_decay: Finite = Field(0.0, ge=0, description="of the optimizer")
    schedule: Literal["plateau", "onecycle"] = Field("plateau", description="of the learning rate")
    select: Literal["best", "last"] = Field(
        "best", description="which epoch's weights are kept: best on validation, or last"
    )
    ema: float = Field(
        0.0, ge=0, lt=1, description="keep a running mean of the weights, of this decay; 0: none"
    )
    seed: int = Field(42, ge=0, description="root of every random choice of the training")
    save_weights: bool = Field(True, description="keep the best epoch's weights")

    resize_prob: Probability = Field(0.0, description="share of images cropped and resized")
    resize_scale: Positive = Field((1.0, 1.0), description="area of that crop, as a share")
    resize_ratio: Positive = Field((1.0, 1.0), description="width to height of that crop")
    resize_size: Count = Field(256, description="side of the result and of the centre crop")
    blur_prob: Probability = Field(0.0, description="share of unshared images blurred")
    blur_sigma: Positive = Field((0.5, 0.5), description="of the blur, in pixels")
    jpeg_prob: Probability = Field(0.0, description="share of unshared images compressed")
    jpeg_qual: Quality = Field((75, 75), description="JPEG quality, 1 to 100")
    flip_prob: Probability = Field(
        0.5, description="share of images mirrored, and, apart from that, turned upside down"
    )
    patch_size: int = Field(-1, description="side of the random crop, in pixels; <= 0: none")
    test_crops: int = Field(
        0, ge=0, description="validate on the mean of so many fixed patches; 0: the centre crop"
    )


class TrainSettings(LearningSettings):
    """A training: what it starts from, and what it leaves to those that start from it."""

    warm_start: bool = Field(
        False,
        description="start from the weights that an earlier run left in this model's own folder, "
        "where there are any",
    )
    optimizer_state: Literal["fresh", "kept"] = Field(
        "fresh", description="kept: a fine-tuning goes on with its base's moments of the gradient"
    )
    save_optimizer: bool = Field(
        False, description="keep the optimizer's state, for a fine-tuning that goes on with it"
    )


class PoisonSettings(Settings):
    """A choice of training labels to turn round."""

    costs: ClassVar[frozenset[str]] = frozenset({"data_root", "split_path"})
    aliases: ClassVar[Mapping[str, str]] = PLACES

    data_root: str = Field(description="folder with PreSocial, Facebook, …")
    split_path: str = Field(description="folder with train.json, val.json and test.json")
    poison_seed: int = Field(42, ge=0, description="of the choice")
    poison_stratified: bool = Field(
        False, description="the same share of every method, instead of a share of all images"
    )


class UnlearnSettings(LearningSettings):
    """An unlearning: its method, and what a training needs."""

    costs: ClassVar[frozenset[str]] = LearningSettings.costs | {"method"}

    method: Annotated[str, AfterValidator(_method)] = Field(description=", ".join(METHODS))


class SampleSettings(Settings):
    """A synthetic image set: where, of which seed and size."""

    costs: ClassVar[frozenset[str]] = frozenset({"size", "train", "val", "test"})
    aliases: ClassVar[Mapping[str, str]] = PLACES

    data_root: str = Field(description="folder to make")
    seed: int = Field(42, ge=0, description="of every image")
    size: int = Field(128, ge=32, description="width and height of an image, in pixels")
    train: Count = Field(600, description="real images for training; there are as many fakes")
    val: Count = Field(120, description="real images for validation; there are as many fakes")
    test: Count = Field(300, description="real images for tests; there are as many fakes")
