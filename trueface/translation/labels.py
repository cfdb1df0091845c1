"""Labels of images: read from a table by name, and flipped one attribute at a time."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from trueface.data.attribute_table import find_table, read_attribute_table
from trueface.data.folders import few, stem
from trueface.data.made_folders import image_names
from trueface.data.settings import PARTS
from trueface.runtime.errors import DataError

HAIR = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")  # of CelebA: a face has one


def labels_of(
    root: Path, names: Sequence[str], wanted: Sequence[str] | None = None
) -> tuple[tuple[str, ...], Tensor]:
    """Return the attributes' names, and a row of 0 or 1 for each image, N×K float32.

    Args:
        root: folder of the images, with attributes.csv or list_attr_celeba.txt in it or beside it.
        names: of the images, relative to it.
        wanted: attributes, in their order; None: all of the table.

    Raises:
        DataError: there is no table, it is broken, or an image has no row in it.
        UnknownName: the table has no such attribute.
    """
    table = read_attribute_table(find_table(root))
    held = table.names if wanted is None else tuple(wanted)
    return held, torch.tensor(table.of(names, held), dtype=torch.float32).reshape(-1, len(held))


def flipped(labels: Tensor, names: Sequence[str]) -> Tensor:
    """Return, for each attribute, the labels with it flipped: K×N×K.

    CelebA's hair colours exclude one another, as in StarGAN's `create_labels`: to flip one of them is
    to have it and no other one, so that nothing changes where it was there already.

    Args:
        labels: N×K, 0 or 1.
        names: of the K attributes.
    """
    hair = [at for at, name in enumerate(names) if name in HAIR]
    rows = []
    for at in range(len(names)):
        changed = labels.clone()
        if at in hair and len(hair) > 1:
            changed[:, hair] = 0
            changed[:, at] = 1
        else:
            changed[:, at] = 1 - changed[:, at]
        rows.append(changed)
    return torch.stack(rows)


def refuse_shared(data_root: Path) -> None:
    """Refuse a data root of which an image is in two of the parts A, B and C.

    Raises:
        DataError: names the first ones.
    """
    seen: dict[str, str] = {}
    twice: list[str] = []
    for part in PARTS:
        for name in image_names(data_root / part) if (data_root / part).is_dir() else ():
            if stem(name) in seen:
                twice.append(f"{name} in {seen[stem(name)]} and {part}")
            seen[stem(name)] = part
    if twice:
        raise DataError(
            f"{data_root}: images in two parts: {few(twice)}; a generator would "
            "be judged on what it has learned, take them out of one"
        )
