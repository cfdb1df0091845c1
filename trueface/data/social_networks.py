"""Social networks: the size and JPEG quality of a re-shared image.

A social network resizes an image to a smaller size and compresses it again. Each network has its
own parameters, which are the same for real and for fake images.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from trueface.data.made.camera import Pixels

COLOUR_AT_HALF_SIZE = 2  # pillow's number for 4:2:0


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One network's treatment."""

    scale: float  # scale of width and height
    resampling: Image.Resampling
    quality: tuple[int, int]  # quality of JPEG, lowest and highest


# By the name of the folder. The fingerprints fill small images, so the qualities lie above those of the
# networks themselves (70 … 85, 85 … 92, 80 … 88), under which hardly anything would be left.
NETWORKS: Mapping[str, Network] = {
    "Facebook": Network(scale=0.80, resampling=Image.Resampling.BICUBIC, quality=(78, 88)),
    "Telegram": Network(scale=1.00, resampling=Image.Resampling.BICUBIC, quality=(88, 95)),
    "Twitter": Network(scale=0.90, resampling=Image.Resampling.LANCZOS, quality=(84, 92)),
}


def share_on_network(pixels: Pixels, network: Network, rng: np.random.Generator) -> bytes:
    """Return the JPEG file that a network makes of an image.

    Args:
        pixels: (H, W, 3).
        network: how it treats images.
        rng: decides the quality.
    """
    image = Image.fromarray(pixels)
    if network.scale != 1.0:
        size = (round(image.width * network.scale), round(image.height * network.scale))
        image = image.resize(size, network.resampling)
    quality = int(rng.integers(*network.quality, endpoint=True))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling=COLOUR_AT_HALF_SIZE)
    return file.getvalue()
