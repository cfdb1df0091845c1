"""The settings of a training in several qualities. This module does not import torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, model_validator

from trueface.data.qualities import (
    canonical_qualities,
    join_qualities,
    plugin_modules,
    split_quality_words,
    with_files,
)
from trueface.runtime.field_types import Finite, Settings, setting
from trueface.training.layer_weights import canonical_layers, read_layers

MEDIAN, DIM = "median", "dim"
LAYERS = "layer2=.1, layer3=.25, layer4=.5"  # for a ResNet, with the weights in the published files
LEAST_SHARE = 1e-3  # fraction of the classification loss's gradient; a smaller term has no effect
LEAST_ITEMS = 4  # items per batch with `collab`; with fewer the measures are meaningless


@dataclass(frozen=True, slots=True, kw_only=True)
class CollaborationOptions:
    """The options of the additional loss term: the dependence between qualities."""

    weight: float  # alpha, above 0
    form: str  # normalised, plain or cca
    width: str | float  # width of the kernel: `median`, `dim` or a number
    layers: Mapping[str, float]  # weights by names of layers, in the given order
    qualities: int  # number of qualities, M, at least 2


def read_width(text: str) -> str | float:
    """Return the width of the kernel: `median`, `dim`, or a number above 0.

    Raises:
        ValueError: the text is none of these.
    """
    if text in {MEDIAN, DIM}:
        return text
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{text!r} is not a width: write median, dim, or a number greater than 0")
    return number


def canonical_width(text: str) -> str:
    """Return the canonical text of a width. Raises ValueError as `read_width`."""
    width = read_width(text)
    return width if isinstance(width, str) else f"{width:g}"


def _text(value: Any) -> Any:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else value


class QualitySettings(Settings):
    """The settings of the qualities of training images, and of the dependence between their features."""

    qualities: Annotated[
        str,
        AfterValidator(canonical_qualities),
        BeforeValidator(join_qualities, json_schema_input_type=str | list[str]),
    ] = setting(
        "",
        added=True,
        cost=True,
        modules=plugin_modules,
        description="Qualities of each training image, separated by commas: raw, corruptions as in tests "
        "(half+jpeg30), ranges drawn for each image and epoch (jpeg30-100), or files:NAME of "
        "quality_list. If empty, each image is used as it is",
    )
    quality_batch: Literal["paired", "mixed"] = setting(
        "paired",
        added=True,
        cost=True,
        description="Images in a batch: paired (batch_size images, each in all qualities) or mixed (each "
        "image in one quality drawn at random)",
    )
    quality_list: str = setting(
        "",
        added=True,
        description="Path of a data.json with the files of each image in further qualities, such as "
        "{train: {raw: […], c23: […], labels: […]}}. The values c23 and c40 of qualities then "
        "mean these files",
    )
    collab: Finite = setting(
        0.0,
        added=True,
        cost=True,
        ge=0,
        description="Weight of the term that increases the dependence between the features of an image's "
        "qualities. 0 turns it off",
    )
    collab_form: Literal["normalised", "plain", "cca"] = setting(
        "normalised",
        added=True,
        description="Form of the dependence in collab (HSIC): normalised (to 0 … 1), plain (as "
        "published), or cca (canonical correlations)",
    )
    collab_width: Annotated[
        str,
        AfterValidator(canonical_width),
        BeforeValidator(_text, json_schema_input_type=str | float),
    ] = setting(
        MEDIAN,
        added=True,
        description="Width of the Gaussian kernel in collab: median (median distance in the batch), dim "
        "(6 times the square root of the number of features), or a number",
    )
    collab_layers: Annotated[str, AfterValidator(canonical_layers)] = setting(
        canonical_layers(LAYERS),
        added=True,
        description="Layers whose features collab compares, with their weights. With a frozen backbone, "
        "the hidden layers of the head",
    )

    @model_validator(mode="before")
    @classmethod
    def _files_by_name(cls, values: Any) -> Any:
        """Allow words from a list of files as qualities. `c23` is then not parsed as a corruption."""
        if not isinstance(values, Mapping) or not values.get("quality_list"):
            return values
        qualities = join_qualities(values.get("qualities", ""))
        if not isinstance(qualities, str):
            return values
        return {**values, "qualities": with_files(qualities)}

    @property
    def quality_names(self) -> tuple[str, ...]:
        """The names of the qualities in their order. Empty if images are unchanged."""
        return split_quality_words(self.qualities)

    @property
    def rows_per_image(self) -> int:
        """The number of rows per image in a batch."""
        return max(len(self.quality_names), 1) if self.quality_batch == "paired" else 1

    @property
    def collaboration(self) -> CollaborationOptions | None:
        """The options of the additional loss term, or None."""
        if self.collab == 0:
            return None
        return CollaborationOptions(
            weight=self.collab,
            form=self.collab_form,
            width=read_width(self.collab_width),
            layers=read_layers(self.collab_layers),
            qualities=len(self.quality_names),
        )
