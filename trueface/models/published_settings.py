"""The settings of a published checkpoint: its file, its network, its preprocessing and its classes.

This module does not import torch.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from trueface.models.registry import (
    model_name,
    modules_of_model,
    normalizes_itself,
    reads_landmarks,
    revisions_of_model,
    spec_of,
    three_numbers,
    unfit_side,
)
from trueface.runtime.field_types import Count, Settings, setting

FAKE = "fake"
REAL_FAKE: Literal["real,fake"] = "real,fake"
NO_FILE = frozenset({"default", "none", ""})  # values of `weights` in trainings that name no file


def _join(value: Any) -> Any:  # values come from YAML or argv and may have any type
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else value


def _joined_words(value: Any) -> Any:
    joined = _join(value)
    return joined.replace(" ", "") if isinstance(joined, str) else joined


def _joined_files(value: Any) -> Any:
    """Return the files of a mapping as one text: points=g1.pth,differences=g2.pth."""
    if not isinstance(value, Mapping):
        return value
    if any("," in str(file) for file in value.values()):
        raise ValueError(f"weights: {dict(value)}: the path of a file must not have a comma")
    return ",".join(f"{name}={file}" for name, file in value.items())


# The builders of torchvision can rescale the pixels (transform_input). A state dict does not show whether they did.
_RESCALING = {
    "tv/inception_v3": "Give timm/inception_v3, which does not: with the authors' mean and std, or with "
    "0.5,0.5,0.5 for both if they set transform_input",
    "tv/googlenet": "Add it as a plug-in (contributing/extending.md)",
}


def _network(name: str) -> str:
    """Return the name of a network that is trained by gradient steps.

    Raises:
        ValueError: there is no such network, it is of a family, it was never compared, or its pixels are ambiguous.
    """
    spec = spec_of(model_name(name))
    if spec.inner is not None or spec.solver != "gradient":
        raise ValueError(
            f"{name} is not a network that others publish weights of. Give a network, such as tv/resnet50"
        )
    if not spec.compared:
        raise ValueError(
            f"{name} was not compared with the code of its authors, so it loads no file of others. Train it instead"
        )
    if remedy := _RESCALING.get(spec.name):
        raise ValueError(
            f"{name} may rescale the pixels itself (transform_input), and a file does not show whether its "
            f"authors' network does. {remedy}"
        )
    return name


def _canonical_numbers(text: str) -> str:
    return ",".join(map(repr, three_numbers(text))) if text else ""


Three = Annotated[
    str,
    AfterValidator(_canonical_numbers),
    BeforeValidator(_join, json_schema_input_type=str | list[float]),
]
Parts = Annotated[str, BeforeValidator(_joined_words, json_schema_input_type=str | list[str])]
Files = Annotated[str, BeforeValidator(_joined_files, json_schema_input_type=str | dict[str, str])]
Classes = Annotated[
    Literal["real,fake", "fake,real"],
    BeforeValidator(_joined_words, json_schema_input_type=str | list[str]),
]


class PublishedSettings(Settings):
    """A checkpoint that others published."""

    architecture: Annotated[str, AfterValidator(_network)] = setting(
        cost=True,
        modules=modules_of_model,
        description="Network of the file: tv/NAME (torchvision, such as tv/resnet50), timm/NAME, or a "
        "network of `launcher kinds train`",
    )
    weights: Files = Field(
        description="File of the weights, of torch.save or safetensors. Nothing in it is executed. Of lrnet two files: "
        "{points: g1.pth, differences: g2.pth}"
    )
    base_weights: str = setting(
        "",
        added=True,
        description="File of the tensors that weights does not have, such as torchvision's VGG-19 for capsule",
    )
    key: str = Field(
        "",
        description="Key of the state dict in the file, such as model, or a.b for a key below a key. Empty "
        "finds it if there is only one",
    )
    prefix: str = Field(
        "",
        description="Text before the names of the network's tensors, such as module. or backbone. Tensors "
        "without it are ignored. Empty finds it if only one fits",
    )
    ignore: Parts = Field(
        "",
        description="Parts of the file that the network does not have and the logits do not need, such as "
        "adjust_channel, separated by commas",
    )
    head: str = Field(
        "",
        description="Name of the last layer in the file, such as fc.1, without the prefix if it begins with "
        "it. Empty is that of the network",
    )
    logits: Literal[1, 2] = Field(
        1,
        description="Number of logits. With 1, the probability of the second of `classes` is the sigmoid. "
        "With 2, the probabilities are the softmax",
    )
    classes: Classes = Field(
        REAL_FAKE,
        description="Order of the classes: real,fake or fake,real. With one logit, a positive logit means "
        "the second one",
    )
    threshold: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="Probability of fake above which an image is called fake"
    )
    resize: int = Field(
        0,
        ge=0,
        description="Length of the shorter side after resizing, in pixels. 0 does not resize",
    )
    resize_side: Literal["shorter", "longer"] = setting(
        "shorter",
        added=True,
        description="Side that gets the length `resize`. With longer, `crop` adds a black border to the other one",
    )
    squash: bool = Field(
        False, description="Resize to a square of `resize` pixels, whatever the aspect ratio"
    )
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "area"] = Field(
        "bilinear",
        description="Interpolation of `resize`, as in Pillow. With area, as in OpenCV: the mean over an area if the "
        "image shrinks (INTER_AREA), bicubic if it grows (INTER_CUBIC)",
    )
    crop: Count = setting(
        224, cost=True, description="Side length of the centre crop after resizing, in pixels"
    )
    mean: Three = Field(
        "",
        description="Mean of red, green and blue in 0 to 1, such as 0.5,0.5,0.5. Empty is that of the "
        "network",
    )
    std: Three = Field(
        "",
        description="Standard deviation of red, green and blue, such as 0.5,0.5,0.5. Empty is that of the "
        "network",
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.weights in NO_FILE:
            raise ValueError(
                f"weights: {self.weights or 'nothing'} is not a file. Give the path of the checkpoint"
            )
        if names := spec_of(self.architecture).files:
            self._check_files(names)
        if bool(self.mean) != bool(self.std):
            raise ValueError("give both mean and std, or none of them")
        if self.std and min(three_numbers(self.std)) <= 0:
            raise ValueError(f"std: {self.std}: the numbers must be greater than 0")
        if self.squash and not self.resize:
            raise ValueError("squash needs resize, the side of the square in pixels")
        if self.squash and self.resize_side == "longer":
            raise ValueError(
                "squash gives both sides the length resize, and resize_side: longer one of them. Leave one of them out"
            )
        is_plain = self.logits == 1 and self.classes == REAL_FAKE and not self.head
        if spec_of(self.architecture).head is None and not is_plain:
            raise ValueError(
                f"{self.architecture} does not end in one linear layer, so that head, logits and classes do not "
                "apply to it. Leave them out"
            )
        if reason := unfit_side(spec_of(self.architecture), self.crop, "crop"):
            raise ValueError(reason.removesuffix("."))
        if 0 < self.resize < self.crop:
            raise ValueError(
                f"crop: {self.crop} is larger than resize: {self.resize}, so every image would get a black "
                f"border. Set crop to {self.resize} or less"
            )
        return self

    def _check_files(self, names: Sequence[str]) -> None:
        example = ", ".join(f"{name}: {name}.pth" for name in names)
        if sorted(self.weight_files) != sorted(names):
            raise ValueError(
                f"weights: {self.weights}: {self.architecture} has {len(names)} files. Write weights: {{{example}}}"
            )
        if self.base_weights or self.key or self.prefix or self.ignore:
            raise ValueError(
                f"{self.architecture} reads {len(names)} files of its own names, so that base_weights, key, prefix and "
                "ignore do not apply to it. Leave them out"
            )

    @property
    def weight_files(self) -> dict[str, str]:
        """The files by the names of the network's parts; '' names a file that has all."""
        if not spec_of(self.architecture).files:
            return {"": self.weights}
        pairs = (each.partition("=") for each in self.weights.split(","))
        return {name.strip(): file.strip() for name, _, file in pairs if file.strip()}

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:
        """Return settings without effect for the other values, each with the reason."""
        architecture = str(values.get("architecture", ""))
        if reads_landmarks(architecture):
            pixels = ("crop", "resize", "resize_side", "squash", "interpolation", "mean", "std")
            return dict.fromkeys(pixels, f"{architecture} reads landmarks, not pixels")
        names = () if values.get("resize") else ("interpolation", "resize_side")
        idle = dict.fromkeys(names, "resize is 0")
        if normalizes_itself(architecture):
            idle |= dict.fromkeys(("mean", "std"), f"{architecture} normalizes pixels itself")
        return idle

    @classmethod
    def revisions(cls, values: Mapping[str, Any]) -> Sequence[str]:
        """Return the changes that changed results with these settings."""
        return (*super().revisions(values), *revisions_of_model(values["architecture"]))

    @property
    def ignored_parts(self) -> tuple[str, ...]:
        """The names of `ignore`."""
        return tuple(filter(None, self.ignore.split(",")))

    @property
    def fake_index(self) -> int:
        """The place of the class fake."""
        return self.classes.split(",").index(FAKE)

    @property
    def threshold_logit(self) -> float:
        """The threshold as a logit of the probability of fake."""
        return math.log(self.threshold / (1 - self.threshold))

    @property
    def normalization(self) -> str:
        """The normalization as a checkpoint stores it; see `detectors.normalization_numbers`."""
        return f"{self.mean}/{self.std}" if self.mean else "model"
