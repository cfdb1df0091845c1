"""Images that show the same: the same pixels in two files, or nearly the same picture.

The first is exact: a SHA-256 of size and decoded RGB pixels. It costs the decoding of every image:
on one core about 2 ms for a JPEG of 256 pixels, 10 ms for one of 1024, 50 ms for a PNG of 1024. The
second compares fingerprints of 256 brightness steps, pair by pair: next to nothing beside the
decoding, but it is a hint and no proof.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from trueface.decoding import decode
from trueface.errors import BadImageError
from trueface.grouping import joined
from trueface.index import Image

SIDE = 16  # of a fingerprint: as many rows of as many steps from one pixel to the next
NEAR = 12  # steps of 256 that two pictures of the same may differ in
BLOCK = 1 << 22  # pairs compared at a time: 32 MiB
BATCH = 1024  # images handed to the threads at a time

Fingerprint = NDArray[np.uint64]  # (4,)


class Look(NamedTuple):
    """What an image looks like; a NamedTuple, as there are as many as images."""

    pixels: bytes  # SHA-256
    fingerprint: Fingerprint


def looks(
    files: Sequence[str],
    *,
    threads: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Iterator[Look | str]:
    """Yield what each image looks like, or why it cannot be decoded, in the order of `files`.

    Args:
        files: paths of images.
        threads: that decode at the same time; None: one for each core that we may use.
        progress: called with the number of images that were read since the last call.
    """
    with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0))) as pool:
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            yield from pool.map(look, batch)
            if progress is not None:
                progress(len(batch))


def look(file: str) -> Look | str:
    """Decode one image as a network gets it; return what it looks like, or why it has no pixels."""
    try:
        pixels = decode(Path(file)).permute(1, 2, 0).contiguous().numpy()  # (H, W, 3)
    except BadImageError as error:
        return error.reason
    height, width, _ = pixels.shape
    digest = hashlib.sha256(f"{width}x{height}\n".encode())
    digest.update(pixels.data)
    grey = PIL.Image.fromarray(pixels).convert("L")
    small = np.asarray(grey.resize((SIDE + 1, SIDE), PIL.Image.Resampling.BOX))
    steps = np.packbits(small[:, 1:] > small[:, :-1])
    return Look(digest.digest(), steps.view(np.uint64))


def bound(
    images: Sequence[Image], progress: Callable[[int], object] | None = None
) -> dict[str, str]:
    """Return a group for each key whose pixels another key has, too; see `grouping`.

    What cannot be decoded has none.
    """
    read = zip(images, looks([image.file for image in images], progress=progress), strict=True)
    found = {image.name: one for image, one in read if isinstance(one, Look)}
    keys = {image.name: image.key for image in images}
    # by modifier: a key has one group only, but its copies may be like those of others
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for names in same(found):
        for name in names:
            groups[name.partition(":")[0]][keys[name]] = f"pixels of {keys[names[0]]}"
    return joined(*groups.values())


def same(looked: Mapping[str, Look]) -> list[list[str]]:
    """Return the names of images with the very same pixels, together; only where there are several."""
    found: dict[bytes, list[str]] = defaultdict(list)
    for name, one in looked.items():
        found[one.pixels].append(name)
    return [names for names in found.values() if len(names) > 1]


def near(
    some: Mapping[str, Look], others: Mapping[str, Look], *, within: int = NEAR
) -> Iterator[tuple[str, str, int]]:
    """Yield (name, other name, steps that differ) of pictures that are nearly the same, not quite.

    Every pair is looked at: 20,000 with 180,000 in about half a minute.
    """
    names, other_names = list(some), list(others)
    if not (names and other_names):
        return
    right = np.stack([one.fingerprint for one in others.values()]).T.copy()  # (4, M)
    rows = max(1, BLOCK // len(other_names))
    for start in range(0, len(names), rows):
        chosen = names[start : start + rows]
        left = np.stack([some[name].fingerprint for name in chosen])  # (N, 4)
        # most pairs differ too much in a quarter of the steps already
        quarter = np.bitwise_count(left[:, :1] ^ right[0])
        at, other_at = np.nonzero(quarter <= within)
        steps = np.bitwise_count(left[at] ^ right.T[other_at]).sum(axis=1)
        for place, other, count in zip(at, other_at, steps, strict=True):
            name, other_name = chosen[place], other_names[other]
            if count <= within and some[name].pixels != others[other_name].pixels:
                yield name, other_name, int(count)
