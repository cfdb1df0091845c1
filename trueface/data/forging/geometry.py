"""Where a face is replaced, and how its source is moved; lengths in parts of the side.

Aligned faces share one layout, so an ellipse takes the place of the landmarks' hull. Every number
comes from the generator that is passed in, always as many of them, so that no draw depends on
what another gave.
"""

import math

import numpy as np
import numpy.typing as npt
import PIL.Image
from PIL import ImageDraw, ImageFilter

from trueface.data.forging.registry import Part

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

POINTS = 24
CENTRE = (0.50, 0.53)  # across, down
AXES = (0.31, 0.40)  # half of them
CENTRE_SPREAD, AXES_SPREAD, RADIUS_SPREAD = 0.01, 0.10, 0.03
BROWS = 0.75  # of the half height above the centre: where the eyes' part begins
MOUTH = (0.05, 0.20)  # of the half height below it: where the mouth's part begins
SOFTEST, HARDEST = 3.0 / 128, 1.0 / 128  # deviation of the blurred edge
STEEPER = 1.6
REDUCED = 0.75  # and back: what softens a source


def outline(part: Part, chance: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return the corners of a part of the face, (24, 2), x and y in parts of the sides."""
    middle = np.array(CENTRE) + chance.uniform(-CENTRE_SPREAD, CENTRE_SPREAD, 2)
    axes = np.array(AXES) * (1 + chance.uniform(-AXES_SPREAD, AXES_SPREAD, 2))
    radius = 1 + RADIUS_SPREAD * np.clip(chance.standard_normal(POINTS), -2, 2)
    lip = chance.uniform(*MOUTH)
    angles = 2 * math.pi * np.arange(POINTS) / POINTS
    corners = middle + axes * radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    if part == "mouth":
        corners[:, 1] = np.maximum(corners[:, 1], middle[1] + lip * axes[1])
    elif part == "eyes":
        corners[:, 1] = np.clip(corners[:, 1], middle[1] - BROWS * axes[1], middle[1])
    outlined: npt.NDArray[np.float64] = corners
    return outlined


def mask(part: Part, height: int, width: int, chance: np.random.Generator) -> Floats:
    """Return how much of each pixel is replaced, (H, W) in 0 to 1, with a soft edge.

    Drawn at double size and reduced, blurred, and half of the time steepened around 0.5.
    """
    corners = outline(part, chance)
    sigma = chance.uniform(HARDEST, SOFTEST) * min(height, width)
    is_steep = chance.random() < 0.5
    drawn = PIL.Image.new("L", (2 * width, 2 * height), 0)
    places = [(float(x), float(y)) for x, y in corners * (2 * width, 2 * height)]
    ImageDraw.Draw(drawn).polygon(places, fill=255)
    blurred = drawn.reduce(2).filter(ImageFilter.GaussianBlur(sigma))
    shares = np.asarray(blurred, np.float32) / np.float32(255)
    if is_steep:
        shares = np.clip((shares - np.float32(0.5)) * np.float32(STEEPER) + np.float32(0.5), 0, 1)
    return shares


def moved(
    face: Floats, chance: np.random.Generator, *, shift: float, scale: float, turn_degrees: float
) -> Floats:
    """Return a face moved about its centre, each of the amounts drawn evenly up to its bound.

    Args:
        face: (H, W, 3) in 0 to 255; likewise the result. What comes in from outside repeats the edge.
        chance: gives four numbers.
        shift: at most, in parts of the side.
        scale: at most, as a share of the size.
        turn_degrees: at most.
    """
    height, width = face.shape[:2]
    right, down = chance.uniform(-shift, shift, 2) * (width, height)
    factor = 1 + chance.uniform(-scale, scale)
    angle = math.radians(chance.uniform(-turn_degrees, turn_degrees))
    border = 2 + math.ceil((shift + scale + math.radians(turn_degrees)) * max(height, width))
    wide = np.pad(_bytes(face), ((border, border), (border, border), (0, 0)), mode="edge")
    cosine, sine = math.cos(angle) / factor, math.sin(angle) / factor
    middle_x, middle_y = width * CENTRE[0], height * CENTRE[1]
    # from places of the result to places of the source, as Pillow wants it
    matrix = (
        *(cosine, sine, border + middle_x - cosine * (middle_x + right) - sine * (middle_y + down)),
        *(
            -sine,
            cosine,
            border + middle_y + sine * (middle_x + right) - cosine * (middle_y + down),
        ),
    )
    image = PIL.Image.fromarray(wide).transform(
        (width, height),
        PIL.Image.Transform.AFFINE,
        matrix,
        resample=PIL.Image.Resampling.BICUBIC,
    )
    return np.asarray(image, np.float32)


def resampled(face: Floats, share: float) -> Floats:
    """Return a face that was reduced to a share of its size, and enlarged again."""
    height, width = face.shape[:2]
    small = max(1, round(width * share)), max(1, round(height * share))
    image = PIL.Image.fromarray(_bytes(face))
    reduced = image.resize(small, PIL.Image.Resampling.BILINEAR)
    return np.asarray(reduced.resize((width, height), PIL.Image.Resampling.BICUBIC), np.float32)


def sharpened(face: Floats, amount: float) -> Floats:
    """Return a face with `amount` of an unsharp mask: what a blur of 1.2 % of the side takes away."""
    sigma = 0.012 * min(face.shape[:2])
    image = PIL.Image.fromarray(_bytes(face)).filter(ImageFilter.GaussianBlur(sigma))
    lost = face - np.asarray(image, np.float32)
    return np.clip(face + np.float32(amount) * lost, 0, 255)


def sharper_or_softer(face: Floats, chance: np.random.Generator, strength: float) -> Floats:
    """Return a source sharpened or softened, either as often as the other."""
    is_sharper, amount = chance.random() < 0.5, chance.uniform(0.3, 0.8)
    if is_sharper:
        return sharpened(face, amount * strength)
    return resampled(face, max(1 - (1 - REDUCED) * strength, 0.1))


def _bytes(face: Floats) -> Pixels:
    return np.rint(np.clip(face, 0, 255)).astype(np.uint8)
