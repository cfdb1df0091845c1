"""Batches on their way to a GPU: copied while it computes on the ones before.

Pageable memory is copied by a call that waits for the GPU, and the GPU then waits for the next call.
Here a thread moves batches into pinned memory and has them copied on a stream of its own, so that
the step finds the next batch in place. Pixels, labels and order are those of the batches.
"""

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from trueface.data.dataset import Batch

AHEAD = 2  # batches that wait on the GPU: one for the next step, and one on its way

T = TypeVar("T")
S = TypeVar("S")


def on_device(batches: Iterable[Batch], device: str) -> Iterator[Batch]:
    """Yield batches on a device, positions on the CPU; on the CPU as they are.

    Close the iterator if it is left before its end: then its thread ends, too.
    """
    if torch.device(device).type != "cuda":
        yield from batches
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch
    with closing(in_background(batches, lambda batch: _copied(batch, device, stream))) as copies:
        for copy in copies:
            yield copy.arrived()


@dataclass(frozen=True, slots=True)
class _Copy:
    """A batch that is being copied to a GPU."""

    batch: Batch
    done: tuple[Any, ...]  # events: of the stream that copies, and of that which made features

    def arrived(self) -> Batch:
        """Return the batch, for whatever the current stream does from now on."""
        device = self.batch.images.device
        current = torch.cuda.current_stream(device)
        for event in self.done:
            current.wait_event(event)
        for tensor in (self.batch.images, self.batch.labels, *self.batch.columns.values()):
            tensor.record_stream(current)  # its memory is not given away while that uses it
        return self.batch


def _copied(batch: Batch, device: str, stream: Any) -> _Copy:
    def moved(tensor: Tensor) -> Tensor:
        if tensor.is_cuda:
            return tensor
        source = tensor.pin_memory() if tensor.numel() else tensor
        return source.to(device, non_blocking=True)

    # features were made by this thread; pixels wait for nothing, above all not for the step
    made = (torch.cuda.current_stream(device).record_event(),) if batch.images.is_cuda else ()
    with torch.cuda.stream(stream):
        there = batch._replace(
            images=moved(batch.images),
            labels=moved(batch.labels),
            columns={name: moved(values) for name, values in batch.columns.items()},
        )
        return _Copy(there, (*made, stream.record_event()))


def in_background(
    items: Iterable[T], change: Callable[[T], S], *, ahead: int = AHEAD
) -> Generator[S, None, None]:
    """Yield `change(item)` of each item, in order; a thread makes them ahead.

    An exception of the thread is raised here. When the generator is closed, the thread ends after
    the item that it works on, and the items' own iterator is closed.

    Args:
        items: iterated in the thread.
        change: called in the thread.
        ahead: how many results may wait.
    """
    results: queue.Queue[tuple[bool, Any]] = queue.Queue(maxsize=ahead)
    ended = threading.Event()

    def put(result: tuple[bool, Any]) -> None:
        while not ended.is_set():
            try:
                results.put(result, timeout=0.1)
            except queue.Full:
                continue
            return

    def work() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                put((True, change(item)))
                if ended.is_set():
                    break
            put((False, None))
        except BaseException as error:  # noqa: BLE001  # it is raised where the items are taken
            put((False, error))
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, name="device feed", daemon=True)
    thread.start()
    try:
        while True:
            more, result = results.get()
            if not more:
                if result is not None:
                    raise result
                return
            yield result
    finally:
        ended.set()
        thread.join()
