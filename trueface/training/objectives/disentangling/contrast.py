"""The contrast of features: nearer to their own kind than to the other, by a margin."""

import torch
from torch import Tensor
from torch.nn import functional

from trueface.training.objectives.disentangling.pairs import Pairs

MARGIN = 3.0  # published, in units of the features' distance


def contrast(shared: Tensor, specific: Tensor, types: Tensor, pairs: Pairs) -> Tensor:
    """Return the sum of four triplet losses: of reals and of fakes, of shared and specific features.

    An anchor's positive is, of shared features, any image of its class; of specific ones, any of its
    own type of forgery. Its negative is the same of the other class.

    Source: L. Lin et al., CVPR 2024, arXiv 2402.17229, after their program. Permutations come from
    torch's own generator.

    Args:
        shared: (B, F).
        specific: (B, F).
        types: (B,) int64 of forgeries, 0 real.
        pairs: at least one.
    """
    real, fake = pairs
    count = len(real)
    chosen = torch.cat([real, fake])
    of_class = torch.arange(2 * count, device=types.device) // max(count, 1)
    losses = [
        _both(features[chosen].float(), permuted_within(kinds), count)
        for features, kinds in ((shared, of_class), (specific, types[chosen]))
    ]
    return torch.stack(losses).sum()


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Return the mean of max(0, |a - p| - |a - n| + 3) over rows (n, F)."""
    near = functional.pairwise_distance(anchor, positive)
    far = functional.pairwise_distance(anchor, negative)
    return (near - far + MARGIN).clamp(min=0).mean()


def permuted_within(kinds: Tensor) -> Tensor:
    """Return a permutation (n,) of positions that leaves the kind (n,) of each place as it is."""
    shuffled = torch.randperm(len(kinds)).to(kinds.device)
    order = kinds.argsort(stable=True)
    permutation = torch.empty_like(order)
    permutation[order] = shuffled[kinds[shuffled].argsort(stable=True)]
    return permutation


def _both(features: Tensor, permutation: Tensor, count: int) -> Tensor:
    """Return the losses of the first `count` rows, the reals, and of the others, added."""
    others = features[permutation]
    return triplet(features[:count], others[:count], others[count:]) + triplet(
        features[count:], others[count:], others[:count]
    )
