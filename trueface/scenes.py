"""Procedural scenes: what a camera, or a generator that imitates one, has before it.

A scene is painted back to front: a sky or a wall, ridges or a table, shaded bodies with shadows,
sometimes a head and shoulders; every surface wears a 1/f texture, as natural images do. Which kind
of scene is painted depends on the random stream only, never on the class of the image.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]  # (H, W) or (H, W, 3), linear light, 1 = a white wall in the sun

SKIN = ((0.80, 0.56, 0.43), (0.66, 0.42, 0.29), (0.46, 0.28, 0.18), (0.29, 0.17, 0.11))
EDGE_PX = 0.45  # half the width of an edge: lens and pixel of a sharp camera


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """An ellipse or a rounded box somewhere in the picture; the picture spans -1 … 1."""

    x: float
    y: float
    width: float
    height: float
    angle: float = 0.0
    power: float = 2.0  # 2 = ellipse, larger = boxier
    relief: float = 1.0  # 0 = flat, 1 = a ball


@dataclass(frozen=True, slots=True)
class Canvas:
    """What the painting functions share: the picture so far, its grid, its light, its dice."""

    picture: Plane  # (H, W, 3), painted on in place
    x: Plane  # (1, W)
    y: Plane  # (H, 1)
    light: tuple[float, float]
    rng: np.random.Generator

    @property
    def size_px(self) -> int:
        """Return the side of the square picture."""
        return int(self.picture.shape[0])

    def colour(self, low: float = 0.12, high: float = 0.85, tint: float = 0.35) -> Plane:
        """Return a surface colour of any brightness and a moderate tint, (3,)."""
        grey = self.rng.uniform(low, high)
        shift = self.rng.uniform(-tint, tint, 3)
        return (grey * (1.0 + shift - shift.mean())).astype(np.float32)


def paint_scene(rng: np.random.Generator, size_px: int) -> Plane:
    """Return a new scene, (size_px, size_px, 3) float32, linear light, all values above 0."""
    axis = (np.arange(size_px, dtype=np.float32) + 0.5) * np.float32(2.0 / size_px) - 1.0
    turn = rng.uniform(0.0, 2.0 * np.pi)
    canvas = Canvas(
        np.empty((size_px, size_px, 3), np.float32),
        axis[None, :],
        axis[:, None],
        (float(np.cos(turn)), float(np.sin(turn))),
        rng,
    )
    paint = _KINDS[int(rng.integers(len(_KINDS)))]
    paint(canvas)
    return _lit(canvas)


def texture(rng: np.random.Generator, size_px: int, slope: float) -> Plane:
    """Return a random field with amplitude f^-slope, mean 0, standard deviation 1, (H, W).

    Source: natural images have an amplitude spectrum near 1/f (Field 1987, slope 0.7 … 1.5).
    """
    half = size_px // 2 + 1
    spectrum = rng.standard_normal((size_px, half, 2), dtype=np.float32).view(np.complex64)[..., 0]
    rows = np.fft.fftfreq(size_px)[:, None]
    columns = np.fft.rfftfreq(size_px)[None, :]
    radius = np.hypot(rows, columns)
    radius[0, 0] = np.inf
    field = np.fft.irfft2(spectrum * (radius**-slope).astype(np.float32), s=(size_px, size_px))
    return (field / field.std()).astype(np.float32)


def _landscape(canvas: Canvas) -> None:
    rng, size = canvas.rng, canvas.size_px
    _backdrop(canvas, canvas.colour(0.5, 0.95, 0.25), canvas.colour(0.4, 0.9, 0.2), 0.10)
    haze = canvas.picture.mean(axis=(0, 1))
    count = int(rng.integers(2, 4))
    tops = np.sort(rng.uniform(-0.5, 0.75, count))
    for layer, top in enumerate(tops):
        profile = texture(rng, size, 1.6)[0] * np.float32(rng.uniform(0.03, 0.14))
        cover = _cover(profile[None, :] + np.float32(top) - canvas.y, size)
        far = 1.0 - (layer + 1) / count
        colour = canvas.colour(0.08, 0.5) * (1 - 0.6 * far) + haze * 0.6 * far
        _lay(canvas, cover, colour * _grain(canvas, 0.10, 0.35)[..., None])
    for _ in range(int(rng.integers(0, 4))):
        _place(canvas, _random_body(rng, top=0.2))


def _still_life(canvas: Canvas) -> None:
    rng = canvas.rng
    _backdrop(canvas, canvas.colour(), canvas.colour(), rng.uniform(0.04, 0.15))
    table = np.float32(rng.uniform(-0.1, 0.5)) + np.float32(rng.uniform(-0.2, 0.2)) * canvas.x
    _lay(
        canvas,
        _cover(table - canvas.y, canvas.size_px),
        canvas.colour() * _grain(canvas, 0.05, 0.3)[..., None],
    )
    for _ in range(int(rng.integers(3, 7))):
        _place(canvas, _random_body(rng, top=-0.3))


def _portrait(canvas: Canvas) -> None:
    rng = canvas.rng
    _backdrop(canvas, canvas.colour(), canvas.colour(), rng.uniform(0.03, 0.2))
    x, y, scale = rng.uniform(-0.25, 0.25), rng.uniform(-0.25, 0.05), rng.uniform(0.8, 1.2)
    skin = np.array(SKIN[int(rng.integers(len(SKIN)))], np.float32) * rng.uniform(0.85, 1.15)
    hair, cloth = canvas.colour(0.04, 0.5, 0.4), canvas.colour(0.08, 0.8, 0.5)

    def part(dx: float, dy: float, w: float, h: float, **more: float) -> Body:
        return Body(
            x=x + dx * scale, y=y + dy * scale, width=w * scale, height=h * scale, **more
        )

    _place(canvas, part(0, -0.08, 0.46, 0.60, relief=0.7), hair)
    _place(canvas, part(0, 1.15, 0.85, 0.55, power=2.6, relief=0.8), cloth)
    _place(canvas, part(0, 0.50, 0.17, 0.30, power=3.0), skin * 0.85)
    _place(canvas, part(0, 0.05, 0.36, 0.50, relief=0.9), skin)
    gaze = rng.uniform(-0.03, 0.03)
    for side in (-1, 1):
        _place(canvas, part(side * 0.15, -0.03, 0.075, 0.035, relief=0.2), skin * 0.4 + 0.45)
        _place(canvas, part(side * 0.15 + gaze, -0.03, 0.032, 0.034, relief=0.2), hair * 0.3)
        _place(canvas, part(side * 0.15, -0.12, 0.095, 0.018, relief=0.0), hair * 0.8)
    _place(canvas, part(0.01, 0.12, 0.05, 0.10, relief=1.0), skin * 1.08)
    lips = skin * np.array((0.9, 0.55, 0.55), np.float32)
    _place(canvas, part(0, 0.30, rng.uniform(0.09, 0.15), 0.035, relief=0.4), lips)
    _place(canvas, part(0, -0.42, 0.38, rng.uniform(0.12, 0.22), relief=0.5), hair)


_KINDS: tuple[Callable[[Canvas], None], ...] = (_landscape, _still_life, _portrait)


def _random_body(rng: np.random.Generator, top: float) -> Body:
    size = rng.uniform(0.10, 0.42)
    return Body(
        x=rng.uniform(-0.9, 0.9),
        y=rng.uniform(top, 0.9),
        width=size * rng.uniform(0.6, 1.5),
        height=size,
        angle=rng.uniform(-0.8, 0.8),
        power=float(rng.choice((2.0, 2.0, 4.0, 8.0))),
        relief=rng.uniform(0.3, 1.0),
    )


def _backdrop(canvas: Canvas, above: Plane, below: Plane, contrast: float) -> None:
    ramp = (canvas.y * np.float32(0.5) + np.float32(0.5))[..., None]
    clouds = texture(canvas.rng, canvas.size_px, canvas.rng.uniform(1.4, 2.2))
    canvas.picture[:] = above + (below - above) * ramp
    canvas.picture[:] *= np.exp(np.float32(contrast) * clouds)[..., None]


def _place(canvas: Canvas, body: Body, colour: Plane | None = None) -> None:
    """Paint a shaded body and the shadow that it throws."""
    cosine, sine = np.float32(np.cos(body.angle)), np.float32(np.sin(body.angle))
    dx, dy = canvas.x - np.float32(body.x), canvas.y - np.float32(body.y)
    u = (dx * cosine + dy * sine) / np.float32(body.width)
    v = (dy * cosine - dx * sine) / np.float32(body.height)
    far = (np.abs(u) ** body.power + np.abs(v) ** body.power) ** np.float32(1.0 / body.power)
    small = min(body.width, body.height)
    shadow = np.clip(1.3 - far, 0.0, 0.5) if body.relief > 0.25 else None
    if shadow is not None and small > 0.09:
        canvas.picture[:] *= (1.0 - 0.7 * shadow)[..., None]
    cover = _cover((far - 1.0) * np.float32(small), canvas.size_px)
    height = np.sqrt(np.clip(1.0 - far * far, 0.04, 1.0))
    facing = 0.55 + 0.45 * height + 0.35 * (u * canvas.light[0] + v * canvas.light[1])
    shade = (1.0 - body.relief) + body.relief * np.clip(facing, 0.12, None)
    surface = canvas.colour() if colour is None else colour
    grain = _grain(canvas, 0.04, 0.25) if small > 0.09 else np.float32(1.0)
    _lay(canvas, cover, surface * (shade * grain).astype(np.float32)[..., None])


def _lay(canvas: Canvas, cover: Plane, surface: Plane) -> None:
    canvas.picture[:] += cover[..., None] * (surface - canvas.picture)


def _cover(distance: Plane, size_px: int) -> Plane:
    """Return how much of each pixel lies inside an edge; `distance` is negative inside."""
    pixels = distance * np.float32(size_px / 2 / EDGE_PX)
    return (0.5 - 0.5 * np.tanh(pixels)).astype(np.float32)


def _grain(canvas: Canvas, low: float, high: float) -> Plane:
    """Return a multiplicative surface texture around 1, (H, W)."""
    rng = canvas.rng
    field = texture(rng, canvas.size_px, rng.uniform(0.8, 1.7))
    return np.exp(np.float32(rng.uniform(low, high)) * field)


def _lit(canvas: Canvas) -> Plane:
    """Return the picture under uneven light, with the fall-off of a lens."""
    rng = canvas.rng
    tilt = np.float32(rng.uniform(0.0, 0.35))
    light = 1.0 + tilt * (canvas.x * canvas.light[0] + canvas.y * canvas.light[1])
    corner = 1.0 - np.float32(rng.uniform(0.0, 0.18)) * (canvas.x**2 + canvas.y**2)
    warmth = np.float32(rng.uniform(-0.12, 0.12))
    white = np.array((1.0 + warmth, 1.0, 1.0 - warmth), np.float32)
    scene = canvas.picture * (light * corner)[..., None] * white
    return np.maximum(scene, np.float32(1e-3))
