"""Six shapes in random place and size on a dark background, told apart from 8 pixels on."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from trueface.data.drawn.canvas import Canvas, Floats, Pixels, canvas, developed, over
from trueface.data.drawn.portraits import hsv
from trueface.runtime.rng import numpy_stream

RADIUS = (0.30, 0.42)  # of the circle around a shape, in sides of the image
NOISE = 0.02  # deviation of the pixels' noise, of 0 … 1
TURN = 0.15  # radians at most, so that a square stays a square


def draw_shape(shape: str, name: str, *, seed: int, size: int, channels: int = 1) -> Pixels:
    """Return an image of a shape, (size, size, channels), a function of seed and name.

    Args:
        shape: one of `SHAPES`.
        name: of the image.
        seed: of the set.
        size: pixels a side, from 8.
        channels: 1: grey; 3: the shape has a random colour.
    """
    chance = numpy_stream(f"shape/{shape}/{name}", seed)
    area = canvas(size)
    radius = chance.uniform(*RADIUS)
    x, y = chance.uniform(radius, 1 - radius, 2)
    turn = chance.uniform(-TURN, TURN)
    far = SHAPES[shape](area, (x, y), radius, turn)
    ground = np.full(3, chance.uniform(0.0, 0.15), np.float32)
    hue, saturation = chance.uniform(), chance.uniform(0.5, 1.0) if channels == 3 else 0.0
    colour = hsv(hue, saturation, chance.uniform(0.65, 1.0))
    picture = over(np.broadcast_to(ground, (size, size, 3)), colour, area.cover(far))
    return developed(picture, chance, NOISE, channels)


Point = tuple[float, float]


def _disc(area: Canvas, at: Point, radius: float, _: float) -> Floats:
    return area.ellipse(*at, radius * 0.9, radius * 0.9)


def _ring(area: Canvas, at: Point, radius: float, _: float) -> Floats:
    middle, half = radius * 0.78, radius * 0.2
    return np.abs(area.ellipse(*at, middle, middle)) - np.float32(half)


def _square(area: Canvas, at: Point, radius: float, turn: float) -> Floats:
    return area.box(*at, radius * 0.75, radius * 0.75, turn)


def _cross(area: Canvas, at: Point, radius: float, turn: float) -> Floats:
    arm, half = radius, radius * 0.24
    far: Floats = np.minimum(area.box(*at, arm, half, turn), area.box(*at, half, arm, turn))
    return far


def _bar(area: Canvas, at: Point, radius: float, turn: float) -> Floats:
    return area.box(*at, radius, radius * 0.28, turn)


def _triangle(area: Canvas, at: Point, radius: float, turn: float) -> Floats:
    """Return the distance from an isosceles triangle that stands on its base."""
    across, down = area.turned(*at, turn)
    half, height = radius * 0.85, radius * 1.6  # of the base, and of the triangle
    length = np.hypot(half, height)
    side = (np.abs(across) * height - (down + height / 2) * half) / length
    far: Floats = np.maximum(side, down - height / 2).astype(np.float32)
    return far


SHAPES: Mapping[str, Callable[[Canvas, Point, float, float], Floats]] = MappingProxyType(
    {
        "bar": _bar,
        "cross": _cross,
        "disc": _disc,
        "ring": _ring,
        "square": _square,
        "triangle": _triangle,
    }
)
