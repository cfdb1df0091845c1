"""What a social network does to an image that is shared on it: it is made smaller and compressed.

Each network resizes and compresses in its own way, and takes the same way for real and for fake.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from trueface.traces import Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One network's treatment."""

    scale: float  # of width and height
    quality: tuple[int, int]  # of JPEG, lowest and highest


# By the folder's name. Facebook is the hardest on an image, Telegram the kindest.
NETWORKS: Mapping[str, Network] = {
    "Facebook": Network(scale=0.75, quality=(70, 85)),
    "Telegram": Network(scale=1.0, quality=(85, 92)),
    "Twitter": Network(scale=0.85, quality=(80, 88)),
}


def share(pixels: Pixels, network: Network, rng: np.random.Generator) -> bytes:
    """Return the JPEG file that a network makes of an image.

    Args:
        pixels: (H, W, 3) uint8.
        network: how it treats images.
        rng: decides the quality.
    """
    image = Image.fromarray(pixels)
    if network.scale != 1.0:
        size = (round(image.width * network.scale), round(image.height * network.scale))
        image = image.resize(size, Image.Resampling.LANCZOS)
    low, high = network.quality
    quality = int(rng.integers(low, high, endpoint=True))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling=2)
    return file.getvalue()
