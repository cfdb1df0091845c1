"""Forging a face: a source in the place of a part of it, behind a soft edge.

After self-blended images (K. Shiohara and T. Yamasaki, CVPR 2022, arXiv 2204.08376); where they take
the hull of landmarks, an ellipse stands in for it: the faces must be aligned.
"""

import hashlib
from typing import Protocol, cast

import numpy as np

from trueface.data.forging.colour import jittered, matched
from trueface.data.forging.geometry import Floats, Pixels, mask
from trueface.data.forging.registry import SELF, SPECS, ForgerySpec, source_of

RATIOS = (0.6, 0.8, 1.0, 1.0)  # of the source within the mask


class Source(Protocol):
    """What the function of a type does."""

    def __call__(
        self, face: Floats, donor: Floats | None, chance: np.random.Generator, strength: float
    ) -> Floats:
        """Return what goes into the face, (H, W, 3) in 0 to 255.

        Args:
            face: of that form; not to be changed in place.
            donor: of that form; None for types that need none.
            chance: the only source of randomness.
            strength: of the movement and of all else that can be seen; 1 is usual.
        """


def stream(*words: object) -> np.random.Generator:
    """Return a generator that depends on the words alone, not on the order of work."""
    digest = hashlib.sha256("/".join(map(str, words)).encode(errors="surrogateescape")).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def forged(
    face: Pixels,
    donor: Pixels | None,
    spec: ForgerySpec,
    chance: np.random.Generator,
    strength: float = 1.0,
) -> Pixels:
    """Return a forged face.

    Args:
        face: (H, W, 3) RGB, aligned; likewise the result.
        donor: of the same form, for types that need one.
        spec: the type.
        chance: the only source of randomness.
        strength: above 0; scales what gives the forgery away.

    Raises:
        ValueError: the type needs a donor of the same form, and there is none.
    """
    if spec.needs_donor and (donor is None or donor.shape != face.shape):
        raise ValueError(f"{spec.name} needs a donor of the form {face.shape}")
    target = face.astype(np.float32)
    other = None if donor is None else donor.astype(np.float32)
    weight = mask(spec.part, face.shape[0], face.shape[1], chance)
    ratio = RATIOS[int(chance.integers(len(RATIOS)))]
    source = cast(Source, source_of(spec.name))(target, other, chance, strength)
    if spec.matches_colour:
        source = matched(source, target, weight, chance, strength)
    source = jittered(source, chance, strength)
    share = (weight * np.float32(ratio))[..., None]
    return np.rint(np.clip(target + (source - target) * share, 0, 255)).astype(np.uint8)


def self_blended(face: Pixels, chance: np.random.Generator, strength: float = 1.0) -> Pixels:
    """Return a face blended with itself, (H, W, 3): the fake that needs nothing but the face."""
    return forged(face, None, SPECS[SELF], chance, strength)
