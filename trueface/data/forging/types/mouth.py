"""The lower half of the face itself, moved."""

import numpy as np

from trueface.data.forging.blending import Floats, move_randomly, sharper_or_softer
from trueface.data.forging.registry import register_forgery


@register_forgery(
    "mouth",
    number=3,
    summary="the lower half of the same face, shifted up to 3.5 %, scaled up to 6 %",
    part="mouth",
)
def mouth(face: Floats, donor: Floats | None, rng: np.random.Generator, strength: float) -> Floats:
    """Return the moved face, of which the lower half is used."""
    del donor
    source = move_randomly(
        face, rng, shift=0.035 * strength, scale=0.06 * strength, turn_degrees=0.0
    )
    return sharper_or_softer(source, rng, strength)
