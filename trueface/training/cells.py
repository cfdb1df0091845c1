"""Groups and cells (group × class) of images: counts, merging of small ones, and CVaR.

The column `demographic` numbers the groups 0 … G-1. A cell consists of the images of one group and one
class. Its number is label · G + group, so that the cells of real images come first.

Losses are weighted by the conditional value at risk (CVaR): over images, over groups, and over
both. CVaR_alpha is the mean of the worst fraction alpha of the losses. For alpha = 1 it is the mean, and
for alpha towards 0 the maximum. Here it is a weighted sum. The weights are constants for the gradient and
sum to 1 for every number n of losses. Each of the floor(alpha n) largest losses has the weight
1/(alpha n). The next loss has the rest of 1, and the others have 0. (R. T. Rockafellar and S. Uryasev,
Journal of Banking & Finance 26 (2002), define it as a minimum over a threshold λ. With λ at the k-th
largest loss, the gradient of max(0, loss - λ) omits that loss. A group of one image would have no
gradient.)

A group without an image in the batch is ignored. CVaR does not synchronise with the GPU if `count`,
the number of groups, is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trueface.data.batch import Batch
from trueface.data.loading.image_set import ImageSet
from trueface.runtime.errors import JobError
from trueface.training.config import DEMOGRAPHIC
from trueface.training.objectives.protocol import TrainingFacts

CLASSES = 2  # real and fake
INTERVALS = 64  # parts into which each round of the threshold search divides its interval
ROUNDS = 8  # rounds of the search: 64**-8 of the interval is below the rounding of float64
REACH = 50.0  # in units of the smoothing; at this distance the logistic function is 0 or 1 to 2e-22


@dataclass(frozen=True, kw_only=True)
class Subgroups:
    """The groups of a training, and the cells of these groups and both classes."""

    counts: Tensor  # (2 G,) int64, number of training images in each cell
    names: tuple[str, ...]  # names of the groups

    @property
    def groups(self) -> int:
        """The number of groups, G."""
        return len(self.counts) // CLASSES

    @property
    def has_images(self) -> Tensor:
        """Whether each cell has a training image, (2 G,) bool."""
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
            facts: facts on all training images.
            name: name of the objective, for messages.
            compares: whether the objective needs at least two groups.

        Raises:
            JobError: the images have no groups, or there are too few groups.
        """
        if DEMOGRAPHIC not in facts.columns:
            raise JobError(
                f"fair: {name} needs the group of every image, and these images have no groups. "
                "Name their CSV files in attributes."
            )
        groups = facts.columns[DEMOGRAPHIC]
        names = tuple(facts.names.get(DEMOGRAPHIC, ()))
        number = max(len(names), int(groups.max()) + 1 if len(groups) else 0)
        names += tuple(f"group {index}" for index in range(len(names), number))
        cells = subgroup_ids(facts.labels, groups, number)
        subgroups = cls(counts=torch.bincount(cells, minlength=CLASSES * number), names=names)
        present = subgroups.counts.view(CLASSES, number).sum(0).nonzero().flatten().tolist()
        if compares and len(present) < CLASSES:
            only = names[present[0]] if present else "none"
            raise JobError(
                f"fair: {name} compares groups, but all {len(groups)} training images are in one "
                f"group, {only}. Choose another column with groups_by, or leave fair out."
            )
        return subgroups


def subgroup_ids(labels: Tensor, groups: Tensor, number: int) -> Tensor:
    """Return label · G + group of each image, (N,) int64.

    Args:
        labels: label of each image, (N,) or (N, 1), 1 = fake.
        groups: group of each image, (N,) int64.
        number: number of groups, G.
    """
    return (labels.reshape(-1) > 0.5).long() * number + groups


