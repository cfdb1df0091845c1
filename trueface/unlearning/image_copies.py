"""The images of samples: all copies of an image are drawn or held out together."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from trueface.runtime.digests import sha256_digest
from trueface.runtime.rng import seeded_python_rng

Groups = NDArray[np.int64]  # (N,) number of each sample's image, in the order of first appearance


def image_name(identity: str) -> str:
    """Return the name of the image of a sample's ID, the same for its copies in several networks.

    IDs are "<modifier>:<source>/<name>" for a detector's images, and no modifier has a slash; other IDs
    are names of images.
    """
    modifier, colon, image = identity.partition(":")
    return image if colon and "/" not in modifier else identity


def group_copies(ids: Sequence[str], features: NDArray[Any] | None = None) -> Groups:
    """Return the image of each sample. Samples with equal image names, or with equal features, share it.

    Args:
        ids: (N,) ID of each sample.
        features: (N, F) of the samples. None compares the names only.
    """
    names = _number([image_name(identity) for identity in ids])
    if features is None or not len(names):
        return names
    rows = _number([sha256_digest([row.tobytes()]) for row in features])
    count = int(names.max()) + 1
    size = count + int(rows.max()) + 1
    links = coo_array((np.ones(len(rows), np.int8), (names, count + rows)), shape=(size, size))
    _, image = connected_components(links, directed=False)
    return _number(image[names].tolist())


def draw_images(rows: Sequence[int], ids: Sequence[str], fraction: float, seed: int) -> list[int]:
    """Return the rows of a random fraction of the images, with all their copies among these rows.

    Args:
        rows: rows to draw from.
        ids: ID of each row, also of the others.
        fraction: fraction of the images.
        seed: of the draw.
    """
    groups = group_copies([ids[row] for row in rows])
    images = range(len(first_rows(groups)))
    chosen = seeded_python_rng(seed).sample(images, round(len(images) * fraction))
    return sorted(np.array(rows, np.int64)[np.isin(groups, chosen)].tolist())


def first_rows(groups: Groups) -> NDArray[np.int64]:
    """Return the first row of each image."""
    return np.unique(groups, return_index=True)[1]


def _number(values: Sequence[object]) -> Groups:
    """Return a number for each value, equal for equal values, in the order of first appearance."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], np.int64)
