"""The features of a set of images: rows of shards that lie in memory, or are mapped into it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]  # (N, F)


class Cost(NamedTuple):
    """What the rows of a matrix took."""

    read: int = 0  # rows that lay in the store
    computed: int = 0  # rows that passed through the body now
    seconds: float = 0.0  # of the body, whenever it was
    saved_s: float = 0.0  # of these, what others had spent before

    def plus(self, other: "Cost") -> "Cost":
        """Return the cost of both."""
        return Cost(
            read=self.read + other.read,
            computed=self.computed + other.computed,
            seconds=self.seconds + other.seconds,
            saved_s=self.saved_s + other.saved_s,
        )


NOTHING = Cost()


@dataclass(frozen=True)
class FeatureMatrix:
    """The features of the images of a set that could be read."""

    parts: tuple[Features, ...]  # (n, F) each; maps of files are read when they are asked for
    part: NDArray[np.int64]  # (N,) which of them holds a row
    row: NDArray[np.int64]  # (N,) and where
    positions: NDArray[np.int64]  # (N,) in the set, rising
    cost: Cost = NOTHING

    def __len__(self) -> int:
        return len(self.positions)

    @classmethod
    def of(
        cls, features: Features, positions: NDArray[np.int64], cost: Cost = NOTHING
    ) -> "FeatureMatrix":
        """Return a matrix that lies in memory as a whole."""
        zeros = np.zeros(len(positions), dtype=np.int64)
        return cls((features,), zeros, np.arange(len(positions)), positions, cost)

    @cached_property
    def rows(self) -> dict[int, int]:
        """The row of each position."""
        return {position: row for row, position in enumerate(self.positions.tolist())}

    @property
    def is_mapped(self) -> bool:
        """Whether it takes no memory of its own."""
        return all(isinstance(part, np.memmap) for part in self.parts)

    @cached_property
    def features(self) -> Features:
        """All features (N, F); a map of the file where a single shard holds them in this order."""
        if len(self.parts) == 1:
            whole = self.parts[0]
            if len(whole) == len(self.row) and np.array_equal(self.row, np.arange(len(self.row))):
                return whole
        return self.take(range(len(self.positions)))

    def take(self, rows: Sequence[int]) -> Features:
        """Return a copy of some rows (B, F)."""
        chosen = np.asarray(rows, dtype=np.int64)
        part, row = self.part[chosen], self.row[chosen]
        if len(self.parts) == 1:
            return np.asarray(self.parts[0][row])
        taken = np.empty((len(chosen), self.parts[0].shape[1]), dtype=np.float32)
        for number in np.unique(part):
            mask = part == number
            taken[mask] = self.parts[number][row[mask]]
        return taken
