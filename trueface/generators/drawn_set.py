"""A drawn set of images, created completely or not at all.

    portraits, resized     `A/<name>.png, B/…, C/…`    70, 20 and 10 %. Each contains attributes.csv.
    shapes                 `train/<class>/<name>.png, test/<class>/…`    80 and 20 % of each class.
    drawn.json             The marker file. It contains settings and photographs.

Portraits are smooth faces in front of a plain background, with three known attributes. Each
attribute holds for half of the images and is independent of the others. Attributes change wide
areas, so that a small generator learns them within minutes. Six shapes are drawn at a random
position and size on a dark background. They can be distinguished from 8 pixels on: their edges are
soft, on a canvas of unit side regardless of the number of pixels. Photographs become small squares:
they are centre-cropped, then resized.
"""

import colorsys
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from trueface.data.attribute_table import CSV, AttributeTable, read_attribute_table, table_text
from trueface.data.folders import stem
from trueface.data.settings import DRAWN_MARK, SHAPE_CLASSES, TRAIN_SHARE, DrawSettings
from trueface.generators.made_folders import divide_into_parts, image_names, read_image, to_picture
from trueface.runtime.artifact import Artifact
from trueface.runtime.digests import sha256_hex
from trueface.runtime.errors import DataError
from trueface.runtime.files import Json, write_atomic
from trueface.runtime.process_pool import process_in_chunks
from trueface.runtime.rng import numpy_rng

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


ATTRIBUTES = ("dark_hair", "light_background", "warm_skin")
NOISE = 0.012  # deviation of the pixels' noise, of 0 … 1
# regions that `recognise_attributes` reads: (left, top, right, bottom) in sides of the image, and the threshold
HAIR = (0.38, 0.11, 0.62, 0.2), 0.45
BORDER = (0.0, 0.0, 0.12, 0.5), 0.45
CHEEKS = (0.36, 0.56, 0.64, 0.66), 0.2
GREY: Floats = np.array([0.299, 0.587, 0.114], np.float32)
RADIUS = (0.30, 0.42)  # radius of the circle around a shape, in sides of the image
NOISE_OF_SHAPES = 0.02  # deviation of the pixels' noise, of 0 … 1
TURN = 0.15  # radians at most, so that a square stays a square
Point = tuple[float, float]
SCHEMA = 1
RECIPE = 1  # to be raised whenever the same settings would give other images
CHUNK = 64  # images between two reports
WORTH = 4000  # photographs from which on it is worth to start processes
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Canvas:
    """Coordinates of the middles of all pixels, in 0 … 1: `x` to the right, `y` down, each (size, size)."""

    size: int
    x: Floats
    y: Floats

    def cover(self, distance: Floats) -> Floats:
        """Return how much of each pixel a shape covers, 0 … 1.

        Args:
            distance: the distance of each pixel's middle from the shape's edge, in sides of the
                canvas; below zero inside.
        """
        covered: Floats = np.clip(0.5 - distance * self.size, 0, 1)
        return covered

    def ellipse(self, x: float, y: float, width: float, height: float) -> Floats:
        """Return about the distance from an ellipse; width and height are half axes."""
        across, down = (self.x - x) / width, (self.y - y) / height
        far: Floats = (np.sqrt(across**2 + down**2) - 1) * np.float32(min(width, height))
        return far

    def box(self, x: float, y: float, width: float, height: float, angle: float = 0.0) -> Floats:
        """Return the distance from a box of these half sides, turned by an angle in radians."""
        across, down = self.turn_axes(x, y, angle)
        far: Floats = np.maximum(np.abs(across) - width, np.abs(down) - height)
        return far

    def turn_axes(self, x: float, y: float, angle: float) -> tuple[Floats, Floats]:
        """Return coordinates around a point, in axes turned by an angle in radians."""
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        across, down = self.x - np.float32(x), self.y - np.float32(y)
        return cosine * across + sine * down, cosine * down - sine * across


@lru_cache(maxsize=4)
def canvas(size: int) -> Canvas:
    """Return the canvas of so many pixels a side."""
    middles = ((np.arange(size) + 0.5) / size).astype(np.float32)
    x, y = np.meshgrid(middles, middles)
    return Canvas(size, x, y)


def paint_over(picture: Floats, colour: Floats, coverage: Floats) -> Floats:
    """Return a picture, (H, W, 3), with a colour, (3,) or (H, W, 3), where something covers it."""
    painted: Floats = picture + (colour - picture) * coverage[..., None]
    return painted


