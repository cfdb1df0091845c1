"""Images and labels in batches: decoded, transformed, counted.

Every image of a set is delivered once per pass or told to be bad; a pass that loses one for any
other reason is an error. Small sets are kept decoded in memory, so that later passes read no file.
"""

import logging
import random
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trueface.errors import BadImageError, DataError
from trueface.index import Image
from trueface.transforms import Transform

CACHE_BYTES = 1 << 30  # of decoded images; beyond it they are decoded again in every pass
OnBadImage = Literal["skip", "stop"]

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """What the network gets in one step; a NamedTuple, because torch can pin its memory."""

    images: Tensor  # (B, 3, H, W) or (B, crops, 3, H, W), uint8
    labels: Tensor  # (B, 1) float32, as trained: 1 fake
    indices: Tensor  # (B,) int64, positions in the set


class BadFile(NamedTuple):
    """An image that gave no pixels."""

    position: int
    path: Path
    reason: str


class ImageSet(Dataset[Tensor | BadFile]):
    """Images with the labels they are trained or tested on, and one transform.

    Args:
        images: in the defined order.
        labels: 1 fake, 0 real; the images' own where left out. Flipped ones come from
            `poison.flipped`, and only for the training split.
        transform: from decoded pixels to what the network sees.
        cache_bytes: how much memory decoded images may take.
    """

    def __init__(
        self,
        images: Sequence[Image],
        transform: Transform,
        *,
        labels: Sequence[int] | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if labels is not None and len(labels) != len(images):
            raise DataError(f"{len(labels)} labels for {len(images)} images")
        self.images = tuple(images)
        self.labels = tuple(image.label for image in images) if labels is None else tuple(labels)
        self.transform = transform
        self.epoch = 0
        self.bad: dict[int, BadFile] = {}
        self._decoded: dict[int, Tensor] = {}
        self._room_bytes = cache_bytes

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor | BadFile:
        """Return the transformed pixels of an image, or why there are none."""
        image = self.images[index]
        pixels = self._decoded.get(index)
        if pixels is None:
            try:
                pixels = decode(image.path)
            except BadImageError as error:
                return BadFile(index, error.path, error.reason)
            if pixels.nbytes <= self._room_bytes:
                self._room_bytes -= pixels.nbytes
                self._decoded[index] = pixels
        return self.transform(pixels, image, self.epoch)


def decode(path: Path) -> Tensor:
    """Return the pixels of an image file, (3, H, W) uint8 RGB.

    Raises:
        BadImageError: the file is missing, cut off, or no image.
    """
    try:
        with PIL.Image.open(path) as file:
            pixels = np.array(file.convert("RGB"))
    except (
        OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error,
        PIL.Image.DecompressionBombError,
    ) as error:  # fmt: skip  # what Pillow's decoders raise on broken files
        raise BadImageError(path, _reason(error)) from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def batches(
    image_set: ImageSet,
    *,
    batch_size: int,
    on_bad_image: OnBadImage = "skip",
    shuffle_seed: int | None = None,
    epoch: int = 0,
    num_threads: int = 0,
    indices: Sequence[int] | None = None,
) -> Iterator[Batch]:
    """Yield every image once, in batches.

    Args:
        image_set: what to read; its `bad` lists the images left out so far.
        batch_size: images a batch; the last may be smaller, and so may one with bad images.
        on_bad_image: leave a file that cannot be decoded out, or raise.
        shuffle_seed: None keeps the order of the set; else the order is a function of seed and
            epoch.
        epoch: which pass this is, for the order and for the transform.
        num_threads: loading processes; 0 loads in this one, and only that fills the cache.
        indices: positions to read instead of all, in this order unless shuffled.

    Raises:
        BadImageError: `stop`, and a file cannot be decoded.
        DataError: not one image could be read, or some got lost.
    """
    image_set.epoch = epoch
    order = list(range(len(image_set)) if indices is None else indices)
    if shuffle_seed is not None:
        random.Random(f"order/{shuffle_seed}/{epoch}").shuffle(order)
    groups = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
    loader = DataLoader(
        image_set,
        batch_sampler=groups,
        num_workers=num_threads,
        collate_fn=list,
        generator=torch.Generator(),  # else a pass would draw from torch's global generator
    )
    seen = left_out = 0
    for group, items in zip(groups, loader, strict=True):
        pairs = zip(group, items, strict=True)
        good = [(at, item) for at, item in pairs if isinstance(item, Tensor)]
        for item in items:
            if isinstance(item, BadFile):
                _note(image_set, item, on_bad_image)
        seen += len(good)
        left_out += len(group) - len(good)
        if good:
            pixels = torch.stack([item for _, item in good])
            yield _batch(image_set, [at for at, _ in good], pixels)
    if seen == 0 or seen + left_out != len(order):
        raise DataError(f"{seen} of {len(order)} images could be read, {left_out} are bad")


def _reason(error: Exception) -> str:
    missing = isinstance(error, OSError) and error.strerror
    return missing or str(error).partition(" <_io.")[0] or type(error).__name__


def _note(image_set: ImageSet, bad: BadFile, on_bad_image: OnBadImage) -> None:
    if on_bad_image == "stop":
        raise BadImageError(bad.path, bad.reason)
    if bad.position not in image_set.bad:
        image_set.bad[bad.position] = bad
        log.warning("image=%s state=left out reason=%s", bad.path, bad.reason)


def _batch(image_set: ImageSet, indices: Sequence[int], pixels: Tensor) -> Batch:
    labels = [[float(image_set.labels[index])] for index in indices]
    return Batch(
        images=pixels,
        labels=torch.tensor(labels, dtype=torch.float32),
        indices=torch.tensor(indices, dtype=torch.int64),
    )
