"""A screenshot of an image: scaled for the display, shifted in its window, its colours reduced."""

import random

import PIL.Image
from PIL.Image import Dither, Quantize, Resampling
from torch import Tensor

from trueface.corruptions.pillow import rescale_and_restore, to_image, to_pixels
from trueface.corruptions.registry import register_corruption

FACTOR = (0.75, 1.25)  # factor of the display's scaling
SHIFT = 4  # pixels, at most, in each direction
GAMMA = (0.9, 1.1)  # gamma of the display
COLOURS = 256  # colours of the palette of a small PNG
WINDOW = (240, 240, 240)  # colour of what surrounds the image


@register_corruption(
    "screenshot",
    summary="scaled by 0.75 to 1.25 and back (bilinear), shifted by up to 4 pixels over a light border, "
    "gamma 0.9 to 1.1, and a palette of 256 colours",
    draws=True,
)
def screenshot(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return the image as a screenshot shows it; scale, shift and gamma are drawn."""
    del strength
    factor, gamma = rng.uniform(*FACTOR), rng.uniform(*GAMMA)
    shift = rng.randint(-SHIFT, SHIFT), rng.randint(-SHIFT, SHIFT)
    shown = rescale_and_restore(to_image(pixels), factor, Resampling.BILINEAR)
    window = PIL.Image.new("RGB", shown.size, WINDOW)
    window.paste(shown, shift)
    levels = [round(255 * (level / 255) ** gamma) for level in range(256)]
    reduced = window.point(levels * 3).quantize(COLOURS, Quantize.FASTOCTREE, dither=Dither.NONE)
    return to_pixels(reduced.convert("RGB"))
