"""The face itself, moved a little: self-blending."""

import numpy as np

from trueface.data.forging.blending import Floats, move_randomly, sharper_or_softer
from trueface.data.forging.registry import register_forgery


@register_forgery(
    "self",
    number=1,
    summary="the same face, shifted up to 2 %, scaled up to 3 %, turned up to 2 degrees",
)
def self_blend(
    face: Floats, donor: Floats | None, rng: np.random.Generator, strength: float
) -> Floats:
    """Return the moved face; after Shiohara and Yamasaki, CVPR 2022 (arXiv 2204.08376), section 3.2."""
    del donor
    source = move_randomly(
        face,
        rng,
        shift=0.02 * strength,
        scale=0.03 * strength,
        turn_degrees=2.0 * strength,
    )
    return sharper_or_softer(source, rng, strength)
