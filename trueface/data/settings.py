"""Settings of jobs that read or make images: paths, batches, decoding, augmentation, tests.

Names and defaults are those of the flags of the original train.py if it has one; aliases are the names
of its launcher.py. Descriptions of other settings say that they are additions. Ranges are given as one number or as two. This module
does not import torch.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from trueface.attacks import registry as attacks
from trueface.attacks.registry import Access, parse_attack
from trueface.corruptions.registry import NONE, canonical, describe_choices
from trueface.corruptions.registry import plugin_modules as corruption_modules
from trueface.data.augmentations.registry import with_augmentations
from trueface.data.clips import ClipsValue, clips_setting
from trueface.data.forging.registry import SELF, SPECS, plugin_modules
from trueface.runtime.errors import UsageError
from trueface.runtime.field_types import (
    Count,
    LoadingProcesses,
    Positive,
    Probability,
    Quality,
    Settings,
    setting,
)
from trueface.runtime.ids import parse_model

SELF_BLENDING = "trueface.data.forging.blending"
PREPROCESSING = "preprocessing"  # in the provenance of a model that others published


# columns of batches in addition to images and labels: attributes of `data.index.Image` …
COLUMNS: Mapping[str, str] = {"quality": "modifier", "group": "method"}
# … and columns of the CSV files of the setting `attributes`
ATTRIBUTE_COLUMNS = ("demographic", "forgery")
BATCH_SIZE = 64  # images per batch of a training; the original's


BLUR_SIDE = 8  # pixels: the blur reaches seven to each side, and mirrors the image there


_NUMBER = TypeAdapter(int)  # as settings take it: 16, "16", 16.0
DRAWN_MARK = "drawn.json"  # marker file in the data root of a drawn set: settings and photographs
LEAST_SIZE: Mapping[str, int] = {"portraits": 32, "shapes": 8, "resized": 8}
PARTS: Mapping[str, float] = {"A": 0.7, "B": 0.2, "C": 0.1}
SHAPE_CLASSES = ("bar", "cross", "disc", "ring", "square", "triangle")  # classes of shapes, sorted
TRAIN_SHARE = 0.8  # fraction of each class of shapes


def _original_batch_size(value: Any) -> Any:
    """Return the batch size of tests that the original took from that of trainings."""
    if isinstance(value, bool):
        return value
    try:
        return max(_NUMBER.validate_python(value) // 8, 1)
    except ValidationError:  # not an integer: reported where the setting is checked
        return value


Precision = Annotated[
    Literal["fp32", "bf16", "fp16"],
    Field(description="Precision of the computation. With bf16 and fp16, the weights stay in fp32"),
]


def other_decoding(base_settings: Mapping[str, Any], own_settings: Mapping[str, Any]) -> str:
    """Return how the decoding of images differs between two jobs' settings; '' if it does not.

    Scaled and fitted decoding depend on the size that shall be covered.
    """
    before, now = (settings.get("decode", "exact") for settings in (base_settings, own_settings))
    if before != now:
        return f"decode: {before}, and this job uses decode: {now}"
    sizes = [settings.get("resize_size") for settings in (base_settings, own_settings)]
    if now != "exact" and sizes[0] != sizes[1]:
        return f"decode: {now} at resize_size {sizes[0]}, and this job uses resize_size {sizes[1]}"
    return ""


def resized_base(
    model: str, published_settings: Mapping[str, Any], own_settings: Mapping[str, Any]
) -> str:
    """Return why nothing can be trained from a published model that needs resized images; '' if it can be.

    Args:
        model: its ID.
        published_settings: its preprocessing, with `resize` and `crop`.
        own_settings: the settings of the training.
    """
    resize, crop = published_settings.get("resize"), published_settings.get("crop")
    is_whole = resize == crop and published_settings.get("resize_side") != "longer"
    if not isinstance(resize, int) or not resize or (is_whole and _is_fitted(own_settings, resize)):
        return ""
    remedy = (
        f"Set decode: fitted and resize_size: {resize}"
        if is_whole
        else f"Use {model} only for tests"
    )
    return (
        f"{model} was published with images that are resized to {resize} pixels. The training does not do this. "
        f"{remedy}, or take it over with resize: 0 and give images of that size."
    )


def _is_fitted(own_settings: Mapping[str, Any], resize: int) -> bool:
    """Return whether a training decodes images to the side to which a published model resizes them."""
    return own_settings.get("decode") == "fitted" and own_settings.get("resize_size") == resize


class PlaceSettings(Settings):
    """Where the images are, and which of them are used."""

    model_config = ConfigDict(defer_build=True)  # most task files use few of the kinds

    data_root: str = setting(
        cost=True,
        aliases=("dataset_path",),
        word_file="dataset.yaml",  # file of `trueface import`
        description="Folder of the images, with PreSocial/, Facebook/, …",
    )
    split_path: str = setting(
        cost=True,
        description="Folder with train.json, val.json and test.json, or one file with all three",
    )
    layout: Literal["auto", "plain", "trueface"] = Field(
        "auto",
        description="Names of the folders: plain (PreSocial, Facebook, …), trueface (TrueFace_PreSocial, "
        "TrueFace_PostSocial/…), or auto (whichever exists)",
    )
    missing_images: Literal["stop", "skip"] = Field(
        "stop",
        description="Action if an original image of the split is not on disk: stop (end the job) or skip "
        "(count the image and continue). Missing re-shared images are always skipped",
    )


class DataSettings(PlaceSettings):
    """How images are read."""

    batch_size: Count = setting(BATCH_SIZE, cost=True, description="Images per step")
    num_threads: LoadingProcesses = setting(
        "auto",
        neutral=True,
        cost=True,
        description="Number of processes that load images. auto starts them if loading is the bottleneck, on "
        "the job's cores and its share of the free ones. 0 loads in the process of the job",
    )
    on_bad_image: Literal["skip", "stop"] = Field(
        "skip",
        description="Action if an image cannot be decoded: skip (leave it out and list it) or stop (end "
        "the job)",
    )
    decode: Literal["exact", "scaled", "fitted"] = setting(
        "exact",
        cost=True,
        description="Size of decoded images. With exact, it does not change. With fitted, the shorter "
        "side gets resize_size pixels, so that the model sees images of all sizes alike. With "
        "scaled, JPEG files are read at the smallest of 1/1, 1/2, 1/4 and 1/8 that covers "
        "resize_size. This is faster but changes high frequencies",
    )
    cache: Literal["auto", "decoded", "none"] = setting(
        "auto",
        neutral=True,
        description="Data shared with other jobs: auto (features of a frozen backbone, in the feature "
        "store), decoded (also decoded images), or none",
    )
    attributes: str = setting(
        "",
        added=True,
        description="CSV file with the group of people that each image shows, or several separated by "
        "commas. Columns: img_path,label,ismale,isasian,iswhite,isblack,intersec_label, or "
        "img_path and columns of your own",
    )
    missing_attributes: Literal["stop", "skip"] = setting(
        "stop",
        added=True,
        description="Action if an image has no row in attributes: stop (end the job) or skip (count the "
        "image and continue). Trainings put such images into a group of their own, metrics "
        "into no group",
    )


Corruptions = Annotated[str, AfterValidator(canonical)]


# options of attacked tests, and of which attacks: by what these know of the detector; None: of all
ATTACK_OPTIONS: Mapping[str, Access | None] = {
    "surrogate": "transfer",
    "queries": "score",
    "attack_images": None,
    "attack_save": None,
}


def _model_id(text: str) -> str:
    """Return the ID of a model, which becomes a folder's name; '' names none.

    Raises:
        ValueError: no ID.
    """
    try:
        if text:
            parse_model(text)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return text


class ScoringSettings(DataSettings):
    """How images are scored: which crop, in which precision."""

    # `shared` as in the original: images are not cropped to patches, and so fewer of them fit into memory
    batch_size: Count = setting(
        _original_batch_size(BATCH_SIZE),
        cost=True,
        shared=_original_batch_size,
        description="Images per step",
    )
    resize_size: Count = setting(
        256, cost=True, description="Side length of the centre crop, in pixels"
    )
    patch_size: int = setting(
        -1,
        cost=True,
        shared=lambda _: -1,
        description="Side length of the patches, in pixels. 0 or less uses no patches",
    )
    test_crops: int = setting(
        0,
        cost=True,
        ge=0,
        description="Number of fixed patches whose mean is the score. 0 scores the centre crop",
    )
    precision: Precision = "fp32"

    @classmethod
    def revisions(cls, values: Mapping[str, Any]) -> Sequence[str]:
        """Return the changes that changed results with these settings."""
        own = () if values["precision"] == "fp32" else ("last layer in float32",)
        return (*super().revisions(values), *own)


class TestSettings(ScoringSettings):
    """A test: which crop of each image is scored, and what happened to it before."""

    __test__ = False  # not a test case, whatever its name

    clips: ClipsValue = clips_setting(cost=True, condition=True)
    corrupt: Corruptions = setting(
        NONE,
        added=True,
        cost=True,
        condition=True,
        modules=corruption_modules,
        description="Corruption of the crop before it is scored, with random values that depend on the "
        f"image's name: {describe_choices()}. Several in turn are written jpeg50+blur1",
    )
    attack: Annotated[str, AfterValidator(attacks.canonical)] = setting(
        NONE,
        added=True,
        cost=True,
        condition=True,
        modules=attacks.plugin_modules,
        description="Attack that changes the images within a budget of grey levels to flip the "
        f"prediction: {attacks.describe_choices()}",
    )
    surrogate: Annotated[str, AfterValidator(_model_id)] = setting(
        "",
        added=True,
        condition=True,
        model=True,
        description="ID of the model with which a transfer attack computes its changes",
    )
    queries: Count = setting(
        500,
        added=True,
        cost=True,
        condition=True,
        description="Largest number of queries per image of a square attack",
    )
    attack_images: int = setting(
        100,
        added=True,
        cost=True,
        condition=True,
        ge=0,
        description="Number of attacked images of each class, the same ones for every model. 0 attacks all",
    )
    attack_save: Corruptions = setting(
        NONE,
        added=True,
        condition=True,
        modules=corruption_modules,
        description="Corruption of attacked images when they are saved, such as jpeg95",
    )
    round_gradients: bool = setting(
        True,
        added=True,
        condition=True,
        description="Round the gradients that model lgrad classifies to 8 bits, as its authors do",
    )
    save_images: bool = setting(
        False,
        added=True,
        description="Save the images as they are scored, as PNG files in a data root: images/ of the "
        "model folder",
    )
    save_scores: bool = Field(True, description="Write one score per image")
    features: bool = Field(
        False, description="Write the input of the last layer, one row per image"
    )
    trigger: bool = Field(
        False,
        description="Also score every image with the backdoor's trigger patch (models of patch-N)",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_idle_options(cls, values: Any) -> Any:
        """Leave out the options that the attack does not take: they change nothing, and no name."""
        if not isinstance(values, Mapping):
            return values
        try:
            attack = parse_attack(str(values.get("attack", NONE)))
        except ValueError:  # reported where the setting is checked
            return values
        taken = set() if attack is None else {None, attack.spec.access}
        idle = {name for name, access in ATTACK_OPTIONS.items() if access not in taken}
        return {name: value for name, value in values.items() if name not in idle}

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:
        """Return settings without effect for the other values, each with the reason."""
        attack = parse_attack(values["attack"])
        taken = set() if attack is None else {None, attack.spec.access}
        idle = {
            name: f"attack: {values['attack']} does not use it"
            for name, access in ATTACK_OPTIONS.items()
            if access not in taken
        }
        if not values["test_crops"]:
            idle["patch_size"] = "test_crops is 0"
        elif not 0 < values["patch_size"] < values["resize_size"]:
            reason = f"patch_size is {values['patch_size']}, so each patch is the whole crop"
            idle["test_crops"] = reason
        return idle

    @model_validator(mode="after")
    def _attackable(self) -> Self:
        attack = parse_attack(self.attack)
        if self.test_crops and (attack is not None or self.save_images):
            reason = "save_images keeps" if attack is None else "an attack changes"
            raise ValueError(f"{reason} whole images, so leave test_crops out")
        if attack is not None and attack.spec.access == "transfer" and not self.surrogate:
            raise ValueError(
                f"attack: {attack} needs a surrogate, the ID of another model of this run"
            )
        return self


def _self_blending(value: Any) -> tuple[str, ...]:
    """Return the modules that make fakes of real images in training: imported where they are made."""
    return (SELF_BLENDING, *plugin_modules((SPECS[SELF],))) if value else ()


@with_augmentations
class AugmentationSettings(DataSettings):
    """How training images are cropped, resized, blurred, compressed and mirrored."""

    seed: int = Field(42, ge=0, description="Random seed of the training")
    augment_seed: int = Field(
        42, ge=0, description="Random seed of the augmentation, independent of seed"
    )
    augment_cycle: int = setting(
        0,
        cost=True,
        ge=0,
        description="Repeat the augmentation after this many epochs, so that a frozen training computes "
        "each image only this many times. 0 never repeats it",
    )
    resize_prob: Probability = Field(
        0.0, description="Probability that an image is cropped and resized"
    )
    resize_scale: Positive = Field(
        (1.0, 1.0),
        description="Area of the crop of resize_prob, as a fraction of the image. Two values are a range",
    )
    resize_ratio: Positive = Field(
        (1.0, 1.0),
        description="Aspect ratio of the crop of resize_prob, width to height. Two values are a range",
    )
    resize_size: Count = setting(
        256,
        cost=True,
        description="Side length of the resized crop and of the centre crop, in pixels",
    )
    blur_prob: Probability = Field(
        0.0, description="Probability that an original image is blurred. Re-shared images never are"
    )
    blur_sigma: Positive = Field(
        (0.5, 0.5),
        description="Standard deviation of the Gaussian blur, in pixels. Two values are a range",
    )
    jpeg_prob: Probability = Field(
        0.0,
        description="Probability that an original image is compressed as JPEG. Re-shared images never are",
    )
    jpeg_qual: Quality = Field(
        (75, 75), description="JPEG quality, 1 to 100. Two values are a range"
    )
    flip_prob: Probability = Field(
        0.5, description="Probability of a horizontal flip, and of an independent vertical flip"
    )
    patch_size: int = setting(
        -1,
        cost=True,
        description="Side length of the random crop, in pixels. 0 or less does not crop",
    )
    sbi: Probability = setting(
        0.0,
        added=True,
        cost=True,
        modules=_self_blending,
        description="Fraction of the real original images (aligned faces) that become self-blended fakes "
        "with label 1, drawn again in each epoch. All original images are then compressed as "
        "JPEG once more",
    )
    test_crops: int = setting(
        0,
        cost=True,
        ge=0,
        description="Number of fixed patches whose mean is the validation score. 0 scores the centre crop",
    )

    @field_validator("blur_prob")
    @classmethod
    def _wide_enough(cls, probability: float, others: ValidationInfo) -> float:
        side = others.data.get("resize_size", BLUR_SIDE)  # absent where it is wrong itself
        if probability > 0 and side < BLUR_SIDE:
            raise ValueError(
                f"a blur needs a resize_size of at least {BLUR_SIDE} pixels, not {side}"
            )
        return probability


class SampleSettings(Settings):
    """A synthetic image set: where, of which seed and size."""

    data_root: str = setting(aliases=("dataset_path",), description="Folder to write")
    seed: int = Field(42, ge=0, description="Random seed of all images")
    size: int = setting(
        128, cost=True, ge=32, description="Width and height of an image, in pixels"
    )
    train: Count = setting(
        600,
        cost=True,
        description="Number of real images for training. The number of fake images is the same",
    )
    val: Count = setting(
        120,
        cost=True,
        description="Number of real images for validation. The number of fake images is the same",
    )
    test: Count = setting(
        300,
        cost=True,
        description="Number of real images for tests. The number of fake images is the same",
    )
    video_frames: int = setting(
        0,
        added=True,
        cost=True,
        ge=0,
        le=1000,
        description="Frames of each video. With 0, single images. Otherwise train, val and test count videos: real "
        "ones, the same with their frames in another order, and the same with a mark in each frame",
    )


class DrawSettings(Settings):
    """The content, number and size of drawn images, from which generators learn."""

    data_root: str = setting(aliases=("dataset_path",), description="Folder to write")
    content: Literal["portraits", "shapes", "resized"] = setting(
        "portraits",
        cost=True,
        description="Content of the images. With portraits, drawn faces with known attributes, in the "
        "parts A, B and C. With shapes, drawn shapes in train/<class>/ and test/<class>/. "
        "With resized, photographs of `source`, cropped, shrunk and divided like portraits",
    )
    images: int = setting(
        1200,
        cost=True,
        ge=0,
        description="Number of images. With `resized`, photographs taken evenly from the sorted file "
        "names, or all with 0",
    )
    size: int = setting(
        32, cost=True, ge=8, le=1024, description="Width and height of an image, in pixels"
    )
    channels: Literal[1, 3] = Field(
        3, description="Number of colour channels: 3 (colour) or 1 (grey)"
    )
    seed: int = Field(
        42, ge=0, description="Random seed of the images and of their division into parts"
    )
    source: str = Field("", description="Folder of photographs, for `resized`")
    attributes: str = Field(
        "",
        description="Table of the photographs' attributes: attributes.csv (image,NAME,… with 0 or 1) or "
        "list_attr_celeba.txt. Empty for no attributes",
    )
    crop: int = Field(
        178,
        ge=0,
        description="Side length of the centre crop of `resized` before it is shrunk, in pixels. 0 takes "
        "the largest square",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        least = LEAST_SIZE[self.content]
        if self.size < least:
            raise ValueError(
                f"{self.content} need a size of at least {least} pixels, not {self.size}"
            )
        if self.content == "resized":
            if not self.source:
                raise ValueError("content: resized needs source, a folder of photographs")
        elif self.source or self.attributes:
            raise ValueError(
                f"source and attributes work only with content: resized, not with {self.content}"
            )
        elif self.images < 1:
            raise ValueError(f"images is 0: set the number of {self.content} to draw")
        return self

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:
        """Return settings without effect for the other values, each with the reason."""
        if values.get("content") != "resized":
            return {"crop": "only `content: resized` uses it"}
        return {}
