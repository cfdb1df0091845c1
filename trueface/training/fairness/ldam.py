"""Margins that depend on how many images a label has: label-distribution-aware margins (LDAM).

K. Cao et al., NeurIPS 2019 (arXiv 1906.07413), equations 12 and 13. The code of L. Lin et al., CVPR
2024 (arXiv 2402.17229), has the counts of one data set written into it; here they are counted.
"""

import torch
from torch import Tensor
from torch.nn import functional

LARGEST = 0.5  # margin, of the label with the fewest images: both codes' max_m
SCALE = 30.0  # of the logits: both codes' s


def ldam_margins(counts: Tensor, *, largest: float = LARGEST) -> Tensor:
    """Return the margin of each label: proportional to n^(-1/4), `largest` for the rarest.

    Args:
        counts: (K,) images of each label; a label without images has the margin 0.
        largest: margin of the label with the fewest images, in units of a logit.
    """
    filled = counts > 0
    raw = counts.clamp(min=1).double() ** -0.25 * filled
    return (raw * (largest / raw.max().clamp(min=torch.finfo(raw.dtype).tiny))).float()


def ldam_loss(logits: Tensor, labels: Tensor, margins: Tensor, *, scale: float = SCALE) -> Tensor:
    """Return the mean cross-entropy of logits from which each label's own margin was taken.

    Args:
        logits: (N, K).
        labels: (N,) int64.
        margins: (K,) of `ldam_margins`.
        scale: of the logits.
    """
    return margin_losses(logits, labels, margins[labels], scale=scale).mean()


def margin_losses(
    logits: Tensor, labels: Tensor, margins: Tensor, *, scale: float = SCALE
) -> Tensor:
    """Return the same of each image, (N,); `margins` (N,) are the images' own."""
    right = functional.one_hot(labels, logits.shape[1])
    moved = logits - right * margins[:, None]
    return functional.cross_entropy(scale * moved, labels, reduction="none")
