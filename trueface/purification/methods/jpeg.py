"""JPEG."""

import io

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from trueface.corruptions.pillow import coded
from trueface.data.made_folders import to_levels, to_unit
from trueface.purification.registry import register_purifier
from trueface.purification.steps import Tools


@register_purifier(
    "jpeg",
    summary="JPEG by Pillow, colour at half resolution",
    number="quality",
    low=1,
    high=100,
    whole=True,
    gradient="identity",
)
def jpeg(images: Tensor, value: float | None, tools: Tools) -> Tensor:
    """Return images as JPEG of a quality leaves them, grey ones as grey."""
    del tools
    assert value is not None  # the grammar asks for it
    rows = [_recoded(levels, int(value)) for levels in to_levels(images).cpu()]
    return to_unit(torch.stack(rows)).to(images)


def _recoded(levels: Tensor, quality: int) -> Tensor:
    """Return an image C×H×W uint8 after it was a file."""
    pixels = levels[0].numpy() if len(levels) == 1 else levels.permute(1, 2, 0).numpy()
    file = coded(PIL.Image.fromarray(pixels), "JPEG", quality)
    with PIL.Image.open(io.BytesIO(file)) as image:
        read = torch.from_numpy(np.array(image))
    return read[None] if read.dim() == 2 else read.permute(2, 0, 1)
