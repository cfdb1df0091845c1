"""The upper part of another person's face of the same group."""

import numpy as np

from trueface.data.forging.blending import Floats
from trueface.data.forging.registry import register_forgery


@register_forgery(
    "eyes",
    number=4,
    summary="the eyes of a similar face",
    part="eyes",
    needs_donor=True,
    matches_colour=True,
)
def eyes(face: Floats, donor: Floats | None, rng: np.random.Generator, strength: float) -> Floats:
    """Return the donor as it is, of which the upper part is used."""
    del rng, strength
    return face if donor is None else donor
