"""Perturbed images as they come back from a file: whole grey levels, within the bound of the perturbation."""

from dataclasses import dataclass

from torch import Tensor

from trueface.data.made.folders import to_levels, to_unit
from trueface.disruption.bounds import LEVELS


def projected(images: Tensor, originals: Tensor, bound: float) -> Tensor:
    """Return images within a bound around their originals, and within [-1, 1]."""
    return (originals + (images - originals).clamp(-bound, bound)).clamp(-1, 1)


def in_levels(images: Tensor, originals: Tensor, levels: int) -> Tensor:
    """Return images in whole grey levels, each pixel at most so many from its original.

    Args:
        images: N×C×H×W in [-1, 1].
        originals: likewise, of whole levels.
        levels: that a pixel may move, see `bounds.levels_of`.
    """
    start, end = to_levels(originals).int(), to_levels(images).int()
    moved = (end - start).clamp(-levels, levels)
    return to_unit(start + moved)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large the perturbations of some images are."""

    linf: float  # the largest change of a pixel, in units of [-1, 1]
    squares: float  # the sum over all pixels
    pixels: int
    at_bound: int  # pixels that moved as far as they may, or to the end of the range

    @property
    def rms(self) -> float:
        """Root of the mean square, in units of [-1, 1]."""
        return float((self.squares / self.pixels) ** 0.5) if self.pixels else 0.0

    def __add__(self, other: "Size") -> "Size":
        return Size(
            linf=max(self.linf, other.linf),
            squares=self.squares + other.squares,
            pixels=self.pixels + other.pixels,
            at_bound=self.at_bound + other.at_bound,
        )


NOTHING = Size(linf=0.0, squares=0.0, pixels=0, at_bound=0)


def size_of(images: Tensor, originals: Tensor, levels: int) -> Size:
    """Return how large the perturbation of images is, both of whole grey levels."""
    moved = (to_levels(images).int() - to_levels(originals).int()).abs()
    at_end = (images.abs() >= 1) & (moved > 0)
    delta = moved.double() / LEVELS
    return Size(
        linf=float(delta.max()),
        squares=float(delta.square().sum()),
        pixels=delta.numel(),
        at_bound=int(((moved == levels) | at_end).sum()),
    )
