"""What a training in closed form sees of each image: the image, a corrupted copy, its mirror image."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trueface.data.augmentations.copies import (
    CORRUPTED,
    CorruptedCopy,
    MirroredCopy,
    matched_chains,
)
from trueface.data.loaders import Pass
from trueface.data.settings import AugmentationSettings
from trueface.data.transforms import test_transform
from trueface.features.matrix import FeatureMatrix
from trueface.training.ridge.rows import Rows


def views_of(images: Pass, settings: AugmentationSettings, copies: Sequence[str]) -> list[Pass]:
    """Return the images as they are tested, then each copy of all of them.

    Args:
        images: with the labels that are learned; their own transform does not count.
        settings: of the crop, and the seed of what is drawn.
        copies: "corrupted", "mirrored", each at most once.
    """
    tested = test_transform(settings)
    transforms = [
        CorruptedCopy(
            tested=tested,
            chains=matched_chains(images.image_set.images, settings.augment_seed),
        )
        if copy == CORRUPTED
        else MirroredCopy(tested=tested)
        for copy in copies
    ]
    return [
        replace(images, image_set=images.image_set.seen_as(transform), shuffle_seed=None)
        for transform in (tested, *transforms)
    ]


def rows_of(images: Pass, matrices: Sequence[FeatureMatrix]) -> Rows:
    """Return the features of all views of images as rows, with the images' labels.

    Args:
        images: of a set; a row is of the image at its position.
        matrices: of each view.
    """
    positions = np.concatenate([matrix.positions for matrix in matrices])
    labels = np.asarray(images.image_set.labels, dtype=np.int8)[positions]
    return Rows.of([matrix.features for matrix in matrices], labels, positions)
