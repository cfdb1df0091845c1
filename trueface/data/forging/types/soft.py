"""The face itself with less detail, as decoders leave it."""

import numpy as np

from trueface.data.forging.blending import Floats, resample_face, sharpen_face
from trueface.data.forging.registry import register_forgery

SMALLEST = 0.1  # fraction of the side, at any strength
LOW, HIGH = 0.4, 0.6


@register_forgery(
    "soft",
    number=5,
    summary="the same face, reduced to 40 to 60 % and enlarged, then sharpened",
)
def soft(face: Floats, donor: Floats | None, rng: np.random.Generator, strength: float) -> Floats:
    """Return the face without its finest detail, and with an unsharp mask on the rest."""
    del donor
    share = 1 - (1 - rng.uniform(LOW, HIGH)) * strength
    return sharpen_face(resample_face(face, min(max(share, SMALLEST), 1.0)), rng.uniform(0.5, 1.0))
