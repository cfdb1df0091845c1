"""Groups and cells: which images belong together, how many there are, and what is too small.

Groups have the numbers 0 … G-1 of the column `demographic`. A cell is a group's images of one
class; its number is label · G + group, so that the real images come first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trueface.data.dataset import Batch, ImageSet
from trueface.runtime.errors import JobError
from trueface.training.fairness_settings import DEMOGRAPHIC
from trueface.training.objectives.protocol import TrainingFacts

CLASSES = 2  # real and fake


@dataclass(frozen=True, kw_only=True)
class GroupCells:
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

    def of_batch(self, batch: Batch) -> Tensor:
        """Return the number of each image's cell, (B,) int64."""
        return cell_numbers(batch.labels, batch.column(DEMOGRAPHIC), self.groups)

    @classmethod
    def of(cls, facts: TrainingFacts, name: str, *, compares: bool = False) -> "GroupCells":
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
                f"fair: {name} needs the group of every image, and these images come without; name "
                "their CSV files with attributes"
            )
        groups = facts.columns[DEMOGRAPHIC]
        names = tuple(facts.names.get(DEMOGRAPHIC, ()))
        number = max(len(names), int(groups.max()) + 1 if len(groups) else 0)
        names += tuple(f"group {place}" for place in range(len(names), number))
        cells = cell_numbers(facts.labels, groups, number)
        made = cls(counts=torch.bincount(cells, minlength=CLASSES * number), names=names)
        present = made.counts.view(CLASSES, number).sum(0).nonzero().flatten().tolist()
        if compares and len(present) < CLASSES:
            only = names[present[0]] if present else "none"
            raise JobError(
                f"fair: {name} compares groups, and all {len(groups)} training images are of one: "
                f"{only}; choose another column with groups_by, or leave fair out"
            )
        return made


def cell_numbers(labels: Tensor, groups: Tensor, number: int) -> Tensor:
    """Return label · G + group of each image, (N,) int64.

    Args:
        labels: (N,) or (N, 1), 1 fake.
        groups: (N,) int64.
        number: of groups, G.
    """
    return (labels.reshape(-1) > 0.5).long() * number + groups


def cells_of(image_set: ImageSet, name: str) -> tuple[int, ...]:
    """Return the number of each image's cell, to draw images by.

    Args:
        image_set: for training, with the column `demographic`.
        name: of the way of training, for messages.

    Raises:
        JobError: the images come without groups.
    """
    groups = GroupCells.of(TrainingFacts.of_set(image_set), name).groups
    labels = torch.tensor(image_set.labels)  # an order lasts for all epochs
    return tuple(cell_numbers(labels, image_set.columns[DEMOGRAPHIC], groups).tolist())


def merged(groups: Tensor, least: int, *, count: int, blocks: int = 1) -> tuple[Tensor, int]:
    """Return the groups of a batch, those that are too small joined, and how many there can be.

    Small groups are joined to one; where that is too small itself, they join the largest. Of cells,
    those of one class are joined only.

    Args:
        groups: (B,) int64 in 0 … count-1.
        least: images of a group that stays as it is.
        count: of groups, or of cells.
        blocks: of equally many numbers each that stay apart: the two classes of cells.

    Returns:
        (B,) int64, and how many numbers there are, those of joined groups included.
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


def worst_cell(correct: Sequence[bool] | Tensor, cells: Sequence[int] | Tensor) -> float:
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
