"""Loads the batches of a pass in processes that are kept from one pass to the next.

See `pass_order` for the order of a pass.

See `prefetching` for the thread that loads batches ahead.

Starting processes takes as long as loading dozens of images, and each epoch has two passes. Every
request contains all facts about its pass, so that the age of a process makes no difference.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trueface.data.prefetching import _ENDED, pin_pixels
from trueface.data.stalls import stalls_reported
from trueface.runtime.errors import MachineError
from trueface.runtime.files import format_bytes

SHARED_MEMORY = "/dev/shm"  # where Linux has it
PREFETCHED = 2  # batches of each process that exist before they are asked for; torch's default
DEAD = "DataLoader worker"  # how torch begins when one of its processes is gone
Batch = TypeVar("Batch")


class ImageRequest(NamedTuple):
    """An image as a pass asks for it; all that a loading process has to know of the pass."""

    position: int
    epoch: int
    is_sound: bool  # whether its file was decoded whole before


class BadFile(NamedTuple):
    """An image that gave no pixels."""

    position: int
    path: Path
    reason: str


class LoadedBatch(NamedTuple):
    """A batch of images."""

    pixels: Tensor | None  # of those that gave some, (B, …) uint8; None: none did
    bad: list[BadFile]  # the others

    @property
    def pinned(self) -> "LoadedBatch":
        """The same, ready for the device of this process."""
        return self if self.pixels is None else self._replace(pixels=pin_pixels(self.pixels))


def collate(items: Sequence[Tensor | BadFile]) -> LoadedBatch:
    """Make one tensor of a batch where it is loaded: one thing to hand over, not one per image."""
    good = [item for item in items if isinstance(item, Tensor)]
    bad = [item for item in items if isinstance(item, BadFile)]
    return LoadedBatch(torch.stack(good) if good else None, bad)


class UnsharedBatch(NamedTuple):
    """A batch whose pixels could not be put in shared memory, and did not come."""

    nbytes: int
    reason: str  # as torch gives it


def collate_shared(items: Sequence[Tensor | BadFile]) -> LoadedBatch | UnsharedBatch:
    """Make a batch in a loading process, its pixels in shared memory.

    Torch would move them there in a thread, and lose the batch if that fails.
    """
    batch = collate(items)
    if batch.pixels is None:
        return batch
    try:
        batch.pixels.share_memory_()  # type: ignore[no-untyped-call]  # torch
    except RuntimeError as error:  # as torch reports a full /dev/shm and too many open files
        reason = (str(error).splitlines() or [type(error).__name__])[0]  # a trace may follow
        return UnsharedBatch(batch.pixels.nbytes, reason)
    return batch


def describe_shortage(processes: int, batch_bytes: int, reason: str) -> str:
    """Return why batches cannot be put in shared memory, and what helps.

    Args:
        processes: that load.
        batch_bytes: size of the batch that found no room; 0 if the processes could not start.
        reason: as torch or the system gives it.
    """
    if os.strerror(errno.ENOSPC) in reason:
        return _describe_full(processes, batch_bytes)
    if os.strerror(errno.EMFILE) in reason:
        return f"{reason}. Raise the limit of open files (ulimit -n) or set num_threads: 0"
    return reason


def _describe_full(processes: int, batch_bytes: int) -> str:
    """Return how much shared memory there is, how much loading takes, and what helps."""
    try:
        usage = shutil.disk_usage(SHARED_MEMORY)
        reason = f"{SHARED_MEMORY} has {format_bytes(usage.total)}"
    except OSError as error:
        reason = f"{SHARED_MEMORY} cannot be used ({error.strerror})"
    if batch_bytes:
        batches = PREFETCHED * processes + 1  # the last one is in use
        reason += (
            f", and {processes} processes keep {batches} batches of {format_bytes(batch_bytes)} "
            "in it"
        )
    return (
        f"{reason}. Set num_threads: 0 or a smaller batch_size, or give the container more shared "
        "memory (docker run --shm-size)"
    )


class _Groups:
    """A batch sampler of torch: the requests of the next pass."""

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
        processes: how many.
        collate_items: makes a batch of items.
    """

    def __init__(
        self, dataset: Dataset[Any], processes: int, collate_items: Callable[[Sequence[Any]], Batch]
    ) -> None:
        self.count = processes
        self._groups = _Groups()
        # None during a pass: one that is left or fails takes its processes along
        self._loader: DataLoader[Batch] | None = DataLoader(
            dataset,
            batch_sampler=self._groups,
            num_workers=processes,
            prefetch_factor=PREFETCHED,
            collate_fn=collate_items,
            persistent_workers=True,
            generator=torch.Generator(),  # else a pass would draw from torch's global generator
        )

    @property
    def is_free(self) -> bool:
        """Whether a pass can begin: none is under way, was left, or failed."""
        return self._loader is not None

    def load(
        self, groups: Sequence[Sequence[Any]], describe: Callable[[int], str] | None = None
    ) -> Iterator[Batch]:
        """Start a pass: a batch for each group of requests, in their order.

        Args:
            groups: the requests.
            describe: says what a group is, from its number, if long waits are to be logged.

        Raises:
            MachineError: a process died.
        """
        loader, self._loader = self._loader, None
        if loader is None:
            raise ValueError("these processes are still in use")
        self._groups.groups = groups
        return self._passing(loader, describe)

    def _passing(
        self, loader: DataLoader[Batch], describe: Callable[[int], str] | None
    ) -> Iterator[Batch]:
        try:
            batches = iter(loader)  # forks; the thread that watches begins later
            with stalls_reported(describe) as waiting:
                for number in count():
                    with waiting(number):
                        batch = next(batches, _ENDED)
                    if batch is _ENDED:
                        break
                    yield batch
        except RuntimeError as error:
            if not str(error).startswith(DEAD):
                raise
            raise MachineError(
                f"a process that loads images died ({str(error).rstrip('. ')}). If it ran out of "
                "memory, reduce num_threads. With 0, the process of the job loads the images."
            ) from error
        self._loader = loader
