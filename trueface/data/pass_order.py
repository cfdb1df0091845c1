"""The order of the images of a pass."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import cycle, islice
from random import Random


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
        shuffle_seed: None keeps their order.
        epoch: which pass this is.
        cells: of each image of the set the cell that it is drawn by; None: each image comes once.
            Nothing is drawn where nothing is shuffled.
    """
    if shuffle_seed is None:
        return list(positions)
    random = Random(f"order/{shuffle_seed}/{epoch}")
    if cells is not None:
        return balanced_order(positions, cells, random)
    order = list(positions)
    random.shuffle(order)
    return order


def balanced_order(positions: Sequence[int], cells: Sequence[int], random: Random) -> list[int]:
    """Return as many positions as there are, every cell's equally often, to one.

    Of a small cell all images come, as often as it takes and equally often to one; of a large cell
    some are left out. Each cell is in turn before any comes again, so that batches are as even.

    Args:
        positions: of the images.
        cells: of each image of the set.
        random: decides which images, and their order.
    """
    members: defaultdict[int, list[int]] = defaultdict(list)
    for position in positions:
        members[cells[position]].append(position)
    for images in members.values():
        random.shuffle(images)
    turns = {cell: cycle(members[cell]) for cell in sorted(members)}
    order: list[int] = []
    while len(order) < len(positions):
        every = list(turns)
        random.shuffle(every)
        order += [next(turns[cell]) for cell in islice(every, len(positions) - len(order))]
    return order
