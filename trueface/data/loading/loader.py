"""The loader: one pass over a dataset in batches, for pixels and features alike.

    dataset    inputs, labels and columns of samples, by position
    order      which positions form which batch in an epoch
    shard      the part of each batch that this process reads

See `processes` for decoding, prefetching and pinned memory, and `Batch.to` for the way to a device.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from trueface.data.batch import Batch
from trueface.data.loading.pass_order import IN_ORDER, Order
from trueface.data.loading.prefetching import closing


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One of `size` processes that share a training; each reads its part of every batch."""

    rank: int = 0  # from 0
    size: int = 1

    def shard_batch(self, group: list[int]) -> list[int]:
        """Return this process's part of a batch: consecutive positions. Parts differ by one at most."""
        return group[
            len(group) * self.rank // self.size : len(group) * (self.rank + 1) // self.size
        ]

    def fraction_of(self, amount: int) -> int:
        """Return this process's share of an amount that all use together: at least 1, or 0 of 0."""
        return max(1, amount // self.size) if amount > 0 else amount


WHOLE = Shard()


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRequest:
    """One pass over samples of a dataset."""

    positions: Sequence[int]  # samples by position; a balanced `order` repeats or omits some
    epoch: int
    order: Order
    batch_size: int  # the last batch and a batch with unreadable samples may be smaller
    shard: Shard = WHOLE

    def groups(self) -> list[list[int]]:
        """Return the positions of each batch, or this process's part of them."""
        groups = self.order.groups(self.positions, self.epoch, self.batch_size)
        return groups if self.shard.size == 1 else [self.shard.shard_batch(one) for one in groups]


class Dataset(Protocol):
    """Samples, by position."""

    def __len__(self) -> int:
        """Return the number of positions."""

    @property
    def rows_per_position(self) -> int:
        """The number of rows in batches for each position."""

    def load(self, request: PassRequest) -> Iterator[Batch]:
        """Yield the batches of a pass. Unreadable samples are left out.

        In a shard an empty batch is yielded, too, so that all processes get the same number.
        """


DatasetT_co = TypeVar("DatasetT_co", bound=Dataset, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader(Generic[DatasetT_co]):
    """Passes over a dataset in batches."""

    dataset: DatasetT_co
    batch_size: int
    order: Order = IN_ORDER
    shard: Shard = WHOLE  # part of each batch
    on_read: tuple[Callable[[int], None], ...] = ()  # called with the size of every batch

    def __len__(self) -> int:
        """Return how many rows one pass has."""
        return len(self.dataset) * self.dataset.rows_per_position

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Start a pass."""
        return self.iter_positions(range(len(self.dataset)), epoch)

    def iter_positions(
        self, positions: Sequence[int], epoch: int, *, batch_size: int | None = None
    ) -> Iterator[Batch]:
        """Start a pass over some of the samples, in batches of this or another size."""
        batches = self.dataset.load(
            PassRequest(
                positions=positions,
                epoch=epoch,
                order=self.order,
                batch_size=batch_size or self.batch_size,
                shard=self.shard,
            )
        )
        return self._count_reads(batches) if self.on_read else batches

    def _count_reads(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        with closing(batches):
            for batch in batches:
                for count in self.on_read:
                    count(len(batch.indices))
                yield batch
