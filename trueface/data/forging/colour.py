"""Colours of a source: like those of the face that it goes into, and a little beside them.

Written out channel by channel: a product of matrices may round in another order with another
number of threads, and a forged set is the same in every byte.
"""

import math

import numpy as np

from trueface.data.forging.geometry import Floats

RATIO = (0.6, 1.6)  # of deviations, at most
SHARE = (0.8, 1.0)  # of the way to the face's colours
LEAST = 1e-3  # weight, or deviation in grey levels: below it there is nothing to match
# most of each, at strength 1
HUE_DEGREES, SATURATION, VALUE = 5.0, 0.10, 0.06


def to_ycc(pixels: Floats) -> tuple[Floats, Floats, Floats]:
    """Return luma and the two chroma channels (around 0) of JPEG, ITU-R BT.601, of (H, W, 3) RGB."""
    red, green, blue = (pixels[..., channel] for channel in range(3))
    luma = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
    return luma, (blue - luma) * np.float32(0.564334), (red - luma) * np.float32(0.713267)


def to_rgb(luma: Floats, blueness: Floats, redness: Floats) -> Floats:
    """Return (H, W, 3) RGB in 0 to 255."""
    red = luma + np.float32(1.402) * redness
    blue = luma + np.float32(1.772) * blueness
    green = luma - np.float32(0.344136) * blueness - np.float32(0.714136) * redness
    pixels: Floats = np.clip(np.stack([red, green, blue], -1), 0, 255)
    return pixels


def matched(
    source: Floats, face: Floats, weight: Floats, chance: np.random.Generator, strength: float
) -> Floats:
    """Return a source with the mean and deviation of a face's colours, both inside the mask.

    After E. Reinhard et al., IEEE CG&A 21(5), 2001, in YCbCr in the place of their colour space.

    Args:
        source: (H, W, 3) in 0 to 255.
        face: the same form.
        weight: (H, W), the mask.
        chance: gives the share of the way.
        strength: a larger one leaves more of the source's own colours.
    """
    missing = (1 - chance.uniform(*SHARE)) * strength
    total = float(weight.sum(dtype=np.float64))
    if total < LEAST:
        return source
    channels: list[Floats] = []
    for own, wanted in zip(to_ycc(source), to_ycc(face), strict=True):
        (mean, deviation), (goal, spread) = (
            _moments(each, weight, total) for each in (own, wanted)
        )
        ratio = min(max(spread / max(deviation, LEAST), RATIO[0]), RATIO[1])
        near = (own - np.float32(mean)) * np.float32(ratio) + np.float32(goal)
        channels.append((near + (own - near) * min(missing, 1.0)).astype(np.float32))
    return to_rgb(*channels)


def jittered(source: Floats, chance: np.random.Generator, strength: float) -> Floats:
    """Return a source with hue, saturation and brightness each changed a little."""
    hue, saturation, value = chance.uniform(-1, 1, 3) * strength
    angle = math.radians(HUE_DEGREES * hue)
    factor = max(1 + SATURATION * saturation, 0.0)
    cosine, sine = np.float32(math.cos(angle) * factor), np.float32(math.sin(angle) * factor)
    luma, blueness, redness = to_ycc(source)
    turned = cosine * blueness - sine * redness, sine * blueness + cosine * redness
    changed: Floats = to_rgb(luma, *turned) * np.float32(max(1 + VALUE * value, 0.0))
    return np.clip(changed, 0, 255)


def _moments(channel: Floats, weight: Floats, total: float) -> tuple[float, float]:
    mean = float((channel * weight).sum(dtype=np.float64)) / total
    square = float((np.square(channel - np.float32(mean)) * weight).sum(dtype=np.float64)) / total
    return mean, math.sqrt(square)
