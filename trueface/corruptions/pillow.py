"""Between tensors (3, H, W) uint8 and Pillow's images, and what Pillow does best: coders, resizing."""

import io

import numpy as np
import PIL.Image
import torch
from PIL.Image import Image, Resampling
from torch import Tensor

from trueface.runtime.image_files import open_image


def to_image(pixels: Tensor) -> Image:
    """Return a tensor (3, H, W) uint8 as an RGB image."""
    return PIL.Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def to_pixels(image: Image) -> Tensor:
    """Return an RGB image as a tensor (3, H, W) uint8 of its own."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def encode_lossy(image: Image, form: str, quality: int) -> bytes:
    """Return the file of an image in a lossy format, `JPEG` or `WEBP`, as Pillow writes it."""
    file = io.BytesIO()
    image.save(file, form, quality=quality)
    return file.getvalue()


def reencode_lossy(image: Image, form: str, quality: int) -> Image:
    """Return an image after it was saved in a lossy format and read again."""
    with open_image(io.BytesIO(encode_lossy(image, form, quality))) as file:
        return file.convert("RGB")


def rescale_and_restore(
    image: Image, factor: float, filter_: Resampling = Resampling.BICUBIC
) -> Image:
    """Return an image resized by a factor and back to its own size, antialiased."""
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, filter_).resize(image.size, filter_)
