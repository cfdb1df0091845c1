"""Items that a thread makes before they are requested.

A thread loads batches while the network processes the previous ones. Decoding, resizing and copying
release the interpreter lock, so both run at the same time. The thread uses no shared random state:
order and content are those of a plain loop.
"""

import contextlib
import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, TypeVar

import torch
from torch import Tensor

from trueface.data.loading.stalls import stalls_reported
from trueface.runtime.errors import first_line

AHEAD = 2  # items: one that is ready, one that is being made
PINNED_BYTES = 1 << 30  # bytes of batches at a time; no other process can use pinned memory
PINNED_BATCHES = AHEAD + 4  # at a time: one is used, three are copied or wait for their results
ENDED: Any = object()  # marks the end of an iterator
Item = TypeVar("Item")
Make = Callable[[threading.Event], Iterator[Item]]
log = logging.getLogger(__name__)


class PinnedMemory:
    """Pinned memory for batches, from which a GPU copies while it computes.

    Batches beyond the limit are loaded in ordinary memory. So are all that follow a failure to pin.

    Args:
        limit_bytes: of all batches that exist at a time.
    """

    def __init__(self, limit_bytes: int = PINNED_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._fails = False

    def allocate(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor | None:
        """Return an empty tensor in pinned memory, or None for ordinary memory."""
        nbytes = math.prod(shape) * dtype.itemsize
        # torch rounds up to a power of two, and keeps the memory for the next batch
        rounded = 1 << max(nbytes - 1, 0).bit_length()
        if self._fails or not uses_gpu() or rounded * PINNED_BATCHES > self._limit_bytes:
            return None
        try:
            return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)
        except RuntimeError as error:  # the limit of locked memory, or no memory is left
            self._fails = True
            reason = first_line(error)  # a trace may follow
            log.warning("batches=not pinned bytes=%d reason=%s", nbytes, reason)
            return None


PINNED = PinnedMemory()


def stack_images(images: Sequence[Tensor]) -> Tensor:
    """Return images as one batch, in pinned memory if this process uses a GPU."""
    shape, dtype = (len(images), *images[0].shape), images[0].dtype
    pinned = PINNED.allocate(shape, dtype)
    return stack_into(torch.empty(shape, dtype=dtype) if pinned is None else pinned, images)


def stack_into(batch: Tensor, images: Sequence[Tensor]) -> Tensor:
    """Return `batch` after images of equal size were copied to it.

    NumPy moves the channels of a decoded image, which come last in memory, in half of torch's time.
    """
    if len({image.shape for image in images}) > 1:
        return torch.stack(tuple(images))  # raises
    for row, image in zip(batch.numpy(), images, strict=True):
        row[...] = image.numpy()
    return batch


def join_batches(parts: Sequence[Tensor]) -> Tensor:
    """Return the parts of a batch as one, in pinned memory if this process uses a GPU."""
    first = parts[0]
    pinned = PINNED.allocate((sum(map(len, parts)), *first.shape[1:]), first.dtype)
    return first if pinned is None and len(parts) == 1 else torch.cat(tuple(parts), out=pinned)


def uses_gpu() -> bool:
    """Return whether this process has or had a tensor on a GPU."""
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]  # torch


def prefetch(
    make_items: Make[Item], depth: int = AHEAD, *, describe: Callable[[int], str] | None = None
) -> Iterator[Item]:
    """Yield what `make_items` yields, up to `depth` items of which are made before they are asked for.

    The thread is gone when this ends, is closed, or raises.

    Args:
        make_items: returns the iterator; called in the thread, with an event that is set when no more
            items are needed.
        depth: number of items that are made before they are asked for.
        describe: returns a description of the item with this number. None logs no long waits.

    Raises:
        BaseException: any error of `make_items` or its items, in place of the item.
    """
    leave, threads = threading.Event(), torch.get_num_threads()
    pool = ThreadPoolExecutor(1, "loader")
    pool.submit(_use_one_torch_thread).result()
    torch.set_num_threads(threads)  # also for threads that begin later
    try:
        items = pool.submit(make_items, leave).result()
        ready = deque(pool.submit(next, items, ENDED) for _ in range(depth))
        with closing(items), stalls_reported(describe) as waiting:
            try:
                for number in count():
                    with waiting(number):
                        item = ready.popleft().result()
                    if item is ENDED:
                        break
                    ready.append(pool.submit(next, items, ENDED))
                    yield item
            finally:  # the thread completes its current image
                leave.set()
                pool.shutdown(cancel_futures=True)
    finally:
        pool.shutdown()


def _use_one_torch_thread() -> None:
    """Compute in this thread alone: further threads would take cores from the network."""
    torch.set_num_threads(1)
    torch.get_num_threads()  # the first call in a thread resets its number to the global one


@contextlib.contextmanager
def closing(items: Iterator[Item]) -> Iterator[Iterator[Item]]:
    """Close an iterator that can be closed at the end of a block, and its thread with it.

    Without this an error keeps the thread alive as long as its traceback.
    """
    try:
        yield items
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()
