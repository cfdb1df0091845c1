"""Batches that are loaded by a thread while the network works on those before them.

Decoding, resizing and copying leave the interpreter to others, so both go on at once. What the
thread computes depends on no shared random state: order and content are those of a plain loop.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import torch
from torch import Tensor

AHEAD = 2  # items: one that is ready, one that is being made

Item = TypeVar("Item")
Make = Callable[[threading.Event], Iterator[Item]]


def pinned(pixels: Tensor) -> Tensor:
    """Return a batch in memory that a GPU copies from by itself, where this process uses a GPU.

    The place for all that prepares a batch for a device before it is asked for.
    """
    return pixels.pin_memory() if uses_gpu() else pixels


def uses_gpu() -> bool:
    """Tell whether this process has a tensor on a GPU, or had one."""
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]  # torch


class _Ended:
    """There is no further item."""


class _Failed:
    """Making the next item failed."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Ahead(Generic[Item]):
    """The thread that makes items, and those that wait to be taken."""

    def __init__(self, make: Make[Item], ahead: int) -> None:
        self._make = make
        self._ready = queue.SimpleQueue[Item | _Ended | _Failed]()
        self._room = threading.Semaphore(ahead)
        self._leave = threading.Event()
        threads = torch.get_num_threads()
        self._is_set_up = threading.Event()
        self._thread = threading.Thread(target=self._work, name="loader", daemon=True)
        self._thread.start()
        self._is_set_up.wait()
        torch.set_num_threads(threads)  # also for threads that begin later

    def next(self) -> Item | _Ended | _Failed:
        item = self._ready.get()
        self._room.release()
        return item

    def close(self) -> None:
        """End the thread; it finishes the image that it is at."""
        self._leave.set()
        self._room.release()
        self._thread.join()

    def _work(self) -> None:
        # this thread's own number; more of them would take the cores from the network's
        torch.set_num_threads(1)
        self._is_set_up.set()
        try:
            with closing(self._make(self._leave)) as items:
                while True:
                    self._room.acquire()
                    if self._leave.is_set():
                        return
                    try:
                        item = next(items)
                    except StopIteration:
                        break
                    self._ready.put(item)
            self._ready.put(_Ended())
        except BaseException as error:  # noqa: BLE001  # raised where the items are taken
            self._ready.put(_Failed(error))


def in_background(make: Make[Item], ahead: int = AHEAD) -> Iterator[Item]:
    """Yield what `make` yields, up to `ahead` items of which are made before they are asked for.

    The thread is gone when this ends, is closed, or raises.

    Args:
        make: starts the items, in the thread; gets an event that is set when no more are wanted.
        ahead: items that exist beside the one that was yielded last.

    Raises:
        BaseException: what `make` or its items raise, where the item would have come.
    """
    thread = _Ahead(make, ahead)
    try:
        while True:
            item = thread.next()
            if isinstance(item, _Ended):
                return
            if isinstance(item, _Failed):
                raise item.error
            yield item
    finally:
        thread.close()


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
