"""Real images of class folders: those that an attacker may use, and those on which a classifier is checked."""

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from trueface.data.made.folders import image_names, read_images
from trueface.diffusion.diffuser import Diffuser
from trueface.erasing.measures.rates import Rate, rate
from trueface.erasing.measures.recognition import Recogniser
from trueface.runtime.errors import DataError
from trueface.runtime.rng import derive

PIXELS = frozenset({1, 3})  # channels of images; a latent space has others
HELD_OUT = 64  # images of each class on which the classifier is checked


def concept_images(
    root: Path, concept: str, count: int, diffuser: Diffuser, seed: int
) -> tuple[Tensor, tuple[str, ...]]:
    """Return training images of a class in an order that the seed decides, and their names.

    Args:
        root: class folders, below train/ where there is such a folder.
        concept: the class.
        count: how many.
        diffuser: whose size and channels they must have.
        seed: of the order.

    Raises:
        DataError: there are too few, or one of another size.
    """
    folder = class_folder(root, concept)
    names = list(image_names(folder))
    if len(names) < count:
        raise DataError(
            f"{folder} has {len(names)} images, and the attack wants {count}: give more images, or a "
            "smaller recover_images"
        )
    random.Random(derive(f"recovery/images/{concept}", seed)).shuffle(names)
    chosen = tuple(names[:count])
    return real_images(folder, chosen, diffuser), chosen


def held_out_accuracy(
    root: Path, classes: Sequence[str], diffuser: Diffuser, recogniser: Recogniser
) -> Rate | None:
    """Return the classifier's accuracy on real test images, at the diffuser's size; None without test/.

    At most 64 images a class, evenly spread over the sorted names.

    Raises:
        DataError: an image cannot be read, or has another size.
    """
    if not (root / "test").is_dir():
        return None
    hits = []
    for name in classes:
        folder = root / "test" / name
        images = real_images(folder, image_names(folder, limit=HELD_OUT), diffuser)
        hits.append(recogniser.answers(images) == recogniser.number(name))
    return rate(torch.cat(hits))


def real_images(folder: Path, names: Sequence[str], diffuser: Diffuser) -> Tensor:
    """Return images as a diffuser draws them, N×C×H×W in [-1, 1].

    Raises:
        DataError: one cannot be read, or has another size; of a diffuser in a latent space: than the others.
    """
    if diffuser.channels in PIXELS:
        return read_images(folder, names, size=diffuser.size, channels=diffuser.channels)
    return read_images(folder, names)  # its own encoder says which size it wants


def class_folder(root: Path, name: str) -> Path:
    """Return where the training images of a class lie: below train/ where there is such a folder."""
    return (root / "train" if (root / "train").is_dir() else root) / name
