"""Passes of a network in which a GPU computes while batches are copied to it and results from it.

    pinned batch ─ copy stream → GPU ─ network → results ─→ pinned memory ─ read two batches later

The process that starts the kernels never waits for the results of the batch it has just started.
Results are read when later batches are on their way, so that the GPU always has work, and few of
them are on it. On the CPU a pass is a plain loop.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from trueface.data.loading.prefetching import PINNED

LATE = 2  # batches whose results are not read yet while the next one is started
ItemT = TypeVar("ItemT")
Send = Callable[[Tensor], Tensor]  # a tensor → its copy on the device
Outputs = tuple[Tensor, ...]


class Transfers(Protocol):
    """Copies to a device and back, in the order in which they are started."""

    def send(self, values: Tensor) -> Tensor:
        """Return a copy on the device. What is computed with it waits for the copy."""

    def fetch(self, values: Tensor) -> Callable[[], Tensor]:
        """Start a copy to ordinary memory. The function that is returned waits for it."""


class CudaTransfers:
    """Copies to a GPU on a stream of their own, and back behind the kernels that make the results.

    Args:
        device: such as cuda:0.
    """

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # torch

    def send(self, values: Tensor) -> Tensor:
        """Return a copy on the device; see `Transfers`."""
        if values.is_cuda:
            return values.to(self._device)
        with torch.cuda.stream(self._stream):
            copy = values.to(self._device, non_blocking=True)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._stream)
        copy.record_stream(computing)  # its memory stays until the kernels have read it
        return copy

    def fetch(self, values: Tensor) -> Callable[[], Tensor]:
        """Start a copy to ordinary memory; see `Transfers`."""
        pinned = PINNED.allocate(values.shape, values.dtype)
        if pinned is None:
            return values.cpu
        pinned.copy_(values, non_blocking=True)
        done = torch.cuda.current_stream(self._device).record_event()

        def read() -> Tensor:
            done.synchronize()
            return pinned.clone()  # pinned memory is scarce, and results may be kept

        return read


def open_transfers(device: str) -> Transfers | None:
    """Return the transfers of a GPU, or None for the CPU."""
    return CudaTransfers(device) if torch.device(device).type == "cuda" else None


def iter_outputs(
    items: Iterable[ItemT],
    compute: Callable[[ItemT, Send], Outputs],
    device: str,
) -> Iterator[tuple[ItemT, Outputs]]:
    """Yield each item with its outputs, in ordinary memory, in the order of the items.

    On a GPU the next items are requested before the outputs of an item are yielded.

    Args:
        items: such as the batches of a pass.
        compute: starts the network for an item. Gets a function that copies a tensor to the device.
        device: of the network.
    """
    transfers = open_transfers(device)
    if transfers is None:
        for item in items:
            outputs = compute(item, lambda values: values.to(device))
            yield item, tuple(values.cpu() for values in outputs)
        return
    pending: deque[tuple[ItemT, tuple[Callable[[], Tensor], ...]]] = deque()
    for item in items:
        outputs = compute(item, transfers.send)
        pending.append((item, tuple(transfers.fetch(values) for values in outputs)))
        if len(pending) > LATE:
            yield _read(*pending.popleft())
    while pending:
        yield _read(*pending.popleft())


def _read(item: ItemT, reads: tuple[Callable[[], Tensor], ...]) -> tuple[ItemT, Outputs]:
    return item, tuple(read() for read in reads)
