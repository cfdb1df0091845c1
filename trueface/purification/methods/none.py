"""No purification: what the others are compared with."""

from torch import Tensor

from trueface.purification.registry import register_purifier
from trueface.purification.steps import Tools


@register_purifier("none", summary="images as they are")
def none(images: Tensor, value: float | None, tools: Tools) -> Tensor:
    """Return the images themselves."""
    del value, tools
    return images
