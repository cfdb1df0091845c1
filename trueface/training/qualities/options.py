"""How features of qualities are made to agree: form, width, weights of layers. No torch here."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

MEDIAN, DIM = "median", "dim"
LAYERS = (
    "layer2=.1, layer3=.25, layer4=.5"  # of a ResNet; the weights are those of the published files
)
LEAST_SHARE = 1e-3  # of the classification loss's gradient: a term below it does nothing
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


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
