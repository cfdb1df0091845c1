"""Which part of each batch a process reads where several processes share a training."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One of `size` processes; each reads its part of every batch."""

    rank: int = 0  # from 0
    size: int = 1

    def of(self, group: list[int]) -> list[int]:
        """Return this process's part of a batch: neighbours, and as many as the others', or one more."""
        return group[
            len(group) * self.rank // self.size : len(group) * (self.rank + 1) // self.size
        ]

    def fraction_of(self, amount: int) -> int:
        """Return what this process may use of an amount that all of them share: 1 at least."""
        return max(1, amount // self.size) if amount > 0 else amount


WHOLE = Shard()
