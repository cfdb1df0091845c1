"""What happens to an image between its file and the network.

    training    resize crop* → centre crop → (unshared only: blur* → JPEG*) → flips* → patch*
    testing     centre crop, or a few fixed patches of it

Steps with * are random. Their randomness is a function of seed, image and epoch, and of nothing
else: neither the order of loading nor the number of loading processes changes a pixel. Images
stay uint8; the network turns whole batches into normalised float32, as its weights want it.
"""

import io
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as image_ops

from trueface.index import Image
from trueface.settings import LearningSettings, TestSettings

BLUR_KERNEL = 15  # pixels; the original's, whatever the sigma

# (image (3, H, W) uint8, what it is, epoch) -> (3, h, w) or (crops, 3, h, w), uint8
Transform = Callable[[Tensor, Image, int], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainTransform:
    """The random transform of a training."""

    settings: LearningSettings
    seed: int

    def __call__(self, pixels: Tensor, image: Image, epoch: int) -> Tensor:
        """Return the image as the network sees it in this epoch, (3, h, w) uint8."""
        choose = random.Random(f"augment/{self.seed}/{epoch}/{image.name}")
        return augment(pixels, self.settings, choose, unshared=image.modifier == "pre")


@dataclass(frozen=True, slots=True, kw_only=True)
class TestTransform:
    """The transform of a test and of validation: nothing in it is random."""

    __test__ = False  # not a test case, whatever its name

    resize_size: int
    patch_size: int
    crops: int  # 0: the whole centre crop

    def __call__(self, pixels: Tensor, image: Image, epoch: int) -> Tensor:  # noqa: ARG002  # see Transform
        """Return the centre crop (3, h, w), or `crops` patches of it (crops, 3, h, w), uint8."""
        centre: Tensor = image_ops.center_crop(pixels, [self.resize_size, self.resize_size])
        if self.crops == 0:
            return centre
        return fixed_crops(centre, self.crops, self.patch_size)


def test_transform(settings: LearningSettings | TestSettings) -> TestTransform:
    """Return the transform that tests and validates under `settings`."""
    return TestTransform(
        resize_size=settings.resize_size,
        patch_size=settings.patch_size if settings.patch_size > 0 else settings.resize_size,
        crops=settings.test_crops,
    )


def augment(
    pixels: Tensor, settings: LearningSettings, choose: random.Random, *, unshared: bool
) -> Tensor:
    """Return a randomly changed copy of an image, in the original's order of steps.

    Args:
        pixels: (3, H, W) uint8.
        settings: probabilities and ranges.
        choose: where every random choice comes from.
        unshared: whether blur and JPEG may be applied; shared images have had theirs.
    """
    size = settings.resize_size
    if choose.random() < settings.resize_prob:
        pixels = _resized_crop(pixels, settings, choose)
    pixels = image_ops.center_crop(pixels, [size, size])
    if unshared and choose.random() < settings.blur_prob:
        sigma = choose.uniform(*settings.blur_sigma)
        pixels = image_ops.gaussian_blur(pixels, [BLUR_KERNEL, BLUR_KERNEL], [sigma, sigma])
    if unshared and choose.random() < settings.jpeg_prob:
        pixels = compressed(pixels, choose.randint(*settings.jpeg_qual))
    if choose.random() < settings.flip_prob:
        pixels = image_ops.horizontal_flip(pixels)
    if choose.random() < settings.flip_prob:
        pixels = image_ops.vertical_flip(pixels)
    if settings.patch_size > 0:
        pixels = _random_patch(pixels, settings.patch_size, choose)
    return pixels


def fixed_crops(pixels: Tensor, count: int, side: int) -> Tensor:
    """Return patches at places that depend on nothing but the sizes: (count, 3, side, side).

    The places form the most nearly square grid of `count` cells that spans the image; one patch
    is the centre.
    """
    pixels = _padded(pixels, side)
    rows = max(number for number in range(1, int(count**0.5) + 1) if count % number == 0)
    tops = _places(pixels.shape[-2] - side, rows)
    lefts = _places(pixels.shape[-1] - side, count // rows)
    return torch.stack(
        [pixels[:, top : top + side, left : left + side] for top in tops for left in lefts]
    )


def compressed(pixels: Tensor, quality: int) -> Tensor:
    """Return (3, H, W) uint8 after JPEG of this quality, chroma at half resolution.

    By Pillow: torchvision's own coder (the original's) is deprecated since 0.29; both are libjpeg
    with the same tables.
    """
    file = io.BytesIO()
    PIL.Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    with PIL.Image.open(file) as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _resized_crop(pixels: Tensor, settings: LearningSettings, choose: random.Random) -> Tensor:
    crop = v2.RandomResizedCrop(
        settings.resize_size, scale=settings.resize_scale, ratio=settings.resize_ratio
    )
    with torch.random.fork_rng(devices=()):  # torchvision draws from torch's global generator
        torch.default_generator.manual_seed(choose.getrandbits(63))
        resized: Tensor = crop(pixels)
    return resized


def _random_patch(pixels: Tensor, side: int, choose: random.Random) -> Tensor:
    pixels = _padded(pixels, side)
    top = choose.randint(0, pixels.shape[-2] - side)
    left = choose.randint(0, pixels.shape[-1] - side)
    return pixels[:, top : top + side, left : left + side]


def _padded(pixels: Tensor, side: int) -> Tensor:
    """Return the image with black borders, if it is smaller than `side`."""
    down, right = (max(0, side - length) for length in pixels.shape[-2:])
    if down == right == 0:
        return pixels
    padded: Tensor = image_ops.pad(pixels, [right, down])  # on both sides, as torchvision's crop
    return padded


def _places(room: int, count: int) -> list[int]:
    if count == 1:
        return [room // 2]
    return [room * number // (count - 1) for number in range(count)]
