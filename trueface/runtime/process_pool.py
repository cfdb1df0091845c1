"""Work on chunks of a long list, spread over processes that end with the one that started them."""

import fcntl
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TypeVar

from trueface.runtime.errors import MachineError

Item = TypeVar("Item")
Made = TypeVar("Made")


def chunks_of(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Return a list cut into parts of `size`; the last may be shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def map_chunks(
    make: Callable[[Sequence[Item]], Made],
    chunks: Sequence[Sequence[Item]],
    workers: int | None,
    *,
    doing: str,
) -> Iterator[Made]:
    """Yield what a function makes of each chunk, in their order.

    Args:
        make: a function that processes can import, or a `partial` of one.
        chunks: its arguments.
        workers: number of processes, or None for one per available core. With 1, or a single chunk, this
            process does the work.
        doing: activity of a killed process, for the message: "made images for /a".

    Raises:
        MachineError: a process was killed.
    """
    count = min(workers or len(os.sched_getaffinity(0)), len(chunks))
    if count < 2:
        yield from map(make, chunks)
        return
    # spawned, not forked: our own process may have started threads
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=end_with_parent)
    try:
        yield from pool.map(make, chunks)
    except BrokenProcessPool as error:
        raise MachineError(f"a process that {doing} was killed: {error}") from error
    finally:
        pool.shutdown(cancel_futures=True)


def process_in_chunks(
    make: Callable[[Sequence[Item]], object],
    items: Sequence[Item],
    size: int,
    workers: int | None,
    *,
    doing: str,
    total: int,
    progress: Callable[[int, int], object] | None,
) -> None:
    """Make every item of a list, chunk by chunk; see `map_chunks`.

    Args:
        make: makes the items of a chunk.
        items: those that are not there yet.
        size: of a chunk.
        workers: as `map_chunks` has it.
        doing: activity of a killed process, for the message.
        total: final number of items, including existing ones.
        progress: called with the number of items that are there and their total after each chunk.

    Raises:
        MachineError: a process was killed.
    """
    chunks, done = chunks_of(items, size), total - len(items)
    for chunk, _ in zip(chunks, map_chunks(make, chunks, workers, doing=doing), strict=True):
        done += len(chunk)
        if progress is not None:
            progress(done, total)


def end_with_parent() -> None:
    """Ask the kernel to kill this worker as soon as its parent process ends.

    It would wait for work for ever; and it ends also where it is deep in a library's code.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel  # a pipe that the parent alone holds open
    fcntl.fcntl(sentinel, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(sentinel, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(sentinel, fcntl.F_SETFL, fcntl.fcntl(sentinel, fcntl.F_GETFL) | os.O_ASYNC)
    if wait([sentinel], 0):  # the parent had ended before
        os._exit(1)
