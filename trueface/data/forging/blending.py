"""Forges a face: a moved and recoloured source replaces a part of it, with a soft edge.

After self-blended images (K. Shiohara and T. Yamasaki, CVPR 2022, arXiv 2204.08376). Lengths are
fractions of the side. Aligned faces have one layout, so an ellipse replaces the convex hull of the
landmarks. Every number comes from the generator that is passed in. The number of draws is constant,
so that no draw depends on the result of another.

A source gets colours that are close to those of the target face, with a small deviation. They are
computed channel by channel, because a matrix product may round in another order with another number
of threads. A forged set must be the same in every byte.

The donor is a similar face of the same group and split. A donor of another group would make its
skin colour the cue, and the group of the fake would be undefined. A donor of another split would
put a test image into the training.

Images of both classes are compressed as JPEG at the end. If only fakes were compressed again, a
model would learn the second compression and nothing else.

Real training images can become self-blended fakes, too: before the five steps of their
augmentation, on the whole image. The blend replaces an ellipse that approximates the face, so the
images must be aligned faces. Whether an image becomes a fake, and which one, is a function of
seed, image and epoch, as all augmentation is. Its label follows from the same draw wherever pixels
or features of that epoch are used. Shiohara and Yamasaki train on pairs of each real image and its
blend. Here a share of the real images is replaced, and other fakes are unchanged.
"""

import io
import math
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import PIL.Image
from PIL import ImageDraw, ImageFilter

from trueface.data.forging.registry import SELF, SPECS, FacePart, ForgerySpec, find_source
from trueface.data.index import Image
from trueface.data.vocabulary import UNSHARED
from trueface.runtime.image_files import open_image
from trueface.runtime.rng import numpy_rng

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

POINTS = 24
CENTRE = (0.50, 0.53)  # across, down
AXES = (0.31, 0.40)  # half of them
CENTRE_SPREAD, AXES_SPREAD, RADIUS_SPREAD = 0.01, 0.10, 0.03
BROWS = 0.75  # upper bound of the eyes' part, in half heights above the centre
MOUTH = (0.05, 0.20)  # upper bound of the mouth's part, in half heights below it
SOFTEST, HARDEST = 3.0 / 128, 1.0 / 128  # deviation of the blurred edge
STEEPER = 1.6
REDUCED = 0.75  # and back: what softens a source
RATIO = (0.6, 1.6)  # least and largest ratio of deviations
SHARE = (0.8, 1.0)  # fraction of the way to the face's colours
LEAST = 1e-3  # weight, or deviation in grey levels: below it there is nothing to match
# most of each, at strength 1
HUE_DEGREES, SATURATION, VALUE = 8.0, 0.15, 0.10
RATIOS = (0.6, 0.8, 1.0, 1.0)  # scales of the source within the mask
LOWEST, HIGHEST = 85, 95  # quality of a pair, drawn
FULL_COLOUR = 0  # Pillow's 4:4:4: the chroma resolution does not reveal the type
SIDE = 16  # side of the grey copies that are compared
NEAREST = 5
LEVELS = 40  # per deviation
MOST = 127  # so that sums of products of two faces are whole numbers below 2^24: exact in float32
ROWS = 1024  # compared at once
Thumbnails = npt.NDArray[np.int8]


