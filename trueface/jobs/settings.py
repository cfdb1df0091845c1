"""The settings of every kind of job: one vocabulary for task files and the command line.

Names and defaults are the flags of the original train.py where it has one; what is ours says so
in its description. Ranges are given as one number or as two.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from launcher.api import Settings, UnknownName
from trueface.runtime.field_types import Count, Finite, Positive, Probability, Quality
from trueface.unlearning.hyperparameters import Options
from trueface.unlearning.registry import METHODS, modules_of
from trueface.unlearning.settings import options_among, with_options

BATCH_SIZE = 64  # of trainings; the original's
BLUR_SIDE = 8  # pixels: the blur reaches seven to each side, and mirrors the image there

_NUMBER = TypeAdapter(int)  # as settings take it: 16, "16", 16.0

ARCHITECTURES: Mapping[str, str] = {
    "baseline": "ResNet-50",
    "nodown": "ResNet-50 whose first convolution keeps the resolution",
    "baseline18": "ResNet-18",
    "nodown18": "ResNet-18 whose first convolution keeps the resolution",
    "slim18": "narrow ResNet-18 on a high-pass residual, for CPUs",
    "squeezenet": "SqueezeNet 1.1",
    "mobilenet": "MobileNet v2",
}


def _architecture(name: str) -> str:
    if name in ARCHITECTURES:
        return name
    by_network = {_letters(network): ours for ours, network in ARCHITECTURES.items()}
    meant = by_network.get(_letters(name))  # resnet50 is what we call baseline
    raise ValueError(UnknownName("model", name, ARCHITECTURES, suggestion=meant))


def _letters(name: str) -> str:
    return "".join(char for char in name.casefold() if char.isalnum())


def _method(name: str) -> str:
    if name not in METHODS:
        where = "`launcher kinds unlearn`"
        raise ValueError(UnknownName("unlearning method", name, METHODS, where=where))
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

Precision = Annotated[
    Literal["fp32", "bf16", "fp16"],
    Field(description="of the arithmetic; bf16 and fp16 keep the weights in fp32"),
]


def other_decoding(trained: Mapping[str, Any], used: Mapping[str, Any]) -> str:
    """Return in what the decoding of images differs between two jobs' settings; '' if in nothing.

    Scaled decoding depends on the size that shall be covered.
    """
    before, now = (one.get("decode", "exact") for one in (trained, used))
    if before != now:
        return f"decode: {before}, and this is decode: {now}"
    sizes = [one.get("resize_size") for one in (trained, used)]
    if now == "scaled" and sizes[0] != sizes[1]:
        return f"decode: scaled at resize_size {sizes[0]}, and this is at {sizes[1]}"
    return ""


class PlaceSettings(Settings):
    """Where the images are, and which of them are meant."""

    costs: ClassVar[frozenset[str]] = frozenset({"data_root", "split_path"})
    aliases: ClassVar[Mapping[str, str]] = PLACES

    data_root: str = Field(description="folder with PreSocial, Facebook, …")
    split_path: str = Field(
        description="folder with train.json, val.json and test.json, or one file with all three"
    )
    layout: Literal["auto", "plain", "trueface"] = Field(
        "auto",
        description="plain: PreSocial, Facebook, …; trueface: TrueFace_PreSocial, "
        "TrueFace_PostSocial/…; auto: whichever is there",
    )
    missing_images: Literal["stop", "skip"] = Field(
        "stop",
        description="an unshared image that the split names and that is not on disk: stop, or "
        "count it; of shared copies some are always missing",
    )


class DataSettings(PlaceSettings):
    """How images are read."""

    neutral: ClassVar[frozenset[str]] = frozenset({"num_threads"})
    costs: ClassVar[frozenset[str]] = PlaceSettings.costs | {"batch_size", "num_threads", "decode"}

    batch_size: Count = Field(BATCH_SIZE, description="images a step")
    num_threads: int = Field(0, ge=0, description="loading processes; 0 loads in the job's own")
    on_bad_image: Literal["skip", "stop"] = Field(
        "skip", description="an image that cannot be decoded: skip and list it, or stop"
    )
    decode: Literal["exact", "scaled"] = Field(
        "exact",
        description="scaled: JPEG files are read at the smallest of 1/1, 1/2, 1/4, 1/8 that "
        "still covers resize_size; quicker, and other high frequencies",
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
    features: bool = Field(False, description="write what the last layer gets, one row an image")
    trigger: bool = Field(
        False,
        description="score every image with the backdoor's patch on it, too (models of patch-N)",
    )
    precision: Precision = "fp32"


class LearningSettings(DataSettings):
    """What trainings and unlearnings share: network, augmentation and optimisation."""

    costs: ClassVar[frozenset[str]] = DataSettings.costs | {
        "model", "freeze", "num_epochs", "ema", "precision", "compile", "augment_cycle",
        "resize_size", "patch_size", "test_crops",
    }  # fmt: skip
    aliases: ClassVar[Mapping[str, str]] = {**PLACES, **LEARNING}

    model: Annotated[str, AfterValidator(_architecture)] = Field(
        "nodown", description=", ".join(ARCHITECTURES)
    )
    weights: str = Field("default", description="default (ImageNet), none, or a state dict's path")
    normalization: Literal["model", "imagenet", "half"] = Field(
        "model",
        description="of pixels, as the weights want it; model: its usual; half: x * 2 - 1",
    )
    freeze: bool = Field(False, description="train the last layer only")
    freeze_bn: bool = Field(True, description="with freeze: batch statistics stay as they are too")
    dropout: float = Field(0.0, ge=0, lt=1, description="before the last layer")

    num_epochs: Count = Field(100, description="passes over the training images")
    lr: Finite = Field(1e-4, gt=0, description="learning rate (the highest, with onecycle)")
    lr_decay_epochs: int = Field(
        -1,
        description="plateau: epochs without progress before lr falls to a tenth; step: epochs "
        "between falls; <= 0: never",
    )
    optimizer: Literal["adam", "adamw"] = Field("adam", description="update rule")
    weight_decay: Finite = Field(0.0, ge=0, description="of the optimizer")
    schedule: Literal["plateau", "step", "onecycle"] = Field(
        "plateau", description="of the learning rate"
    )
    early_stop: int = Field(
        0, ge=0, description="stop after so many epochs without progress; 0: never"
    )
    select: Literal["best", "last"] = Field(
        "best", description="which epoch's weights are kept: best on validation, or last"
    )
    ema: float = Field(
        0.0, ge=0, lt=1, description="keep a running mean of the weights, of this decay; 0: none"
    )
    seed: int = Field(42, ge=0, description="root of every random choice of the training")
    save_weights: bool = Field(True, description="keep the best epoch's weights")
    precision: Precision = "fp32"
    channels_last: bool = Field(True, description="memory format; quicker on CPUs and tensor cores")
    compile: bool = Field(False, description="let torch compile the network first")

    augment_seed: int = Field(42, ge=0, description="of the augmentation, whatever the seed")
    augment_cycle: int = Field(
        0,
        ge=0,
        description="the augmentation repeats after so many epochs, so that a frozen training "
        "computes each image so many times only; 0: it never does",
    )
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

    @field_validator("blur_prob")
    @classmethod
    def _wide_enough(cls, share: float, others: ValidationInfo) -> float:
        side = others.data.get("resize_size", BLUR_SIDE)  # absent where it is wrong itself
        if share > 0 and side < BLUR_SIDE:
            raise ValueError(f"a blur needs {BLUR_SIDE} pixels, and resize_size is {side}")
        return share


class TrainSettings(LearningSettings):
    """A training: what it starts from, and what it leaves to those that start from it."""

    neutral: ClassVar[frozenset[str]] = LearningSettings.neutral | {"checkpoint_every", "resume"}

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
    resume: bool = Field(
        True, description="go on where the same training was interrupted, if it was"
    )
    checkpoint_every: int = Field(
        0, ge=0, description="keep the state after so many batches, too; 0: after epochs only"
    )
    features: bool = Field(
        False, description="write what the last layer gets, one row a training image"
    )


class PoisonSettings(PlaceSettings):
    """A choice of training labels to turn round."""

    for_many: ClassVar[bool] = True

    poison_seed: int = Field(
        42, ge=0, description="of the draw; the seed of the training, unless it is given"
    )
    poison_per: Literal["all", "class", "subset"] = Field(
        "all", description="the same share of each class, or of each method in it"
    )
    poison_unit: Literal["picture", "image"] = Field(
        "picture",
        description="what is drawn: a picture with all its shared copies, or each image by itself, "
        "as the original did",
    )
    poison_list: str = Field(
        "", description="a file that names the images instead: keys, or an old record (.pkl)"
    )

    @classmethod
    def followed(cls, given: Mapping[str, Any]) -> Mapping[str, str]:
        """Return that the draw follows the training's seed; a list of images is not drawn."""
        return {} if given.get("poison_list") else {"poison_seed": "seed"}


class UnlearningSettings(LearningSettings):
    """An unlearning: its method, what it knows, and what a training needs.

    Every hyper-parameter of every method is a setting besides: see `unlearn.flat`.
    """

    costs: ClassVar[frozenset[str]] = LearningSettings.costs | {"method", "unlearn_epochs"}
    modules: ClassVar[Mapping[str, Callable[[Any], tuple[str, ...]]]] = {"method": modules_of}

    method: Annotated[str, AfterValidator(_method)] = Field(description=", ".join(METHODS))
    force: bool = Field(False, description="apply a method that is known not to work here")
    known: Probability = Field(
        1.0,
        description="share of the wrong labels that the method is told of; the rest stays hidden",
    )
    find: bool = Field(
        False, description="look for hidden wrong labels first, and tell the method of those too"
    )
    keep_retain: bool = Field(
        True, description="the method may read the images that are not to be forgotten"
    )
    afterwards: bool = Field(
        True, description="measure how soon the forgotten is learned again, and a linear probe"
    )

    @property
    def options(self) -> Options:
        """The method's hyper-parameters."""
        return options_among(self.method, self.model_dump())


UnlearnSettings = with_options(UnlearningSettings)


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
