"""Groups and cells (group × class) of images: counts, merging of small ones, and CVaR.

Groups have the numbers 0 … G-1 of the column `demographic`. A cell is a group's images of one
class; its number is label · G + group, so that the real images come first.

Losses are weighted by the conditional value at risk (CVaR): over images, over groups, and over
both. CVaR_alpha of losses is the mean of their worst share alpha: 1 is the mean, and 0 would be the
maximum. It is written as a weighted sum whose weights are constants of the gradient and sum to 1
for every number n of losses. Each of the floor(alpha n) worst has the weight 1/(alpha n), the next
one the rest of 1, the others 0. (R. T. Rockafellar and S. Uryasev, Journal of Banking & Finance 26
(2002), state it as a minimum over a threshold λ. With λ at the k-th worst loss, the gradient of
max(0, loss - λ) drops that loss. A group of one image would have no gradient.)

A group without an image in the batch is ignored. CVaR does not synchronise with the GPU if `count`,
the number of groups, is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trueface.data.batch import Batch
from trueface.data.image_set import ImageSet
from trueface.runtime.errors import JobError
from trueface.training.config import DEMOGRAPHIC
from trueface.training.objectives.protocol import TrainingFacts

CLASSES = 2  # real and fake
INTERVALS = 64  # that the search for a threshold divides its interval into, each time
ROUNDS = 8  # 64**-8 of the interval is below the rounding of float64
REACH = 50.0  # in units of the smoothing: the logistic function of it is 0 or 1 to 2e-22


@dataclass(frozen=True, kw_only=True)
class Subgroups:
    """The groups of a training, and the cells that they have with both classes."""

    counts: Tensor  # (2 G,) int64, training images of each cell
    names: tuple[str, ...]  # of the groups

    @property
    def groups(self) -> int:
        """How many groups there are, G."""
        return len(self.counts) // CLASSES

    @property
    def filled(self) -> Tensor:
        """Which cells have any training image, (2 G,) bool."""
        return self.counts > 0

    def subgroup_ids_of_batch(self, batch: Batch) -> Tensor:
        """Return the number of each image's cell, (B,) int64."""
        return subgroup_ids(batch.labels, batch.column(DEMOGRAPHIC), self.groups)

    @classmethod
    def from_training_facts(
        cls, facts: TrainingFacts, name: str, *, compares: bool = False
    ) -> "Subgroups":
        """Return the cells of a training's images.

        Args:
            facts: of all training images.
            name: of the way of training, for messages.
            compares: it needs two groups at least.

        Raises:
            JobError: the images come without groups, or are all of one.
        """
        if DEMOGRAPHIC not in facts.columns:
            raise JobError(
                f"fair: {name} needs the group of every image, and these images have no groups. "
                "Name their CSV files in attributes."
            )
        groups = facts.columns[DEMOGRAPHIC]
        names = tuple(facts.names.get(DEMOGRAPHIC, ()))
        number = max(len(names), int(groups.max()) + 1 if len(groups) else 0)
        names += tuple(f"group {place}" for place in range(len(names), number))
        cells = subgroup_ids(facts.labels, groups, number)
        made = cls(counts=torch.bincount(cells, minlength=CLASSES * number), names=names)
        present = made.counts.view(CLASSES, number).sum(0).nonzero().flatten().tolist()
        if compares and len(present) < CLASSES:
            only = names[present[0]] if present else "none"
            raise JobError(
                f"fair: {name} compares groups, but all {len(groups)} training images are in one "
                f"group, {only}. Choose another column with groups_by, or leave fair out."
            )
        return made


def subgroup_ids(labels: Tensor, groups: Tensor, number: int) -> Tensor:
    """Return label · G + group of each image, (N,) int64.

    Args:
        labels: (N,) or (N, 1), 1 fake.
        groups: (N,) int64.
        number: of groups, G.
    """
    return (labels.reshape(-1) > 0.5).long() * number + groups


def image_subgroup_ids(image_set: ImageSet, name: str) -> tuple[int, ...]:
    """Return the number of each image's cell, to draw images by.

    Args:
        image_set: for training, with the column `demographic`.
        name: of the way of training, for messages.

    Raises:
        JobError: the images come without groups.
    """
    groups = Subgroups.from_training_facts(TrainingFacts.from_image_set(image_set), name).groups
    labels = torch.tensor(image_set.labels)  # an order lasts for all epochs
    return tuple(subgroup_ids(labels, image_set.columns[DEMOGRAPHIC], groups).tolist())


