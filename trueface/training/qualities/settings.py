"""The settings of a training in several qualities, and why some of them do not go together. No torch here."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from trueface.corruptions.registry import RAW
from trueface.data.qualities import (
    files_of,
    joined,
    listed,
    missing_programs,
    modules_of,
    spelt,
    with_files,
)
from trueface.models.registry import spec_of
from trueface.runtime.field_types import Finite, Settings

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
    if names and settings["decode"] == "scaled":
        yield (
            "qualities with decode: scaled: images would be reduced before they are corrupted; "
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