def quantize_with_noise(
    picture: Floats, rng: np.random.Generator, noise: float, channels: int
) -> Pixels:
    """Return a picture of 0 … 1 as grey levels, (H, W, channels), with noise of this deviation."""
    if channels == 1:
        picture = picture @ np.array([[0.299], [0.587], [0.114]], np.float32)
    noisy = picture + rng.normal(0, noise, picture.shape).astype(np.float32)
    return np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)


def attributes_of(name: str, seed: int) -> Mapping[str, bool]:
    """Return which attributes the portrait of a name has."""
    rng = numpy_rng(f"portrait/{name}/attributes", seed)
    drawn = rng.random(len(ATTRIBUTES)) < 0.5
    return MappingProxyType(dict(zip(ATTRIBUTES, map(bool, drawn), strict=True)))


def draw_portrait(name: str, *, seed: int, size: int, channels: int = 3) -> Pixels:
    """Return a portrait, (size, size, channels), a function of seed and name.

    Args:
        name: of the image.
        seed: of the set.
        size: pixels a side, from 32; the same face at each size.
        channels: 3, or 1 for grey, where `warm_skin` is not seen.
    """
    holds = attributes_of(name, seed)
    rng = numpy_rng(f"portrait/{name}", seed)
    area = canvas(size)
    picture = _background(area, rng, light=holds["light_background"])
    hair = _hair_colour(rng, dark=holds["dark_hair"])
    skin = _skin_colour(rng, warm=holds["warm_skin"])
    picture = _figure(picture, area, rng, hair, skin)
    return quantize_with_noise(picture, rng, NOISE, channels)


def recognise_attributes(pixels: Pixels) -> Mapping[str, bool]:
    """Return which attributes a portrait shows, by thresholds on the colours of three areas.

    Args:
        pixels: (H, W, 3) grey levels, of any size.
    """
    hair, border, cheeks = (_mean(pixels, area) / 255 for area in (HAIR[0], BORDER[0], CHEEKS[0]))
    return {
        "dark_hair": bool(hair @ GREY < HAIR[1]),
        "light_background": bool(border @ GREY > BORDER[1]),
        "warm_skin": bool(cheeks[0] - cheeks[2] > CHEEKS[1]),
    }


def hsv(hue: float, saturation: float, value: float) -> Floats:
    """Return a colour as RGB, (3,) in 0 … 1."""
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float32)


def _mean(pixels: Pixels, area: tuple[float, float, float, float]) -> Floats:
    height, width = pixels.shape[:2]
    left, top, right, bottom = area
    part = pixels[
        round(top * height) : round(bottom * height), round(left * width) : round(right * width)
    ]
    mean: Floats = part.reshape(-1, pixels.shape[2]).mean(0).astype(np.float32)
    return mean


def _background(area: Canvas, rng: np.random.Generator, *, light: bool) -> Floats:
    value = rng.uniform(0.72, 0.92) if light else rng.uniform(0.08, 0.26)
    colour = hsv(rng.uniform(), rng.uniform(0.05, 0.3), value)
    across, down = rng.uniform(-0.12, 0.12, 2)
    shade = 1 + across * (area.x - 0.5) + down * (area.y - 0.5)
    ground: Floats = (colour * shade[..., None]).astype(np.float32)
    return ground


def _hair_colour(rng: np.random.Generator, *, dark: bool) -> Floats:
    if dark:
        return hsv(rng.uniform(0.0, 0.1), rng.uniform(0.2, 0.6), rng.uniform(0.08, 0.24))
    return hsv(rng.uniform(0.1, 0.15), rng.uniform(0.2, 0.55), rng.uniform(0.72, 0.92))


def _skin_colour(rng: np.random.Generator, *, warm: bool) -> Floats:
    if warm:
        return hsv(rng.uniform(0.06, 0.09), rng.uniform(0.45, 0.6), rng.uniform(0.7, 0.9))
    return hsv(rng.uniform(0.95, 1.05), rng.uniform(0.06, 0.14), rng.uniform(0.7, 0.9))


