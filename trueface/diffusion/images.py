"""The images that a diffuser learns from: one tensor of grey levels, and their classes."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from trueface.data.made_folders import image_names, read_images, to_levels
from trueface.diffusion.settings import names_of_classes

CHUNK = 256  # images that are decoded at once


def load_images(root: Path, *, size: int, channels: int, cpus: int = 1) -> Tensor:
    """Return all images below a folder by name, N×C×H×W, uint8, of which memory holds no second copy.

    Args:
        root: the folder.
        size: the side that each of them must have, in pixels.
        channels: 3 or 1.
        cpus: threads that decode.

    Raises:
        DataError: there is no image, one of another size, or one that cannot be read.
    """
    names = image_names(root)
    whole = torch.empty((len(names), channels, size, size), dtype=torch.uint8)

    def fill(first: int) -> None:
        part = slice(first, first + CHUNK)
        whole[part] = to_levels(read_images(root, names[part], size=size, channels=channels))

    with ThreadPoolExecutor(max(cpus, 1)) as pool:
        for _ in pool.map(fill, range(0, len(names), CHUNK)):  # raises what a thread has raised
            pass
    return whole


def load_classes(
    root: Path, *, size: int, channels: int, cpus: int = 1
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Return images N×C×H×W uint8, their classes (N,) int64, and the classes' names.

    Args:
        root: holds a folder for each class.
        size: the side that each image must have, in pixels.
        channels: 3 or 1.
        cpus: threads that decode.

    Raises:
        DataError: fewer than two classes, one without images, or as of `load_images`.
    """
    names = names_of_classes(root)
    images = [load_images(root / name, size=size, channels=channels, cpus=cpus) for name in names]
    labels = [torch.full((len(part),), label) for label, part in enumerate(images)]
    return torch.cat(images), torch.cat(labels), names


def digest(images: Tensor, labels: Tensor | None, names: Sequence[str]) -> str:
    """Return the SHA-256 of images, their classes, and the classes' names."""
    sha256 = hashlib.sha256(repr((tuple(images.shape), tuple(names))).encode())
    sha256.update(images.contiguous().numpy().data)
    if labels is not None:
        sha256.update(labels.contiguous().numpy().data)
    return sha256.hexdigest()
