"""Items that a thread makes before they are requested.

A thread loads batches while the network processes the previous ones. Decoding, resizing and copying
release the interpreter lock, so both run at the same time. The thread uses no shared random state:
order and content are those of a plain loop.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, TypeVar

import torch
from torch import Tensor

from trueface.data.stalls import stalls_reported

AHEAD = 2  # items: one that is ready, one that is being made
ENDED: Any = object()  # marks the end of an iterator
Item = TypeVar("Item")
Make = Callable[[threading.Event], Iterator[Item]]


def pin_pixels(pixels: Tensor) -> Tensor:
    """Return a batch in pinned memory if this process uses a GPU, otherwise the batch itself."""
    return pixels.pin_memory() if uses_gpu() else pixels


def uses_gpu() -> bool:
    """Return whether this process has or had a tensor on a GPU."""
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]  # torch


def prefetch(
    make: Make[Item], ahead: int = AHEAD, *, describe: Callable[[int], str] | None = None
) -> Iterator[Item]:
    """Yield what `make` yields, up to `ahead` items of which are made before they are asked for.

    The thread is gone when this ends, is closed, or raises.

    Args:
        make: returns the iterator; called in the thread, with an event that is set when no more
            items are needed.
        ahead: number of items that are made before they are asked for.
        describe: returns a description of the item with this number. None logs no long waits.

    Raises:
        BaseException: any error of `make` or its items, in place of the item.
    """
    leave, threads = threading.Event(), torch.get_num_threads()
    pool = ThreadPoolExecutor(1, "loader")
    pool.submit(_work_alone).result()
    torch.set_num_threads(threads)  # also for threads that begin later
    try:
        items = pool.submit(make, leave).result()
        ready = deque(pool.submit(next, items, ENDED) for _ in range(ahead))
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


def _work_alone() -> None:
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