def image_subgroup_ids(image_set: ImageSet, name: str) -> tuple[int, ...]:
    """Return the number of each image's cell, for a sampler that draws cells equally often.

    Args:
        image_set: training images with the column `demographic`.
        name: name of the objective, for messages.

    Raises:
        JobError: the images have no groups.
    """
    groups = Subgroups.from_training_facts(TrainingFacts.from_image_set(image_set), name).groups
    # labels of the first epoch, which also select cells in later epochs
    labels = torch.tensor(image_set.labels)
    return tuple(subgroup_ids(labels, image_set.columns[DEMOGRAPHIC], groups).tolist())


def merge_small_groups(
    groups: Tensor, least: int, *, count: int, blocks: int = 1
) -> tuple[Tensor, int]:
    """Return the groups of a batch after merging small ones, and their maximum number.

    Small groups are merged into one group. If that is too small as well, it is merged into the largest
    one. Only cells of the same class are merged.

    Args:
        groups: group or cell of each image, (B,) int64 in 0 … count-1.
        least: minimum number of images of a group that is not merged.
        count: number of groups, or of cells.
        blocks: number of equally large blocks of numbers that are not merged with each other. It is
            2 for cells, one block per class.

    Returns:
        Group of each image, (B,) int64, and the number of group numbers, including those of merged groups.
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
        correct: whether each image was classified correctly, (N,).
        cells: number of each image's cell, (N,).
    """
    right, numbers = torch.as_tensor(correct).double(), torch.as_tensor(cells)
    totals = torch.bincount(numbers)
    rates = torch.bincount(numbers, weights=right) / totals
    return float(rates[totals > 0].min())


def balanced_weights(counts: Tensor) -> Tensor:
    """Return the weight of an image in each cell, so that all filled cells have the same total weight.

    The weight is N/(C n_c) if n_c of N images are in cell c, and C cells have images. The weights of all
    images sum to N. A cell without images has weight 0.

    Args:
        counts: number of images in each cell, (cells,).
    """
    filled = counts > 0
    each = counts.sum().double() / (filled.sum() * counts.clamp(min=1))
    return (each * filled).float()


def cvar_weights(losses: Tensor, alpha: float, present: Tensor | None = None) -> Tensor:
    """Return the weight of each loss in CVaR_alpha: (N,), ≥ 0, sum 1, without a gradient.

    Equal losses keep their order.

    Args:
        losses: losses, (N,), N at least 1.
        alpha: fraction of the losses, in (0, 1].
        present: whether each loss counts, (N,) bool. Other losses get weight 0. None means all.

    Raises:
        ValueError: alpha is not in (0, 1].
    """
    _refuse_no_share(alpha)
    with torch.no_grad():
        number: int | Tensor = len(losses)
        if present is not None:  # absent losses come last in the order
            number, losses = present.sum(), losses.masked_fill(~present, -torch.inf)
        weights = torch.empty_like(losses)
        ranks = torch.arange(len(losses), dtype=losses.dtype, device=losses.device)
        order = losses.argsort(descending=True, stable=True)
        weights[order] = (alpha * number - ranks).clamp(0.0, 1.0) / (alpha * number)
        return weights


def group_cvar_weights(losses: Tensor, groups: Tensor, alpha: float, *, count: int) -> Tensor:
    """Return the weight of each loss in CVaR_alpha of its group: (N,), sum 1 in every group.

    Args:
        losses: losses, (N,).
        groups: group of each loss, (N,) int64 in 0 … count-1.
        alpha: fraction of a group's losses, in (0, 1].
        count: number of groups.

    Raises:
        ValueError: alpha is not in (0, 1].
    """
    _refuse_no_share(alpha)
    with torch.no_grad():
        sizes = functional.one_hot(groups, count).sum(0)  # (G,)
        # by group, within a group the largest loss first: both sorts are stable
        order = losses.detach().argsort(descending=True, stable=True)
        order = order[groups[order].argsort(stable=True)]
        first = sizes.cumsum(0) - sizes  # (G,) position of each group's first loss in that order
        ranks = torch.empty_like(groups)
        ranks[order] = torch.arange(len(groups), device=groups.device) - first[groups[order]]
        tail = alpha * sizes[groups].to(losses.dtype)  # (N,) alpha n for the group of each loss
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
    """Return CVaR_alpha of each group's losses, and whether the group has a loss.

    Args:
        losses: losses, (N,).
        groups: group of each loss, (N,) int64.
        alpha: fraction of a group's losses, in (0, 1].
        count: number of groups. None derives it from the highest group number.

    Returns:
        CVaR of each group with its gradient, (G,), 0 without a loss; whether each group has a loss, (G,) bool.
    """
    members = _members(groups, count)  # (N, G)
    weights = group_cvar_weights(losses, groups, alpha, count=members.shape[1])
    return group_sums(weights * losses, members), members.any(0)


