"""Weights of layers by name in settings, such as `layer3=.25, layer4=.5`. No torch here."""

import math
import re

EXAMPLE = "layer3=.25, layer4=.5"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


def read_layers(text: str) -> dict[str, float]:
    """Return the weights of layers, `layer3=.25, layer4=.5`, by name.

    Raises:
        ValueError: the text has another form, a layer occurs twice, or a weight is not above 0.
    """
    weights: dict[str, float] = {}
    for word in text.split(","):
        name, equals, number = (part.strip() for part in word.partition("="))
        if not equals or not _NAME.fullmatch(name):
            raise ValueError(f"{word.strip()!r}: write layer=weight, such as {EXAMPLE}")
        if name in weights:
            raise ValueError(f"layer {name} is listed twice")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not (math.isfinite(weight) and weight > 0):
            raise ValueError(f"{word.strip()}: the weight must be greater than 0")
        weights[name] = weight
    return weights


def canonical_layers(text: str) -> str:
    """Return the canonical text of layer weights. Raises ValueError as `read_layers`."""
    return ", ".join(f"{name}={weight:g}" for name, weight in read_layers(text).items())
