"""The inner face of another person of the same group."""

import numpy as np

from trueface.data.forging.blending import Floats
from trueface.data.forging.registry import register_forgery


@register_forgery(
    "swap",
    number=2,
    summary="the inner face of a similar face",
    needs_donor=True,
    matches_colour=True,
)
def swap(face: Floats, donor: Floats | None, rng: np.random.Generator, strength: float) -> Floats:
    """Return the donor as it is: aligned faces share their layout."""
    del rng, strength
    return face if donor is None else donor