def group_sums(values: Tensor, members: Tensor) -> Tensor:
    """Return the sum over each group, (G,).

    On a GPU, sums by index have no fixed order, and a matrix product has the precision of autocast.

    Args:
        values: values, (N,).
        members: whether each value belongs to each group, (N, G), bool or 0 and 1.
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

    With L_j the CVaR_alpha_in of group j and alpha = alpha_out, it is the minimum over λ of

        λ + τ2/(2 alpha) λ² + 1/(alpha m) Σ_j τ1 log(1 + exp((L_j - λ)/τ1))

    over the m groups of the batch: the fusion loss of L. Lin et al., CVPR 2024 (arXiv 2402.17229).
    The authors' code searches λ between the smallest loss - 1000 and the largest, and overflows if
    L_j - λ > 88 τ1. Here the minimum is at the sign change of the derivative, up to float64
    rounding. In their code, the flags for both fractions have no effect: 0.9 and 0.5 are fixed.

    Args:
        losses: losses, (N,), N at least 1.
        groups: group of each loss, (N,) int64.
        alpha_in: fraction of each group's losses, in (0, 1].
        alpha_out: fraction of the groups, in (0, 1].
        smooth: τ1, in units of the loss. 0 disables smoothing; `ridge` then has no effect.
        ridge: τ2. With 0 the weights of the groups sum to 1, otherwise to 1 + τ2 λ/alpha.
        count: number of groups. None derives it from the highest group number.

    Returns:
        A scalar with its gradient. At τ2 = 0 it is at most τ1 ln 2/alpha above the unsmoothed
        value.

    Raises:
        ValueError: a fraction is not in (0, 1].
    """
    values, present = group_cvar(losses, groups, alpha_in, count=count)
    if smooth <= 0:
        return (cvar_weights(values, alpha_out, present) * values).sum()
    _refuse_no_share(alpha_out)
    exact = values.double()  # float32 cannot represent losses of 1e3 in steps of τ1
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
    """Return whether each loss belongs to each group, (N, G) bool."""
    return functional.one_hot(groups, -1 if count is None else count).bool()


@torch.no_grad()
def _threshold(
    values: Tensor, present: Tensor, share: Tensor, alpha: float, smooth: float, ridge: float
) -> Tensor:
    """Return λ of the smoothed minimum: the zero of the derivative, which never decreases."""
    margin = REACH * smooth
    low = values.masked_fill(~present, torch.inf).min() - margin
    high = values.masked_fill(~present, -torch.inf).max() + margin
    if ridge > 0:  # outside these limits the quadratic term determines the sign
        low, high = low.clamp(max=(1 - alpha) / ridge), high.clamp(min=0.0)
    steps = torch.linspace(0, 1, INTERVALS + 1, dtype=values.dtype, device=values.device)
    for _ in range(ROUNDS):
        grid = low + (high - low) * steps  # (INTERVALS + 1,)
        counted = torch.sigmoid((values - grid[:, None]) / smooth) * present
        slope = 1 + ridge / alpha * grid - counted.sum(1) / share
        cell = (slope[:-1] < 0).sum().clamp(1, INTERVALS) - 1  # the last part that begins below 0
        low, high = grid.take(cell), grid.take(cell + 1)
    return (low + high) / 2
