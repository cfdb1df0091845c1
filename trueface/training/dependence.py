"""Dependence between features (HSIC): three forms of it, and its baseline by permutation.

With Gram matrices K and L of B items and H = I - 11ᵀ/B:

    plain: (B-1)⁻² tr(K H L H), the biased estimator of A. Gretton et al., ALT 2005.
    normalised: HSIC(a, b) / √(HSIC(a, a) HSIC(b, b)) in 0 … 1, 1 for a = b.
    cca: tr(R_a R_b), R = K̃ (K̃ + ε B I)⁻¹, K̃ = H K H, ε = 1e-5, in 0 … B-1. K. Fukumizu et al., NIPS 2007.

The kernel is exp(-‖zᵢ-zⱼ‖² / (2 s²)). Its width s is the median distance of the batch, detached, by
default. The published QAD configurations name sigma = 6 without a kernel. `dim` is the scaling in
the public code of the HSIC bottleneck, s² = sigma² d for features of length d. With either, the
plain form changes no weight at the published alpha. The gradient of the term is 1e-9 of that of the
loss, or zero if K is the identity.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor

from trueface.training.quality_settings import DIM, MEDIAN

SIGMA = 6.0  # value of the published configurations, for `dim`
EPSILON = 1e-5  # constant of the CCA form, times B
TINY = 1e-12  # below it features are all alike, and depend on nothing
SHIFTS = 8  # permutations of the baseline, at most
Form = Callable[[Tensor, Tensor], Tensor]


def rbf_kernel_matrix(features: Tensor, width: str | float = MEDIAN) -> Tensor:
    """Return the Gram matrix (B, B) of features (B, d), in float64: centring it cancels most digits.

    Args:
        features: of B items.
        width: `median`, `dim`, or the width in the features' own unit.
    """
    wide = features if features.dtype == torch.float64 else features.float()
    lengths = wide.square().sum(1)
    squares = (lengths[:, None] + lengths[None, :] - 2 * wide @ wide.T).clamp_min(0)
    # the diagonal is 0, and rounding would leave a gradient on it
    squares = (squares - torch.diag(squares.diagonal())).double()
    return torch.exp(-squares / (2 * _width_squared(squares, width, wide.shape[1])))


def centre_matrix(matrix: Tensor) -> Tensor:
    """Return H K H of a symmetric matrix (B, B)."""
    rows = matrix.mean(0, keepdim=True)
    return matrix - rows - rows.T + matrix.mean()


def hsic_biased(first: Tensor, second: Tensor) -> Tensor:
    """Return (B-1)⁻² tr(K H L H) of two Gram matrices (B, B), at least 0."""
    return (centre_matrix(first) * second).sum().clamp_min(0) / (len(first) - 1) ** 2


def hsic_normalised(first: Tensor, second: Tensor) -> Tensor:
    """Return the plain form over the geometric mean of those of each with itself, in 0 … 1."""
    lengths = (hsic_biased(first, first) * hsic_biased(second, second)).clamp_min(TINY**2).sqrt()
    return hsic_biased(first, second) / lengths


def cca(first: Tensor, second: Tensor) -> Tensor:
    """Return tr(R_a R_b) of two Gram matrices (B, B), in 0 … B-1."""
    return (_solve_regularised(first) * _solve_regularised(second).T).sum()


FORMS: Mapping[str, Form] = MappingProxyType(
    {"normalised": hsic_normalised, "plain": hsic_biased, "cca": cca}
)


def sum_over_pairs(form: str, grams: Sequence[Tensor]) -> Tensor:
    """Return the sum of a form over all pairs of Gram matrices (B, B): what qualities share.

    Args:
        form: of `FORMS`.
        grams: one a quality, two at least.
    """
    if form == "cca":  # each matrix is inverted once
        resolved = [_solve_regularised(each) for each in grams]
        return _sum_form_over_pairs(lambda first, other: (first * other.T).sum(), resolved)
    return _sum_form_over_pairs(FORMS[form], grams)


def mean_shuffled_nhsic(grams: Sequence[Tensor]) -> Tensor:
    """Return the mean nHSIC of all pairs where the items of the second are others: its baseline.

    The diagonal of a Gram matrix is 1 for any features, so that the measure of independent features
    is far from 0: .57 to .99 at B = 32. Items are shifted against each other, by up to `SHIFTS`
    steps, so that nothing is drawn.
    """
    count = len(grams[0])
    shifts = min(SHIFTS, count - 1)
    steps = {1 + (count - 2) * at // max(shifts - 1, 1) for at in range(shifts)}
    values = [
        _sum_form_over_pairs(partial(_shifted_hsic, step=step), grams) for step in sorted(steps)
    ]
    return torch.stack(values).mean() / pairs(len(grams))


def pairs(count: int) -> int:
    """Return how many pairs so many qualities have."""
    return count * (count - 1) // 2


def _shifted_hsic(first: Tensor, second: Tensor, step: int) -> Tensor:
    return hsic_normalised(first, second.roll((step, step), (0, 1)))


def _sum_form_over_pairs(form: Form, matrices: Sequence[Tensor]) -> Tensor:
    values = [
        form(first, other) for at, first in enumerate(matrices) for other in matrices[at + 1 :]
    ]
    return torch.stack(values).sum()


def _solve_regularised(matrix: Tensor) -> Tensor:
    inner = centre_matrix(matrix)
    # symmetric: K̃ (K̃ + εB I)⁻¹ = (K̃ + εB I)⁻¹ K̃
    ridge = EPSILON * len(matrix) * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    solved: Tensor = torch.linalg.solve(inner + ridge, inner)
    return solved


def _width_squared(squares: Tensor, width: str | float, length: int) -> Tensor | float:
    if width == DIM:
        return SIGMA**2 * length
    if width != MEDIAN:
        return float(width) ** 2
    count = len(squares)
    apart = squares.detach()[~torch.eye(count, dtype=torch.bool, device=squares.device)]
    return apart.median().clamp_min(TINY) if count > 1 else 1.0