def outline(part: FacePart, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return the corners of a part of the face, (24, 2), x and y in parts of the sides."""
    middle = np.array(CENTRE) + rng.uniform(-CENTRE_SPREAD, CENTRE_SPREAD, 2)
    axes = np.array(AXES) * (1 + rng.uniform(-AXES_SPREAD, AXES_SPREAD, 2))
    radius = 1 + RADIUS_SPREAD * np.clip(rng.standard_normal(POINTS), -2, 2)
    lip = rng.uniform(*MOUTH)
    angles = 2 * math.pi * np.arange(POINTS) / POINTS
    corners = middle + axes * radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    if part == "mouth":
        corners[:, 1] = np.maximum(corners[:, 1], middle[1] + lip * axes[1])
    elif part == "eyes":
        corners[:, 1] = np.clip(corners[:, 1], middle[1] - BROWS * axes[1], middle[1])
    outlined: npt.NDArray[np.float64] = corners
    return outlined


def mask(part: FacePart, height: int, width: int, rng: np.random.Generator) -> Floats:
    """Return how much of each pixel is replaced, (H, W) in 0 to 1, with a soft edge.

    Drawn at double size and reduced, blurred, and half of the time steepened around 0.5.
    """
    corners = outline(part, rng)
    sigma = rng.uniform(HARDEST, SOFTEST) * min(height, width)
    is_steep = rng.random() < 0.5
    drawn = PIL.Image.new("L", (2 * width, 2 * height), 0)
    places = [(float(x), float(y)) for x, y in corners * (2 * width, 2 * height)]
    ImageDraw.Draw(drawn).polygon(places, fill=255)
    blurred = drawn.reduce(2).filter(ImageFilter.GaussianBlur(sigma))
    shares = np.asarray(blurred, np.float32) / np.float32(255)
    if is_steep:
        shares = np.clip((shares - np.float32(0.5)) * np.float32(STEEPER) + np.float32(0.5), 0, 1)
    return shares


def move_randomly(
    face: Floats, rng: np.random.Generator, *, shift: float, scale: float, turn_degrees: float
) -> Floats:
    """Return a face moved about its centre. Each amount is uniform up to its bound.

    Args:
        face: (H, W, 3) in 0 to 255, like the result. Pixels from outside repeat the edge.
        rng: gives four numbers.
        shift: maximum, as a fraction of the side.
        scale: maximum, as a fraction of the size.
        turn_degrees: maximum rotation.
    """
    height, width = face.shape[:2]
    right, down = rng.uniform(-shift, shift, 2) * (width, height)
    factor = 1 + rng.uniform(-scale, scale)
    angle = math.radians(rng.uniform(-turn_degrees, turn_degrees))
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


def resample_face(face: Floats, share: float) -> Floats:
    """Return a face that was reduced to a share of its size, and enlarged again."""
    height, width = face.shape[:2]
    small = max(1, round(width * share)), max(1, round(height * share))
    image = PIL.Image.fromarray(_bytes(face))
    reduced = image.resize(small, PIL.Image.Resampling.BILINEAR)
    return np.asarray(reduced.resize((width, height), PIL.Image.Resampling.BICUBIC), np.float32)


def sharpen_face(face: Floats, amount: float) -> Floats:
    """Return a face with `amount` of an unsharp mask, from a blur of 1.2 % of the side."""
    sigma = 0.012 * min(face.shape[:2])
    image = PIL.Image.fromarray(_bytes(face)).filter(ImageFilter.GaussianBlur(sigma))
    lost = face - np.asarray(image, np.float32)
    return np.clip(face + np.float32(amount) * lost, 0, 255)


def sharper_or_softer(face: Floats, rng: np.random.Generator, strength: float) -> Floats:
    """Return a source sharpened or softened, either as often as the other."""
    is_sharper, amount = rng.random() < 0.5, rng.uniform(0.5, 1.0)
    if is_sharper:
        return sharpen_face(face, amount * strength)
    return resample_face(face, max(1 - (1 - REDUCED) * strength, 0.1))


def _bytes(face: Floats) -> Pixels:
    return np.rint(np.clip(face, 0, 255)).astype(np.uint8)


def to_ycc(pixels: Floats) -> tuple[Floats, Floats, Floats]:
    """Return luma and the two chroma channels (around 0) of JPEG, ITU-R BT.601, of (H, W, 3) RGB."""
    red, green, blue = (pixels[..., channel] for channel in range(3))
    luma = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
    return luma, (blue - luma) * np.float32(0.564334), (red - luma) * np.float32(0.713267)


def to_rgb(luma: Floats, blueness: Floats, redness: Floats) -> Floats:
    """Return (H, W, 3) RGB in 0 to 255."""
    red = luma + np.float32(1.402) * redness
    blue = luma + np.float32(1.772) * blueness
    green = luma - np.float32(0.344136) * blueness - np.float32(0.714136) * redness
    pixels: Floats = np.clip(np.stack([red, green, blue], -1), 0, 255)
    return pixels


def match_colours(
    source: Floats, face: Floats, weight: Floats, rng: np.random.Generator, strength: float
) -> Floats:
    """Return a source with the mean and deviation of a face's colours, both inside the mask.

    After E. Reinhard et al., IEEE CG&A 21(5), 2001, in YCbCr in the place of their colour space.

    Args:
        source: (H, W, 3) in 0 to 255.
        face: the same form.
        weight: (H, W), the mask.
        rng: gives the share of the way.
        strength: a larger one leaves more of the source's own colours.
    """
    missing = (1 - rng.uniform(*SHARE)) * strength
    total = float(weight.sum(dtype=np.float64))
    if total < LEAST:
        return source
    channels: list[Floats] = []
    for own, target in zip(to_ycc(source), to_ycc(face), strict=True):
        (mean, deviation), (goal, spread) = (
            _moments(each, weight, total) for each in (own, target)
        )
        ratio = min(max(spread / max(deviation, LEAST), RATIO[0]), RATIO[1])
        near = (own - np.float32(mean)) * np.float32(ratio) + np.float32(goal)
        channels.append((near + (own - near) * min(missing, 1.0)).astype(np.float32))
    return to_rgb(*channels)


def jitter_colours(source: Floats, rng: np.random.Generator, strength: float) -> Floats:
    """Return a source with hue, saturation and brightness each changed a little."""
    hue, saturation, value = rng.uniform(-1, 1, 3) * strength
    angle = math.radians(HUE_DEGREES * hue)
    factor = max(1 + SATURATION * saturation, 0.0)
    cosine, sine = np.float32(math.cos(angle) * factor), np.float32(math.sin(angle) * factor)
    luma, blueness, redness = to_ycc(source)
    turned = cosine * blueness - sine * redness, sine * blueness + cosine * redness
    changed: Floats = to_rgb(luma, *turned) * np.float32(max(1 + VALUE * value, 0.0))
    return np.clip(changed, 0, 255)


def _moments(channel: Floats, weight: Floats, total: float) -> tuple[float, float]:
    mean = float((channel * weight).sum(dtype=np.float64)) / total
    square = float((np.square(channel - np.float32(mean)) * weight).sum(dtype=np.float64)) / total
    return mean, math.sqrt(square)


class ForgerySource(Protocol):
    """The function of a forgery type."""

    def __call__(
        self, face: Floats, donor: Floats | None, rng: np.random.Generator, strength: float
    ) -> Floats:
        """Return what goes into the face, (H, W, 3) in 0 to 255.

        Args:
            face: of that form; not to be changed in place.
            donor: of that form; None for types that need none.
            rng: the only source of randomness.
            strength: of the movement and of all else that can be seen; 1 is usual.
        """


def forge_face(
    face: Pixels,
    donor: Pixels | None,
    spec: ForgerySpec,
    rng: np.random.Generator,
    strength: float = 1.0,
) -> Pixels:
    """Return a forged face.

    Args:
        face: (H, W, 3) RGB, aligned, like the result.
        donor: a face of the same shape, for types that need one.
        spec: the type.
        rng: the only source of randomness.
        strength: above 0. Scales the visible traces of the forgery.

    Raises:
        ValueError: the type needs a donor of the same shape, and there is none.
    """
    if spec.needs_donor and (donor is None or donor.shape != face.shape):
        raise ValueError(f"{spec.name} needs a donor of shape {face.shape}")
    target = face.astype(np.float32)
    other = None if donor is None else donor.astype(np.float32)
    weight = mask(spec.part, face.shape[0], face.shape[1], rng)
    ratio = RATIOS[int(rng.integers(len(RATIOS)))]
    source = cast(ForgerySource, find_source(spec.name))(target, other, rng, strength)
    if spec.matches_colour:
        source = match_colours(source, target, weight, rng, strength)
    source = jitter_colours(source, rng, strength)
    share = (weight * np.float32(ratio))[..., None]
    return np.rint(np.clip(target + (source - target) * share, 0, 255)).astype(np.uint8)


def resize_like(face: Pixels, form: tuple[int, ...]) -> Pixels:
    """Return a face in the height and width of another."""
    if face.shape == form:
        return face
    image = PIL.Image.fromarray(face)
    return np.asarray(image.resize((form[1], form[0]), PIL.Image.Resampling.BICUBIC))


def quality_of(rng: np.random.Generator) -> int:
    """Return the quality of a pair."""
    return int(rng.integers(LOWEST, HIGHEST + 1))


def encode_face(face: Pixels, quality: int) -> bytes:
    """Return a face as the bytes of a JPEG file, colour at full resolution."""
    file = io.BytesIO()
    PIL.Image.fromarray(face).save(file, "JPEG", quality=quality, subsampling=FULL_COLOUR)
    return file.getvalue()


def decode_face(content: bytes) -> Pixels:
    """Return the pixels of a JPEG file's bytes, (H, W, 3)."""
    with open_image(io.BytesIO(content)) as image:
        return np.array(image)


def thumbnail(face: Pixels) -> Thumbnails:
    """Return a face as 16 x 16 grey levels of mean 0 and deviation 1, in steps of 1/40: (256,)."""
    grey = PIL.Image.fromarray(face).convert("L")
    small = grey.resize((SIDE, SIDE), PIL.Image.Resampling.BOX)
    values = np.asarray(small, np.float64).reshape(-1)
    values = (values - values.mean()) / max(values.std(), 1e-6)
    steps: Thumbnails = np.clip(np.rint(values * LEVELS), -MOST, MOST).astype(np.int8)
    return steps


def nearest_faces(thumbnails: Thumbnails) -> npt.NDArray[np.int64]:
    """Return the indices of the nearest other faces of N faces, (N, 0 to 5), nearest first.

    If two faces have equal distance, the first one is used. Distances are integers, and the same for any number
    of threads.

    Args:
        thumbnails: (N, 256), of the faces of one group and list.
    """
    count = len(thumbnails)
    neighbours = min(NEAREST, count - 1)
    if neighbours < 1:
        return np.empty((count, 0), np.int64)
    values = thumbnails.astype(np.float32)
    squares = np.square(values).sum(1)
    places = []
    for start in range(0, count, ROWS):
        part = slice(start, min(start + ROWS, count))
        distances = squares[part, None] + squares[None] - 2 * (values[part] @ values.T)
        distances[np.arange(part.stop - start), np.arange(start, part.stop)] = np.inf
        places.append(np.argsort(distances, 1, kind="stable")[:, :neighbours])
    return np.concatenate(places).astype(np.int64)


@dataclass(frozen=True, slots=True)
class SelfBlending:
    """Turns a fraction of the unshared real images into fakes, and compresses all unshared ones alike."""

    fraction: float

    def makes_fake(self, image: Image, words: str) -> bool:
        """Return whether an image becomes a fake.

        Args:
            image: of any class.
            words: of seed, epoch and image.
        """
        is_real = image.label == 0 and image.modifier in UNSHARED
        return is_real and bool(numpy_rng(f"sbi/{words}").random() < self.fraction)

    def __call__(self, face: Pixels, image: Image, words: str) -> Pixels:
        """Return the image of a file, (H, W, 3), blended with itself if it becomes a fake.

        Original images of both classes get one more JPEG compression of the same qualities.
        Otherwise a model would learn only whether an image was compressed after the blend.
        """
        if image.modifier not in UNSHARED:
            return face
        rng = numpy_rng(f"sbi/{words}")
        becomes_fake = rng.random() < self.fraction and image.label == 0
        quality = quality_of(rng)
        if becomes_fake:
            face = forge_face(face, None, SPECS[SELF], rng, strength=1.0)
        return decode_face(encode_face(np.ascontiguousarray(face), quality))