def merge_small_groups(
    groups: Tensor, least: int, *, count: int, blocks: int = 1
) -> tuple[Tensor, int]:
    """Return the groups of a batch after merging small ones, and their maximum number.

    Small groups are merged into one. If that is too small itself, they are merged into the largest.
    Only cells of the same class are merged.

    Args:
        groups: (B,) int64 in 0 … count-1.
        least: number of images from which a group is kept.
        count: number of groups, or of cells.
        blocks: number of equally large blocks of numbers that are not merged: the two classes of
            cells.

    Returns:
        (B,) int64, and the number of group numbers, including those of merged groups.
    """
    if least <= 1:
        return groups, count
    each = count // blocks
    sizes = functional.one_hot(groups, count).sum(0).view(blocks, each)
    small = sizes < least
    joined = (sizes * small).sum(1)  # (blocks,)
    block = torch.arange(blocks, device=groups.device)
    home = torch.where(joined >= least, count + block, block * each + sizes.argmax(1))
    return torch.where(small.flatten()[groups], home[groups // each], groups), count + blocks


def worst_subgroup_accuracy(
    correct: Sequence[bool] | Tensor, cells: Sequence[int] | Tensor
) -> float:
    """Return the lowest accuracy of any cell that has an image, in 0 … 1.

    Args:
        correct: (N,) which images were classified correctly.
        cells: (N,) the number of each image's cell.
    """
    right, numbers = torch.as_tensor(correct).double(), torch.as_tensor(cells)
    totals = torch.bincount(numbers)
    rates = torch.bincount(numbers, weights=right) / totals
    return float(rates[totals > 0].min())


def balanced_weights(counts: Tensor) -> Tensor:
    """Return what an image of each cell counts, so that all filled cells count the same.

    N/(C n_c) for n_c of N images in C filled cells: over all images the weights sum to N. A cell
    without images has weight 0.

    Args:
        counts: (cells,) images of each cell.
    """
    filled = counts > 0
    each = counts.sum().double() / (filled.sum() * counts.clamp(min=1))
    return (each * filled).float()


def cvar_weights(losses: Tensor, alpha: float, present: Tensor | None = None) -> Tensor:
    """Return the weight of each loss in CVaR_alpha: (N,), ≥ 0, sum 1, without a gradient.

    Equal losses count in their order.

    Args:
        losses: (N,), N at least 1.
        alpha: share of the losses, in (0, 1].
        present: (N,) bool. Other losses get weight 0. None means all.

    Raises:
        ValueError: alpha is not in (0, 1].
    """
    _refuse_no_share(alpha)
    with torch.no_grad():
        number: int | Tensor = len(losses)
        if present is not None:  # those that are absent come last, behind all that count
            number, losses = present.sum(), losses.masked_fill(~present, -torch.inf)
        weights = torch.empty_like(losses)
        ranks = torch.arange(len(losses), dtype=losses.dtype, device=losses.device)
        order = losses.argsort(descending=True, stable=True)
        weights[order] = (alpha * number - ranks).clamp(0.0, 1.0) / (alpha * number)
        return weights


def group_cvar_weights(losses: Tensor, groups: Tensor, alpha: float, *, count: int) -> Tensor:
    """Return the weight of each loss in CVaR_alpha of its group: (N,), sum 1 in every group.

    Args:
        losses: (N,).
        groups: (N,) int64 in 0 … count-1.
        alpha: share of a group's losses, in (0, 1].
        count: of groups.

    Raises:
        ValueError: alpha is not in (0, 1].
    """
    _refuse_no_share(alpha)
    with torch.no_grad():
        sizes = functional.one_hot(groups, count).sum(0)  # (G,)
        # the worst first, then by group: both sorts keep the order of equals
        order = losses.detach().argsort(descending=True, stable=True)
        order = order[groups[order].argsort(stable=True)]
        first = sizes.cumsum(0) - sizes  # (G,) where a group begins in that order
        ranks = torch.empty_like(groups)
        ranks[order] = torch.arange(len(groups), device=groups.device) - first[groups[order]]
        tail = alpha * sizes[groups].to(losses.dtype)  # (N,) alpha n, of each loss's group
        return (tail - ranks).clamp(0.0, 1.0) / tail


def cvar(losses: Tensor, alpha: float) -> Tensor:
    """Return CVaR_alpha of losses (N,): a scalar with its gradient.

    Raises:
        ValueError: alpha is not in (0, 1].
    """
    return (cvar_weights(losses, alpha) * losses).sum()


def group_cvar(
    losses: Tensor, groups: Tensor, alpha: float, *, count: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return CVaR_alpha of each group's losses, and whether the group has any.

    Args:
        losses: (N,).
        groups: (N,) int64.
        alpha: share of a group's losses.
        count: number of groups. None derives it from the highest number.

    Returns:
        (G,) with its gradient, 0 where there is no loss; (G,) bool.
    """
    members = _members(groups, count)  # (N, G)
    weights = group_cvar_weights(losses, groups, alpha, count=members.shape[1])
    return group_sums(weights * losses, members), members.any(0)


def group_sums(values: Tensor, members: Tensor) -> Tensor:
    """Return the sum over each group, (G,).

    Sums by index would be in no fixed order on a GPU, and a product of matrices would be of
    autocast's precision.

    Args:
        values: (N,).
        members: (N, G) bool or 0 and 1.
    """
    return (values[:, None] * members).sum(0)


def bilevel_cvar(
    losses: Tensor,
    groups: Tensor,
    *,
    alpha_in: float = 0.9,
    alpha_out: float = 0.5,
    smooth: float = 0.0,
    ridge: float = 0.0,
    count: int | None = None,
) -> Tensor:
    """Return CVaR over groups of CVaR over their losses, smoothed on the level of groups.

    With L_j the CVaR_alpha_in of group j and alpha = alpha_out it is the minimum over λ of

        λ + τ2/(2 alpha) λ² + 1/(alpha m) Σ_j τ1 log(1 + exp((L_j - λ)/τ1))

    over the m groups of the batch: the fusion loss of L. Lin et al., CVPR 2024 (arXiv 2402.17229).
    Its authors' code searches λ between the smallest loss - 1000 and the largest, and overflows if
    L_j - λ > 88 τ1. Here the minimum is at the sign change of the derivative, up to float64
    rounding. Their flags for both shares had no effect: 0.9 and 0.5 were fixed.

    Args:
        losses: (N,), N at least 1.
        groups: (N,) int64.
        alpha_in: share of each group's losses, in (0, 1].
        alpha_out: share of the groups, in (0, 1].
        smooth: τ1, in units of the loss. 0 disables smoothing, and `ridge` has no effect then.
        ridge: τ2. With 0 the weights of the groups sum to 1, otherwise to 1 + τ2 λ/alpha.
        count: number of groups. None derives it from the highest number.

    Returns:
        A scalar with its gradient. At τ2 = 0 it is at most τ1 ln 2/alpha above the unsmoothed
        value.

    Raises:
        ValueError: a share is not in (0, 1].
    """
    values, present = group_cvar(losses, groups, alpha_in, count=count)
    if smooth <= 0:
        return (cvar_weights(values, alpha_out, present) * values).sum()
    _refuse_no_share(alpha_out)
    exact = values.double()  # losses of 1e3 in steps of τ1 are beyond float32
    share = alpha_out * present.sum()
    threshold = _threshold(exact.detach(), present, share, alpha_out, smooth, ridge)
    excess = (exact - threshold) / smooth
    above = smooth * torch.logaddexp(excess, torch.zeros_like(excess)) * present
    value = threshold + ridge / (2 * alpha_out) * threshold**2 + above.sum() / share
    return value.to(losses.dtype)


def _refuse_no_share(alpha: float) -> None:
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha must be greater than 0 and at most 1, got {alpha}")


def _members(groups: Tensor, count: int | None) -> Tensor:
    """Return (N, G) bool: which group each loss is of."""
    return functional.one_hot(groups, -1 if count is None else count).bool()


@torch.no_grad()
def _threshold(
    values: Tensor, present: Tensor, share: Tensor, alpha: float, smooth: float, ridge: float
) -> Tensor:
    """Return λ of the smoothed minimum: where its derivative, which never falls, reaches 0."""
    margin = REACH * smooth
    low = values.masked_fill(~present, torch.inf).min() - margin
    high = values.masked_fill(~present, -torch.inf).max() + margin
    if ridge > 0:  # below and above these the quadratic term alone decides the sign
        low, high = low.clamp(max=(1 - alpha) / ridge), high.clamp(min=0.0)
    steps = torch.linspace(0, 1, INTERVALS + 1, dtype=values.dtype, device=values.device)
    for _ in range(ROUNDS):
        grid = low + (high - low) * steps  # (INTERVALS + 1,)
        counted = torch.sigmoid((values - grid[:, None]) / smooth) * present
        slope = 1 + ridge / alpha * grid - counted.sum(1) / share
        cell = (slope[:-1] < 0).sum().clamp(1, INTERVALS) - 1  # the last that begins below 0
        low, high = grid.take(cell), grid.take(cell + 1)
    return (low + high) / 2
