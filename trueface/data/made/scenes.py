"""Procedural scenes: what lies before a camera, or what a generator imitates.

A scene is painted back to front: a sky or a wall, ridges or a table, shaded bodies with shadows,
sometimes a head and shoulders. Every surface wears a 1/f texture, as natural images do. Which
scene is painted depends on the random stream alone, never on the class of the image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

# float32, (H, W) or (H, W, 3); of a scene: linear light, 1 = a white wall in the sun
Plane = npt.NDArray[np.floating[Any]]

EDGE_PX = 0.45  # half the width of an edge, as lens and pixel of a sharp camera leave it
DARKEST = 1e-3  # brightness relative to a white wall; no scene is without any light
SMALL = 0.09  # bodies below this radius are drawn plain: no texture, no shadow
SLOPES = (0.9, 1.2, 1.6)  # amplitude spectra of natural surfaces have 0.7 … 1.7 (Field 1987)

SKIN = ((0.80, 0.56, 0.43), (0.66, 0.42, 0.29), (0.46, 0.28, 0.18), (0.29, 0.17, 0.11))
HAIR = ((0.05, 0.04, 0.04), (0.16, 0.09, 0.05), (0.33, 0.20, 0.10), (0.62, 0.46, 0.25), (0.6,) * 3)
SKY = ((0.45, 0.62, 0.90), (0.75, 0.78, 0.82), (0.88, 0.70, 0.55), (0.60, 0.66, 0.80))
GROUND = (
    (0.18, 0.30, 0.12),
    (0.35, 0.38, 0.18),
    (0.42, 0.31, 0.20),
    (0.62, 0.54, 0.40),
    (0.34, 0.34, 0.36),
    (0.82, 0.84, 0.88),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """An ellipse or a rounded box; the picture spans -1 … 1 in x and y, y pointing down."""

    x: float
    y: float
    width: float
    height: float
    angle: float = 0.0
    power: float = 2.0  # 2 = an ellipse, more = a box
    relief: float = 1.0  # 0 = flat, 1 = a ball
    grain: float = 0.15  # contrast of its texture


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneCanvas:
    """The shared state of painting functions: picture, grid, light and random generator."""

    picture: Plane  # (H, W, 3), painted on in place
    axis: Plane  # (H,), pixel centres from -1 to 1
    light: tuple[float, float]
    textures: tuple[Plane, ...]  # one (H, W) field per slope
    rng: np.random.Generator

    def colour(self, palette: tuple[tuple[float, ...], ...]) -> Plane:
        """Return a colour near one of a palette's, (3,)."""
        chosen = np.array(palette[int(self.rng.integers(len(palette)))])
        near: Plane = chosen * self.rng.uniform(0.75, 1.25) * self.rng.uniform(0.88, 1.12, 3)
        return near.astype(np.float32)

    def paint(self, low: float = 0.08, high: float = 0.85, tint: float = 0.5) -> Plane:
        """Return a colour as people paint things, of any brightness, (3,)."""
        shift = self.rng.uniform(-tint, tint, 3)
        painted: Plane = self.rng.uniform(low, high) * (1.0 + shift - shift.mean())
        return painted.astype(np.float32)

    def grain(self, contrast: float, rows: slice, columns: slice) -> Plane:
        """Return a stretch of a surface texture, a factor around 1."""
        field = self.textures[int(self.rng.integers(len(self.textures)))]
        down, right = self.rng.integers(0, field.shape[0], 2)
        moved = np.roll(field, (int(down), int(right)), axis=(0, 1))[rows, columns]
        grain: Plane = np.exp(np.float32(contrast) * moved)
        return grain


def paint_scene(rng: np.random.Generator, size_px: int) -> Plane:
    """Return a new scene, (size_px, size_px, 3), linear light, all values above 0."""
    turn = rng.uniform(0.0, 2.0 * np.pi)
    canvas = SceneCanvas(
        picture=np.empty((size_px, size_px, 3), np.float32),
        axis=(np.arange(size_px, dtype=np.float32) + 0.5) * np.float32(2.0 / size_px) - 1.0,
        light=(float(np.cos(turn)), float(np.sin(turn))),
        textures=tuple(texture(rng, size_px, slope) for slope in SLOPES),
        rng=rng,
    )
    _SCENES[int(rng.integers(len(_SCENES)))](canvas)
    return _light_picture(canvas)


