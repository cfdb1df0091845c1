"""The Fréchet distance of two sets of features, each taken for a Gaussian.

D. Dowson, B. Landau, J. Multivariate Analysis 12, 1982: |m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½). On the features of
Inception v3 it is called FID (arXiv 1706.08500); on others it must be named by its network.
"""

import torch
from torch import Tensor

LEAST = 2  # samples, of which a covariance can be estimated


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Return the Fréchet distance of two sets of features, 0 or more.

    The trace of the root is that of (S1^½ S2 S1^½)^½, which is symmetric: two calls of eigh in double
    precision, where the usual program takes the root of a matrix that is not symmetric.

    Args:
        first: N×F, N at least 2. With N below F the covariance is singular, and the distance biased upwards.
        second: M×F, likewise.

    Raises:
        ValueError: too few samples, or features of different widths.
    """
    if min(len(first), len(second)) < LEAST:
        raise ValueError(f"{len(first)} and {len(second)} images: a covariance needs two of each")
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"features of {first.shape[1]} and of {second.shape[1]} numbers")
    mean_a, covariance_a = _moments(first)
    mean_b, covariance_b = _moments(second)
    root = _root(covariance_a)
    both = torch.linalg.eigvalsh(root @ covariance_b @ root).clamp_min(0).sqrt().sum()
    apart = (mean_a - mean_b).square().sum()
    distance = apart + covariance_a.trace() + covariance_b.trace() - 2 * both
    return max(0.0, float(distance))


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    values = features.double()
    mean = values.mean(0)
    centred = values - mean
    return mean, centred.T @ centred / (len(values) - 1)


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root