def _figure(
    picture: Floats, area: Canvas, rng: np.random.Generator, hair: Floats, skin: Floats
) -> Floats:
    """Paint shoulders, neck, hair and face over a background."""
    x, y = 0.5 + rng.uniform(-0.03, 0.03), 0.52 + rng.uniform(-0.02, 0.02)
    wide, high = rng.uniform(0.21, 0.26), rng.uniform(0.28, 0.33)
    clothes = hsv(rng.uniform(), rng.uniform(0.2, 0.7), rng.uniform(0.25, 0.8))
    light = 1 + rng.uniform(-0.5, 0.5) * (area.x - x)
    lit = (skin * light[..., None]).astype(np.float32)
    length = rng.uniform(0.0, 0.25)  # length of the hair, below the head's middle
    behind = area.ellipse(x, y - 0.08 + length / 2, wide + 0.08, high + 0.07 + length / 2)
    picture = paint_over(picture, hair, area.cover(behind))
    picture = paint_over(picture, clothes, area.cover(area.ellipse(x, 1.12, 0.42, 0.27)))
    picture = paint_over(
        picture, lit * np.float32(0.85), area.cover(area.box(x, y + high, 0.09, 0.1))
    )
    face = area.cover(area.ellipse(x, y, wide, high))
    picture = paint_over(picture, lit, face)
    picture = _features(picture, area, rng, (x, y, wide, high), (hair, skin))
    brow = area.cover(area.ellipse(x, y, wide + 0.015, high + 0.015))  # no skin shows above
    fringe = y - high * rng.uniform(0.5, 0.68)
    slant = rng.uniform(-0.25, 0.25)
    below = area.y - fringe - slant * (area.x - x) - 0.9 * (area.x - x) ** 2
    return paint_over(picture, hair, area.cover(below.astype(np.float32)) * brow)


def _features(
    picture: Floats,
    area: Canvas,
    rng: np.random.Generator,
    face: tuple[float, float, float, float],
    colours: tuple[Floats, Floats],
) -> Floats:
    """Paint eyes, brows, nose and mouth."""
    x, y, wide, high = face
    hair, skin = colours
    apart, level = wide * rng.uniform(0.4, 0.5), y - high * rng.uniform(0.08, 0.2)
    iris = hsv(rng.uniform(0.05, 0.65), rng.uniform(0.2, 0.6), rng.uniform(0.15, 0.5))
    white = np.full(3, 0.93, np.float32)
    opening, gaze = rng.uniform(0.02, 0.03), rng.uniform(-0.008, 0.008)
    for side in (-1, 1):
        middle = x + side * apart
        picture = paint_over(picture, white, area.cover(area.ellipse(middle, level, 0.05, opening)))
        pupil = area.ellipse(middle + gaze, level, 0.022, 0.022)
        picture = paint_over(picture, iris, area.cover(pupil))
        brow = area.box(middle, level - 0.06, 0.052, 0.009, side * rng.uniform(0.0, 0.25))
        picture = paint_over(picture, hair * np.float32(0.7), area.cover(brow) * np.float32(0.8))
    nose = area.ellipse(x, y + high * 0.18, 0.024, 0.06)
    picture = paint_over(picture, skin * np.float32(0.78), area.cover(nose) * np.float32(0.6))
    smile, width = rng.uniform(-0.5, 2.5), wide * rng.uniform(0.35, 0.5)
    curve = y + high * 0.55 - smile * (area.x - x) ** 2
    lips = np.maximum(np.abs(area.y - curve) - rng.uniform(0.012, 0.026), 0)
    far = np.maximum(lips, np.abs(area.x - x) - width) - np.float32(0.004)
    red = hsv(rng.uniform(0.96, 1.0), rng.uniform(0.45, 0.65), rng.uniform(0.5, 0.7))
    return paint_over(picture, red, area.cover(far.astype(np.float32)))


def draw_shape(shape: str, name: str, *, seed: int, size: int, channels: int = 1) -> Pixels:
    """Return an image of a shape, (size, size, channels), a function of seed and name.

    Args:
        shape: one of `SHAPES`.
        name: of the image.
        seed: of the set.
        size: pixels a side, from 8.
        channels: 1: grey; 3: the shape has a random colour.
    """
    rng = numpy_rng(f"shape/{shape}/{name}", seed)
    area = canvas(size)
    radius = rng.uniform(*RADIUS)
    x, y = rng.uniform(radius, 1 - radius, 2)
    turn = rng.uniform(-TURN, TURN)
    far = SHAPES[shape](area, (x, y), radius, turn)
    ground = np.full(3, rng.uniform(0.0, 0.15), np.float32)
    hue, saturation = rng.uniform(), rng.uniform(0.5, 1.0) if channels == 3 else 0.0
    colour = hsv(hue, saturation, rng.uniform(0.65, 1.0))
    picture = paint_over(np.broadcast_to(ground, (size, size, 3)), colour, area.cover(far))
    return quantize_with_noise(picture, rng, NOISE_OF_SHAPES, channels)


def _disc(area: Canvas, centre: Point, radius: float, _: float) -> Floats:
    return area.ellipse(*centre, radius * 0.9, radius * 0.9)


