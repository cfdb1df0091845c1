"""What is left of a generator's outputs: of perturbed or purified images, against those of the originals."""

from collections.abc import Mapping

import torch
from torch import Tensor

from trueface.evaluation.image_measures import l1, linf, mse


def effect(of_originals: Tensor, of_others: Tensor) -> Mapping[str, Tensor]:
    """Return mse, l1 and linf of each image's outputs, (N,) each: the mean over sets of labels.

    Args:
        of_originals: S×N×C×H×W, what the generator makes of the originals under each set of labels.
        of_others: likewise of the images that stand in their place.
    """
    pairs = list(zip(of_originals, of_others, strict=True))
    return {
        measure.__name__: torch.stack([measure(*pair) for pair in pairs]).mean(0)
        for measure in (mse, l1, linf)
    }
