"""The order of the images of a pass.

An order is a function of seed and epoch alone. An interrupted training therefore gets the same
batches again, and features in memory come in the same batches as pixels.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import cycle, islice
from random import Random
from typing import NamedTuple

from trueface.runtime.rng import python_rng


class Order(NamedTuple):
    """The rule that forms the batches of a pass."""

    seed: int | None = None  # seed of each epoch's shuffled order. None: the order of the positions
    cells: tuple[int, ...] | None = None  # cells for balanced sampling; see `epoch_order`
    # a last batch of one sample is added to the batch before it, because a batch norm refuses it
    joins_single: bool = False

    def groups(self, positions: Sequence[int], epoch: int, batch_size: int) -> list[list[int]]:
        """Return the positions of each batch of an epoch."""
        order = epoch_order(positions, shuffle_seed=self.seed, epoch=epoch, cells=self.cells)
        groups = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
        if self.joins_single and len(groups) > 1 and batch_size > 1 and len(groups[-1]) == 1:
            groups[-2:] = [groups[-2] + groups[-1]]
        return groups


IN_ORDER = Order()


def epoch_order(
    positions: Sequence[int],
    *,
    shuffle_seed: int | None,
    epoch: int,
    cells: Sequence[int] | None = None,
) -> list[int]:
    """Return the positions of images in the order of a pass.

    Args:
        positions: of the images.
        shuffle_seed: seed of the order. None keeps the order of `positions`.
        epoch: which pass this is.
        cells: the cell of each image of the set, for balanced sampling. None: each image comes
            once. Nothing is sampled without shuffling.
    """
    if shuffle_seed is None:
        return list(positions)
    rng = python_rng(f"order/{shuffle_seed}/{epoch}")
    if cells is not None:
        return balanced_order(positions, cells, rng)
    order = list(positions)
    rng.shuffle(order)
    return order


def balanced_order(positions: Sequence[int], cells: Sequence[int], rng: Random) -> list[int]:
    """Return the same number of positions, with cell counts that differ by at most one.

    All images of a small cell are repeated, with counts that differ by at most one. Some images of
    a large cell are left out. Cells alternate, so that batches are balanced, too.

    Args:
        positions: of the images.
        cells: of each image of the set.
        rng: selects the images and their order.
    """
    members: defaultdict[int, list[int]] = defaultdict(list)
    for position in positions:
        members[cells[position]].append(position)
    for images in members.values():
        rng.shuffle(images)
    turns = {cell: cycle(members[cell]) for cell in sorted(members)}
    order: list[int] = []
    while len(order) < len(positions):
        every = list(turns)
        rng.shuffle(every)
        order += [next(turns[cell]) for cell in islice(every, len(positions) - len(order))]
    return order
