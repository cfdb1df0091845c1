"""What a model was trained on, told without regard to which of it shall be forgotten.

Two unlearnings of one model differ in what shall go and in its labels; what is read of the whole
training set comes in the same order for both, so that the second finds it in the cache.
"""

from collections.abc import Sequence

import torch

from trueface.streams import derive
from trueface.unlearn.samples import Examples


def whole(forget: Examples, retain: Examples | None) -> tuple[Examples, ...]:
    """Return both together, each sample once, by position; two parts if their sources differ."""
    if retain is None:
        return (_sorted(forget),)
    if forget.source.identity != retain.source.identity:
        return _sorted(forget), _sorted(retain)
    return (_sorted(forget + retain),)


def count(parts: Sequence[Examples]) -> int:
    """Return how many samples there are."""
    return sum(map(len, parts))


def mixed(some: Examples) -> Examples:
    """Return them in an order in which classes alternate, the same for the same positions."""
    random = torch.Generator().manual_seed(derive("mixed", 0))  # of no seed: caches serve them all
    return some.some(torch.randperm(len(some), generator=random).tolist())


def _sorted(some: Examples) -> Examples:
    rows = {position: row for row, position in enumerate(some.positions)}
    return some.some([rows[position] for position in sorted(rows)])
