"""Soft-edged shapes on a canvas of unit side, whatever its number of pixels."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Canvas:
    """Coordinates of the middles of all pixels, in 0 … 1: `x` to the right, `y` down, each (size, size)."""

    size: int
    x: Floats
    y: Floats

    def cover(self, outside: Floats) -> Floats:
        """Return how much of each pixel a shape covers, 0 … 1.

        Args:
            outside: the distance of each pixel's middle from the shape's edge, in sides of the
                canvas; below zero inside.
        """
        covered: Floats = np.clip(0.5 - outside * self.size, 0, 1)
        return covered

    def ellipse(self, x: float, y: float, width: float, height: float) -> Floats:
        """Return about the distance from an ellipse; width and height are half axes."""
        across, down = (self.x - x) / width, (self.y - y) / height
        far: Floats = (np.sqrt(across**2 + down**2) - 1) * np.float32(min(width, height))
        return far

    def box(self, x: float, y: float, width: float, height: float, turn: float = 0.0) -> Floats:
        """Return the distance from a box of these half sides, turned by an angle in radians."""
        across, down = self.turned(x, y, turn)
        far: Floats = np.maximum(np.abs(across) - width, np.abs(down) - height)
        return far

    def turned(self, x: float, y: float, turn: float) -> tuple[Floats, Floats]:
        """Return coordinates around a point, in axes turned by an angle in radians."""
        cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        across, down = self.x - np.float32(x), self.y - np.float32(y)
        return cosine * across + sine * down, cosine * down - sine * across


@lru_cache(maxsize=4)
def canvas(size: int) -> Canvas:
    """Return the canvas of so many pixels a side."""
    middles = ((np.arange(size) + 0.5) / size).astype(np.float32)
    x, y = np.meshgrid(middles, middles)
    return Canvas(size, x, y)


def over(picture: Floats, colour: Floats, covered: Floats) -> Floats:
    """Return a picture, (H, W, 3), with a colour, (3,) or (H, W, 3), where something covers it."""
    painted: Floats = picture + (colour - picture) * covered[..., None]
    return painted


def developed(picture: Floats, chance: np.random.Generator, noise: float, channels: int) -> Pixels:
    """Return a picture of 0 … 1 as grey levels, (H, W, channels), with noise of this deviation."""
    if channels == 1:
        picture = picture @ np.array([[0.299], [0.587], [0.114]], np.float32)
    noisy = picture + chance.normal(0, noise, picture.shape).astype(np.float32)
    return np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)