def _ring(area: Canvas, centre: Point, radius: float, _: float) -> Floats:
    middle, half = radius * 0.78, radius * 0.2
    return np.abs(area.ellipse(*centre, middle, middle)) - np.float32(half)


def _square(area: Canvas, centre: Point, radius: float, angle: float) -> Floats:
    return area.box(*centre, radius * 0.75, radius * 0.75, angle)


def _cross(area: Canvas, centre: Point, radius: float, angle: float) -> Floats:
    arm, half = radius, radius * 0.24
    far: Floats = np.minimum(
        area.box(*centre, arm, half, angle), area.box(*centre, half, arm, angle)
    )
    return far


def _bar(area: Canvas, centre: Point, radius: float, angle: float) -> Floats:
    return area.box(*centre, radius, radius * 0.28, angle)


def _triangle(area: Canvas, centre: Point, radius: float, angle: float) -> Floats:
    """Return the distance from an isosceles triangle with its base at the bottom."""
    across, down = area.turn_axes(*centre, angle)
    half, height = radius * 0.85, radius * 1.6  # half the base and the height of the triangle
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


def small_square(file: Path, *, crop: int, size: int, channels: int = 3) -> Pixels:
    """Return a photograph as (size, size, channels).

    Same as StarGAN's transforms: centre crop, then bilinear with antialiasing.

    Args:
        file: of the photograph.
        crop: side of the centre crop, in pixels. 0 takes the largest square.
        size: side of the result.
        channels: 3 or 1.

    Raises:
        DataError: it cannot be decoded, or is smaller than the crop.
    """
    picture = to_picture(read_image(file, channels=channels))
    side = crop or min(picture.size)
    if min(picture.size) < side:
        width, height = picture.size
        raise DataError(
            f"{file} has {width}x{height} pixels, less than crop: {crop}. Use a smaller crop, or "
            "0 for the largest square."
        )
    left, top = ((whole - side) // 2 for whole in picture.size)
    box = (left, top, left + side, top + side)
    # cropped first: `resize(box=…)` would mix in pixels from outside
    small = picture.crop(box).resize((size, size), PIL.Image.Resampling.BILINEAR)
    return np.asarray(small).reshape(size, size, channels)


@dataclass(frozen=True, slots=True)
class Drawing:
    """An image to be made."""

    file: str  # below the data root, without suffix
    subject: str  # a shape, the relative name of a photograph, or the name of a portrait


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is in a set."""

    works: tuple[Drawing, ...]
    tables: Mapping[str, str] = field(default_factory=dict)  # file below the root → its text
    counts: Mapping[str, int] = field(default_factory=dict)  # images of each part
    facts: Mapping[str, Json] = field(default_factory=dict)  # facts about the source, for the mark


def numbered_stems(count: int) -> tuple[str, ...]:
    """Return names of so many images, without suffix: their numbers in as many digits each."""
    digits = max(5, len(str(count - 1)))
    return tuple(f"{number:0{digits}d}" for number in range(count))


def shape_files(count: int) -> tuple[tuple[str, str], ...]:
    """Return the class and the file below the data root, without suffix, of so many shapes.

    Classes take turns; the first 80 % of each are for training.
    """
    number_in_class = dict.fromkeys(SHAPE_CLASSES, 0)
    files = []
    for at in range(count):
        name = SHAPE_CLASSES[at % len(SHAPE_CLASSES)]
        of_class = (count - SHAPE_CLASSES.index(name) + len(SHAPE_CLASSES) - 1) // len(
            SHAPE_CLASSES
        )
        number, number_in_class[name] = number_in_class[name], number_in_class[name] + 1
        part = "train" if number < round(of_class * TRAIN_SHARE) else "test"
        files.append((name, f"{part}/{name}/{number:05d}"))
    return tuple(files)


def make_drawn(
    root: Path,
    settings: DrawSettings,
    *,
    source: Path | None = None,
    attributes: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Json]:
    """Make a drawn set; return what its mark says. One that is there already is left as it is.

    Args:
        root: absent, empty, or holding a set of the same settings.
        settings: what to make; places in it are those above.
        source: folder of photographs, for `resized`.
        attributes: their table, if there is one.
        progress: called with the number of images made and their total. While another process
        writes the
            folder, both are 0. An exception of it ends the work, and nothing of it stays.

    Raises:
        DataError: the folder holds something else, or cannot be written; the source is at fault.
        MachineError: a process was killed.
    """
    plan = _plan(settings, source, attributes)
    places = {"data_root", "source", "attributes"}
    mark: dict[str, Json] = {
        "schema": SCHEMA,
        "recipe": RECIPE,
        "settings": settings.model_dump(mode="json", exclude=places),
        **plan.facts,
    }
    done: dict[str, Json] = {**mark, "images": len(plan.works), "parts": dict(plan.counts)}
    artifact = Artifact("drawn set", root, DRAWN_MARK, mark)
    with artifact.lock_place(progress):
        if artifact.is_complete((f"{work.file}.png" for work in plan.works), _describe_other):
            return done
        with artifact.create_folder(done) as folder:
            files = [*(work.file for work in plan.works), *plan.tables]
            for above in sorted({file.rpartition("/")[0] for file in files}):
                (folder / above).mkdir(parents=True, exist_ok=True)
            doing = f"made images for {root}"
            _draw_all(folder, plan.works, settings, source, doing=doing, progress=progress)
            for name, text in plan.tables.items():
                write_atomic(folder / name, text)
    return done


def _describe_other(_key: str, stored_identity: Mapping[str, Json]) -> str:
    settings = json.dumps(stored_identity.get("settings"))
    return f"a drawn set with other settings or photographs ({settings})"


def _plan(settings: DrawSettings, source: Path | None, attributes: Path | None) -> Plan:
    if settings.content == "shapes":
        files = shape_files(settings.images)
        works = tuple(Drawing(file, shape) for shape, file in files)
        return Plan(works, counts=dict(Counter(work.file.partition("/")[0] for work in works)))
    if settings.content == "portraits":
        names = numbered_stems(settings.images)
        rows = {
            name: tuple(map(int, attributes_of(name, settings.seed).values())) for name in names
        }
        return _divide_drawings(names, settings.seed, ATTRIBUTES, rows)
    if source is None:
        raise ValueError("content: resized needs source")
    table = read_attribute_table(attributes) if attributes else None
    names = _photographs(source, settings)
    rows = _rows(table, names)
    plan = _divide_drawings(names, settings.seed, table.names if table else (), rows)
    sizes = [[name, (source / name).stat().st_size] for name in names]
    facts = json.dumps([sizes, sorted(rows.items())])
    return Plan(
        plan.works,
        plan.tables,
        plan.counts,
        {"source_sha256": sha256_hex(facts)},
    )


def _photographs(source: Path, settings: DrawSettings) -> tuple[str, ...]:
    """Return the names of the selected photographs, sorted.

    Raises:
        DataError: there is none, there are fewer than requested, or two differ only in suffix.
    """
    names = image_names(source)
    if settings.images > len(names):
        raise DataError(
            f"{source} has {len(names)} photographs, but images is {settings.images}. Use images: "
            "0 for all."
        )
    return image_names(source, limit=settings.images)


def _rows(table: AttributeTable | None, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    if table is None:
        return {}
    return {name: tuple(row) for name, row in zip(names, table.rows_for_images(names), strict=True)}


def _divide_drawings(
    names: Sequence[str],
    seed: int,
    columns: Sequence[str],
    rows: Mapping[str, tuple[int, ...]],
) -> Plan:
    parts = divide_into_parts(names, seed)
    works = tuple(
        Drawing(f"{part}/{stem(name)}", name) for part, inside in parts.items() for name in inside
    )
    tables = {}
    for part, inside in parts.items() if columns else ():
        held = {f"{stem(name)}.png": rows[name] for name in inside}
        tables[f"{part}/{CSV}"] = table_text(columns, held)
    return Plan(works, tables, {part: len(inside) for part, inside in parts.items()})


def _draw_all(
    folder: Path,
    works: Sequence[Drawing],
    settings: DrawSettings,
    source: Path | None,
    *,
    doing: str,
    progress: Progress | None,
) -> None:
    many = settings.content == "resized" and len(works) >= WORTH
    draw, workers, total = partial(_draw, folder, settings, source), None if many else 1, len(works)
    process_in_chunks(draw, works, CHUNK, workers, doing=doing, total=total, progress=progress)


def _draw(
    folder: Path, settings: DrawSettings, source: Path | None, works: Sequence[Drawing]
) -> None:
    for work in works:
        pixels = _pixels(work, settings, source)
        picture = PIL.Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        picture.save(folder / f"{work.file}.png", compress_level=1)


def _pixels(work: Drawing, settings: DrawSettings, source: Path | None) -> Pixels:
    size, channels = settings.size, settings.channels
    if source is not None:
        return small_square(source / work.subject, crop=settings.crop, size=size, channels=channels)
    if settings.content == "shapes":
        return draw_shape(work.subject, work.file, seed=settings.seed, size=size, channels=channels)
    return draw_portrait(work.subject, seed=settings.seed, size=size, channels=channels)