def texture(rng: np.random.Generator, size_px: int, slope: float) -> Plane:
    """Return a random field of amplitude f^-slope, mean 0, standard deviation 1, (H, W)."""
    shape = (size_px, size_px // 2 + 1, 2)
    spectrum = rng.standard_normal(shape, dtype=np.float32).view(np.complex64)[..., 0]
    spectrum *= np.exp(np.float32(-slope) * _log_frequency(size_px))
    spectrum[0, 0] = 0.0
    field = np.fft.irfft2(spectrum, s=(size_px, size_px))
    even: Plane = field / field.std()
    return even.astype(np.float32)


def _paint_landscape(canvas: SceneCanvas) -> None:
    rng, everywhere = canvas.rng, slice(None)
    sky = canvas.colour(SKY)
    _backdrop(canvas, sky, 0.4 * sky + 0.55, rng.uniform(0.02, 0.14))
    count = int(rng.integers(2, 5))
    for layer, top in enumerate(np.sort(rng.uniform(-0.6, 0.8, count))):
        waves = np.cumsum(rng.standard_normal(canvas.axis.size))
        hills = _running_mean(waves, int(rng.integers(1, 12))) * rng.uniform(0.004, 0.02) + top
        cover = _cover(hills[None, :] - canvas.axis[:, None], canvas.axis.size)
        haze = np.float32(0.7 * (1.0 - (layer + 1) / count))
        ground = canvas.colour(GROUND) * (1 - haze) + (0.5 * sky + 0.3) * haze
        grain = canvas.grain(rng.uniform(0.08, 0.4), everywhere, everywhere)
        _blend_surface(canvas.picture, cover, ground * grain[..., None])
    for _ in range(int(rng.integers(0, 4))):
        _place(canvas, _any_body(rng, 0.2), canvas.colour(GROUND))


def _paint_still_life(canvas: SceneCanvas) -> None:
    rng, everywhere = canvas.rng, slice(None)
    _backdrop(canvas, canvas.paint(tint=0.25), canvas.paint(tint=0.25), rng.uniform(0.03, 0.15))
    edge = rng.uniform(-0.2, 0.4) + rng.uniform(-0.15, 0.15) * canvas.axis
    cover = _cover(edge[None, :] - canvas.axis[:, None], canvas.axis.size)
    grain = canvas.grain(rng.uniform(0.05, 0.3), everywhere, everywhere)
    table = canvas.colour(GROUND) if rng.random() < 0.6 else canvas.paint()
    _blend_surface(canvas.picture, cover, table * grain[..., None])
    for _ in range(int(rng.integers(3, 7))):
        _place(canvas, _any_body(rng, -0.3), canvas.paint())


def _paint_portrait(canvas: SceneCanvas) -> None:
    rng = canvas.rng
    _backdrop(canvas, canvas.paint(tint=0.3), canvas.paint(tint=0.3), rng.uniform(0.03, 0.2))
    skin, hair, cloth = canvas.colour(SKIN), canvas.colour(HAIR), canvas.paint()
    x, y, scale = rng.uniform(-0.25, 0.25), rng.uniform(-0.25, 0.05), rng.uniform(0.8, 1.2)

    def place_body(dx: float, dy: float, w: float, h: float, colour: Plane, **more: float) -> None:
        where = {"x": x + dx * scale, "y": y + dy * scale, "width": w * scale, "height": h * scale}
        _place(canvas, Body(**where, **more), colour)

    place_body(
        0, rng.uniform(-0.1, 0.15), 0.46, rng.uniform(0.5, 0.7), hair, relief=0.6, grain=0.35
    )
    place_body(0, 1.15, 0.85, 0.55, cloth, power=2.6, relief=0.8, grain=rng.uniform(0.05, 0.3))
    place_body(0, 0.50, 0.17, 0.30, skin * 0.85, power=3.0, grain=0.05)
    place_body(0, 0.05, rng.uniform(0.32, 0.38), 0.50, skin, relief=0.9, grain=0.06)
    gaze = rng.uniform(-0.03, 0.03)
    for side in (-1, 1):
        place_body(side * 0.15, -0.03, 0.075, 0.035, skin * 0.4 + 0.45, relief=0.2)
        place_body(side * 0.15 + gaze, -0.03, 0.032, 0.034, hair * 0.3, relief=0.2)
        place_body(side * 0.15, -0.12, 0.095, 0.018, hair * 0.8, relief=0.0)
    place_body(0.01, 0.12, 0.05, 0.10, skin * 1.08)
    lips = skin * np.array((0.9, 0.55, 0.55), np.float32)
    place_body(0, 0.30, rng.uniform(0.09, 0.15), 0.035, lips, relief=0.4)
    place_body(0, -0.38, 0.37, rng.uniform(0.08, 0.17), hair, relief=0.5, grain=0.35)


_SCENES: tuple[Callable[[SceneCanvas], None], ...] = (
    _paint_landscape,
    _paint_still_life,
    _paint_portrait,
)


def _any_body(rng: np.random.Generator, top: float) -> Body:
    size = rng.uniform(0.10, 0.42)
    return Body(
        x=rng.uniform(-0.9, 0.9),
        y=rng.uniform(top, 0.9),
        width=size * rng.uniform(0.6, 1.5),
        height=size,
        angle=rng.uniform(-0.8, 0.8),
        power=(2.0, 2.0, 4.0, 8.0)[int(rng.integers(4))],
        relief=rng.uniform(0.3, 1.0),
        grain=rng.uniform(0.03, 0.25),
    )


def _backdrop(canvas: SceneCanvas, sky: Plane, ground: Plane, contrast: float) -> None:
    everywhere = slice(None)
    ramp = (canvas.axis[:, None, None] + np.float32(1.0)) * np.float32(0.5)
    shade = np.exp(np.float32(contrast) * canvas.textures[-1])
    if canvas.rng.random() < 0.5:
        shade = canvas.grain(contrast, everywhere, everywhere)
    canvas.picture[:] = (sky + (ground - sky) * ramp) * shade[..., None]


def _place(canvas: SceneCanvas, body: Body, colour: Plane) -> None:
    """Paint a shaded body and the shadow around its foot; only the box around it is touched."""
    reach = 1.35 * float(np.hypot(body.width, body.height)) * (1.2 if body.power > 2.0 else 1.0)
    rows, columns = _stretch(canvas, body.y, reach), _stretch(canvas, body.x, reach)
    dx = canvas.axis[None, columns] - np.float32(body.x)
    dy = canvas.axis[rows, None] - np.float32(body.y)
    cosine, sine = np.float32(np.cos(body.angle)), np.float32(np.sin(body.angle))
    u = (dx * cosine + dy * sine) * np.float32(1.0 / body.width)
    v = (dy * cosine - dx * sine) * np.float32(1.0 / body.height)
    if body.power == 2.0:
        far = np.sqrt(u * u + v * v)
    else:
        power = np.float32(body.power)
        far = (np.abs(u) ** power + np.abs(v) ** power) ** (1 / power)
    picture, radius = canvas.picture[rows, columns], min(body.width, body.height)
    if radius > SMALL and body.relief > 0.0:
        picture *= (1.0 - np.float32(0.7) * np.clip(1.3 - far, 0.0, 0.5))[..., None]
    dome = np.sqrt(np.clip(1.0 - far * far, 0.04, 1.0))
    facing = 0.55 + 0.45 * dome + 0.35 * (u * canvas.light[0] + v * canvas.light[1])
    shade = 1.0 + np.float32(body.relief) * (np.maximum(facing, 0.12) - 1.0)
    if radius > SMALL:
        shade = shade * canvas.grain(body.grain, rows, columns)
    _blend_surface(
        picture, _cover((far - 1.0) * radius, canvas.axis.size), colour * shade[..., None]
    )


def _stretch(canvas: SceneCanvas, centre: float, reach: float) -> slice:
    size_px = canvas.axis.size
    first, last = ((centre - reach + 1) * size_px / 2, (centre + reach + 1) * size_px / 2)
    return slice(max(0, int(first)), max(0, min(size_px, int(last) + 1)))


def _blend_surface(picture: Plane, cover: Plane, surface: Plane) -> None:
    picture += cover[..., None] * (surface - picture)


def _cover(distance: Plane, size_px: int) -> Plane:
    """Return how much of each pixel lies inside an edge; `distance` is negative inside."""
    cover: Plane = 0.5 - 0.5 * np.tanh(distance * np.float32(size_px / 2 / EDGE_PX))
    return cover.astype(np.float32)


def _running_mean(values: npt.NDArray[np.float64], width: int) -> Plane:
    """Return the running mean over `width` values, mean 0."""
    mean = np.convolve(values, np.full(width, 1.0 / width), mode="same")
    centred: Plane = mean - mean.mean()
    return centred.astype(np.float32)


def _light_picture(canvas: SceneCanvas) -> Plane:
    """Return the picture under uneven light, with the fall-off of a lens."""
    rng, x, y = canvas.rng, canvas.axis[None, :], canvas.axis[:, None]
    tilt, corner = np.float32(rng.uniform(0.0, 0.35)), np.float32(rng.uniform(0.0, 0.18))
    light = 1.0 + tilt * (x * canvas.light[0] + y * canvas.light[1])
    warmth = rng.uniform(-0.12, 0.12)
    white = np.array((1.0 + warmth, 1.0, 1.0 - warmth), np.float32)
    scene: Plane = canvas.picture * (light * (1.0 - corner * (x * x + y * y)))[..., None] * white
    return np.maximum(scene, np.float32(DARKEST)).astype(np.float32)


@lru_cache(maxsize=4)
def _log_frequency(size_px: int) -> Plane:
    rows = np.fft.fftfreq(size_px)[:, None]
    columns = np.fft.rfftfreq(size_px)[None, :]
    radius = np.hypot(rows, columns)
    radius[0, 0] = 1.0  # the mean, which the caller sets
    logarithm: Plane = np.log(radius)
    return logarithm.astype(np.float32)
