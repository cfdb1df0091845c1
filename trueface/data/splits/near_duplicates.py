"""Images with equal or nearly equal pixels, found by their thumbnails.

Equal pixels are exact: a SHA-256 of size and decoded RGB pixels. It requires decoding every image.
On one core a JPEG of 256 pixels takes about 2 ms, one of 1024 takes 10 ms, and a PNG of 1024 takes
50 ms.

Nearly equal pictures are found by thumbnails in two steps. Pairs whose 16 x 16 thumbnails
correlate, straight or mirrored, are candidates. The brightness steps of their 32 x 32 thumbnails
must correlate, too, after one of the two was cropped by up to 6 % on any side. Copies
that are recompressed, resized to smaller, brightened, mirrored or cropped by 3 % are therefore
recognised. A match is a hint, not a proof.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from trueface.data.index import Image
from trueface.data.loading.decoding import decode
from trueface.data.splits.splitting import merge_groups
from trueface.runtime.digests import sha256_digest
from trueface.runtime.errors import BadImageError

SIDE = 32  # pixels of a thumbnail
COARSE = 16  # pixels of the smaller thumbnail that chooses candidates
# The thresholds were chosen by inspection of the closest pairs of 8,500 real images (faces, CIFAR-10).
# Copies cropped by 3 % reach 0.82 (photographs of 256 pixels) or 0.77 (32 pixels). Two pictures of
# different people reach at most 0.78.
CANDIDATE = 0.8  # correlation of the smaller thumbnails
NEAR = 0.79  # correlation of brightness steps
SAME_SMALL = 0.985  # correlation of the smaller thumbnails of tiny copies, without finer detail
CROPS = (0.03, 0.06)  # fractions of each side, at nine places
BLOCK = 1 << 22  # pairs compared at a time: 16 MiB
PAIRS = 1 << 12  # candidates compared at a time: 16 MiB
BATCH = 1024  # images handed to the threads at a time
Thumbnail = NDArray[np.uint8]  # (SIDE, SIDE), brightness
Floats = NDArray[np.float32]


class ImageAppearance(NamedTuple):
    """The appearance of an image. A NamedTuple, because there is one per image."""

    pixels: bytes  # SHA-256
    thumbnail: Thumbnail


class NearDuplicate(NamedTuple):
    """Two images that show nearly the same."""

    name: str
    other: str
    correlation: float  # correlation of brightness steps or small thumbnails, whichever is larger
    mirrored: bool


def read_appearances(
    files: Sequence[str],
    *,
    threads: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Iterator[ImageAppearance | str]:
    """Yield the appearance of each image, or its decoding error, in the order of `files`.

    Args:
        files: paths of images.
        threads: number of decoding threads. None uses one for each available core.
        progress: called with the number of images that were read since the last call.
    """
    with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0))) as pool:
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            yield from pool.map(read_appearance, batch)
            if progress is not None:
                progress(len(batch))


def read_appearance(file: str) -> ImageAppearance | str:
    """Decode one image as a network gets it; return what it looks like, or why it has no pixels."""
    try:
        pixels = decode(Path(file)).permute(1, 2, 0).contiguous().numpy()  # (H, W, 3)
    except BadImageError as error:
        return error.reason
    height, width, _ = pixels.shape
    digest = sha256_digest((f"{width}x{height}\n", pixels.data))
    grey = PIL.Image.fromarray(pixels).convert("L")
    thumbnail = np.asarray(grey.resize((SIDE, SIDE), PIL.Image.Resampling.BOX))
    return ImageAppearance(digest, thumbnail)


def group_equal_pictures(
    images: Sequence[Image],
    progress: Callable[[int], object] | None = None,
    *,
    similar: bool = False,
) -> dict[str, str]:
    """Return a group for each key with the same pixels as another key.

    Images that cannot be decoded have no group. See `imports.arrangement` for groups.

    Args:
        images: of any modifiers.
        progress: called with the number of images that were read since the last call.
        similar: also group keys whose images are nearly the same.
    """
    read = zip(
        images, read_appearances([image.file for image in images], progress=progress), strict=True
    )
    good = {image.name: look for image, look in read if isinstance(look, ImageAppearance)}
    keys = {image.name: image.key for image in images}
    together = [(f"pixels of {keys[names[0]]}", names) for names in find_equal_pictures(good)]
    # within a modifier only: the copies of an image have one key anyhow
    by_modifier: dict[str, dict[str, ImageAppearance]] = defaultdict(dict)
    for name, one_look in good.items() if similar else ():
        by_modifier[name.partition(":")[0]][name] = one_look
    for members in by_modifier.values():
        together += [
            (f"like {keys[pair.name]}", [*pair[:2]]) for pair in find_near_duplicates(members)
        ]
    # each is a rule of its own: a key has one group in a rule, and may be like many
    return merge_groups(*({keys[name]: group for name in names} for group, names in together))


def find_equal_pictures(appearances: Mapping[str, ImageAppearance]) -> list[list[str]]:
    """Return the names of images with the very same pixels, together; only where there are several."""
    names_of: dict[bytes, list[str]] = defaultdict(list)
    for name, look in appearances.items():
        names_of[look.pixels].append(name)
    return [names for names in names_of.values() if len(names) > 1]


def find_near_duplicates(
    appearances: Mapping[str, ImageAppearance],
    other_appearances: Mapping[str, ImageAppearance] | None = None,
) -> Iterator[NearDuplicate]:
    """Yield pairs of pictures that are nearly, but not exactly, the same. Checks every pair.

    Args:
        appearances: pictures, one of each pair.
        other_appearances: the other one of each pair. None: both are of `appearances`, and each pair is yielded
            once.
    """
    looks = list(appearances.items())
    others = looks if other_appearances is None else list(other_appearances.items())
    if not (looks and others):
        return
    right = _coarse_thumbnails(others)  # (M, COARSE²)
    rows = max(1, BLOCK // len(others))
    for start in range(0, len(looks), rows):
        chosen = looks[start : start + rows]
        left = _coarse_thumbnails(chosen)
        # an image that is its own mirror image is near twice
        pairs_near: dict[tuple[str, str], NearDuplicate] = {}
        for mirrored in (False, True):
            alike = (_mirror_thumbnails(left) if mirrored else left) @ right.T
            at, other_at = np.nonzero(alike >= CANDIDATE)
            if other_appearances is None:
                later = other_at > at + start
                at, other_at = at[later], other_at[later]
            for first in range(0, len(at), PAIRS):
                places = at[first : first + PAIRS], other_at[first : first + PAIRS]
                pairs = [(chosen[a], others[b]) for a, b in zip(*places, strict=True)]
                for pair in _check_candidates(pairs, alike[places], is_mirrored=mirrored):
                    previous = pairs_near.get(pair[:2])
                    if previous is None or previous.correlation < pair.correlation:
                        pairs_near[pair[:2]] = pair
        yield from pairs_near.values()


def _check_candidates(
    pairs: Sequence[tuple[tuple[str, ImageAppearance], tuple[str, ImageAppearance]]],
    coarse_vectors: Floats,
    *,
    is_mirrored: bool,
) -> Iterator[NearDuplicate]:
    """Yield the candidates that are nearly the same; `coarse_vectors` holds their coarse correlations."""
    left = np.stack([look.thumbnail for (_, look), _ in pairs]).astype(np.float32)
    right = np.stack([look.thumbnail for _, (_, look) in pairs]).astype(np.float32)
    if is_mirrored:
        left = left[:, :, ::-1]
    fine = _steps_correlation(left, right)
    for ((name, look), (other, other_look)), detail, rough in zip(
        pairs, fine, coarse_vectors, strict=True
    ):
        if (detail >= NEAR or rough >= SAME_SMALL) and look.pixels != other_look.pixels:
            yield NearDuplicate(name, other, round(float(max(detail, rough)), 3), is_mirrored)


def _coarse_thumbnails(items: Sequence[tuple[str, ImageAppearance]]) -> Floats:
    """Return small thumbnails as vectors of mean 0 and length 1, (N, COARSE²); flat ones are 0."""
    stack = np.stack([look.thumbnail for _, look in items]).astype(np.float32)
    by = SIDE // COARSE
    small = stack.reshape(-1, COARSE, by, COARSE, by).mean(axis=(2, 4)).reshape(len(stack), -1)
    return _unit(small - small.mean(axis=1, keepdims=True))


def _mirror_thumbnails(coarse: Floats) -> Floats:
    return coarse.reshape(-1, COARSE, COARSE)[:, :, ::-1].reshape(len(coarse), -1)


def _steps_correlation(first: Floats, second: Floats) -> Floats:
    """Return how the brightness steps of pairs correlate at the best crop of either; (N,).

    Args:
        first: (N, SIDE, SIDE).
        second: as many.
    """
    straight, other = _steps(first), _steps(second)
    best: Floats = (straight * other).sum(axis=1)
    for down, across in _croppings():
        for cropped, whole in ((first, other), (second, straight)):
            view: Floats = np.matmul(np.matmul(down, cropped), across.T)
            best = np.maximum(best, (_steps(view) * whole).sum(axis=1))
    return best


def _steps(thumbnails: Floats) -> Floats:
    """Return the differences between neighbours as vectors of length 1; flat ones are 0."""
    count = len(thumbnails)
    down = (thumbnails[:, 1:, :] - thumbnails[:, :-1, :]).reshape(count, -1)
    across = (thumbnails[:, :, 1:] - thumbnails[:, :, :-1]).reshape(count, -1)
    return _unit(np.concatenate([down, across], axis=1))


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Floats = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-6)
    return unit


@cache
def _croppings() -> tuple[tuple[Floats, Floats], ...]:
    """Return matrices that crop a thumbnail, for rows and columns: M @ thumbnail @ N.T."""
    places = (0.0, 0.5, 1.0)
    return tuple(
        (_crop(part, down), _crop(part, across))
        for part, down, across in product(CROPS, places, places)
    )


def _crop(part: float, position: float) -> Floats:
    """Return what cuts a part of SIDE samples off, at `position` in 0 … 1, and stretches the rest."""
    first, length = position * part * SIDE, (1 - part) * SIDE
    at = np.clip(first + length * (np.arange(SIDE) + 0.5) / SIDE - 0.5, 0, SIDE - 1)
    low = np.minimum(at.astype(int), SIDE - 2)
    matrix = np.zeros((SIDE, SIDE), dtype=np.float32)
    matrix[np.arange(SIDE), low] = 1 - (at - low)
    matrix[np.arange(SIDE), low + 1] += at - low
    return matrix
