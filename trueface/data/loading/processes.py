"""Processes that load batches, kept from one pass to the next.

To start them takes as long as to load dozens of images, and each epoch has two passes. What they
must know of a pass comes with every request, so that it makes no difference how old they are.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from trueface.runtime.errors import MachineError

DEAD = "DataLoader worker"  # how torch begins when one of its processes is gone

Batch = TypeVar("Batch")


class _Groups:
    """What torch calls a batch sampler: the requests of the next pass."""

    def __init__(self) -> None:
        self.groups: Sequence[Sequence[Any]] = ()

    def __iter__(self) -> Iterator[list[Any]]:
        return iter([list(group) for group in self.groups])

    def __len__(self) -> int:
        return len(self.groups)


class LoadingProcesses(Generic[Batch]):
    """Processes with a copy of a data set; they end with this object.

    Args:
        dataset: returns an item for a request; must not refer to this object.
        count: of processes.
        together: makes a batch of items.
    """

    def __init__(
        self, dataset: Dataset[Any], count: int, together: Callable[[Sequence[Any]], Batch]
    ) -> None:
        self.count = count
        self._groups = _Groups()
        # None during a pass: one that is left or fails takes its processes along
        self._loader: DataLoader[Batch] | None = DataLoader(
            dataset,
            batch_sampler=self._groups,
            num_workers=count,
            collate_fn=together,
            persistent_workers=True,
            generator=torch.Generator(),  # else a pass would draw from torch's global generator
        )

    @property
    def is_free(self) -> bool:
        """Whether a pass can begin: none is under way, was left, or failed."""
        return self._loader is not None

    def load(self, groups: Sequence[Sequence[Any]]) -> Iterator[Batch]:
        """Start a pass: a batch for each group of requests, in their order.

        Raises:
            MachineError: a process died.
        """
        loader, self._loader = self._loader, None
        if loader is None:
            raise ValueError("these processes are not free")
        self._groups.groups = groups
        return self._passing(loader)

    def _passing(self, loader: DataLoader[Batch]) -> Iterator[Batch]:
        try:
            yield from loader
        except RuntimeError as error:
            if not str(error).startswith(DEAD):
                raise
            raise MachineError(
                f"a process that loads images died ({str(error).rstrip('. ')}); if it was killed "
                "for want of memory, set num_threads lower: 0 loads in the job's own process"
            ) from error
        self._loader = loader
