"""What a pass asks for, in which order, and the batches of it that are loaded ahead.

An order is a function of seed and epoch alone, so that a training that was interrupted finds the
same batches again, and features that are held in memory come in the batches that pixels would.

A thread loads batches while the network works on those before them: decoding, resizing and copying
leave the interpreter to others, so both go on at once. What the thread computes depends on no shared random state: order and content are those of a plain loop.

Processes that load batches are kept from one pass to the next: to start them takes as long as to load dozens of images, and each epoch has two passes. What they
must know of a pass comes with every request, so that it makes no difference how old they are.
"""

import contextlib
import errno
import logging
import os
import shutil
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count, cycle, islice
from pathlib import Path
from random import Random
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trueface.runtime.errors import MachineError
from trueface.runtime.files import format_bytes

log = logging.getLogger(__name__)


def order_of(
    positions: Sequence[int],
    *,
    shuffle_seed: int | None,
    epoch: int,
    cells: Sequence[int] | None = None,
) -> list[int]:
    """Return the positions of images in the order of a pass.

    Args:
        positions: of the images.
        shuffle_seed: None keeps their order.
        epoch: which pass this is.
        cells: of each image of the set the cell that it is drawn by; None: each image comes once.
            Nothing is drawn where nothing is shuffled.
    """
    if shuffle_seed is None:
        return list(positions)
    random = Random(f"order/{shuffle_seed}/{epoch}")
    if cells is not None:
        return drawn_equally(positions, cells, random)
    order = list(positions)
    random.shuffle(order)
    return order


def drawn_equally(positions: Sequence[int], cells: Sequence[int], random: Random) -> list[int]:
    """Return as many positions as there are, every cell's equally often, to one.

    Of a small cell all images come, as often as it takes and equally often to one; of a large cell
    some are left out. Each cell is in turn before any comes again, so that batches are as even.

    Args:
        positions: of the images.
        cells: of each image of the set.
        random: decides which images, and their order.
    """
    members: defaultdict[int, list[int]] = defaultdict(list)
    for position in positions:
        members[cells[position]].append(position)
    for images in members.values():
        random.shuffle(images)
    turns = {cell: cycle(members[cell]) for cell in sorted(members)}
    order: list[int] = []
    while len(order) < len(positions):
        every = list(turns)
        random.shuffle(every)
        order += [next(turns[cell]) for cell in islice(every, len(positions) - len(order))]
    return order


AHEAD = 2  # items: one that is ready, one that is being made
_ENDED: Any = object()  # there is no further item

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


STALL_S = 60.0  # without an item until that is logged; large batches from slow disks take less
LOOK_S = 5.0  # seconds between two looks


class StallWatch:
    """Logs a warning if one wait lasts STALL_S seconds, and again whenever it has doubled.

    A thread looks every LOOK_S seconds. It counts looks and reads no clock, so that the time in which
    a job is paused does not count.

    Args:
        describe: returns a description of the item with this number.
    """

    def __init__(self, describe: Callable[[int], str]) -> None:
        self._describe = describe
        self._awaited: int | None = None  # number of the item that is waited for
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stalls", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def wait(self, number: int) -> Iterator[None]:
        """Watch a block that waits for one item; numbers differ from wait to wait."""
        self._awaited = number
        try:
            yield
        finally:
            self._awaited = None

    def end(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        last, waited, due = None, 0.0, STALL_S
        while not self._ended.wait(LOOK_S):
            number = self._awaited
            if number is None or number != last:
                last, waited, due = number, 0.0, STALL_S
                continue
            waited += LOOK_S
            if waited >= due:
                due *= 2
                log.warning("no images for %.0f s; waiting for %s", waited, self._describe(number))


@contextlib.contextmanager
def stalls_reported(
    describe: Callable[[int], str] | None,
) -> Iterator[Callable[[int], contextlib.AbstractContextManager[None]]]:
    """Give what watches the wait for an item, by its number; nothing is watched without `describe`."""
    if describe is None:
        yield lambda _: contextlib.nullcontext()
        return
    watch = StallWatch(describe)
    try:
        yield watch.wait
    finally:
        watch.end()


def in_background(
    make: Make[Item], ahead: int = AHEAD, *, describe: Callable[[int], str] | None = None
) -> Iterator[Item]:
    """Yield what `make` yields, up to `ahead` items of which are made before they are asked for.

    The thread is gone when this ends, is closed, or raises.

    Args:
        make: starts the items, in the thread; gets an event that is set when no more are wanted.
        ahead: items that exist beside the one that was yielded last.
        describe: says what an item is, from its number, if long waits are to be logged.

    Raises:
        BaseException: what `make` or its items raise, where the item would have come.
    """
    leave, threads = threading.Event(), torch.get_num_threads()
    pool = ThreadPoolExecutor(1, "loader")
    pool.submit(_work_alone).result()
    torch.set_num_threads(threads)  # also for threads that begin later
    try:
        items = pool.submit(make, leave).result()
        ready = deque(pool.submit(next, items, _ENDED) for _ in range(ahead))
        with closing(items), stalls_reported(describe) as waiting:
            try:
                for number in count():
                    with waiting(number):
                        item = ready.popleft().result()
                    if item is _ENDED:
                        break
                    ready.append(pool.submit(next, items, _ENDED))
                    yield item
            finally:  # the thread finishes the image that it is at
                leave.set()
                pool.shutdown(cancel_futures=True)
    finally:
        pool.shutdown()


def _work_alone() -> None:
    """Compute in this thread alone: more of them would take the cores from the network's."""
    torch.set_num_threads(1)
    torch.get_num_threads()  # asked for the first time, torch takes the number of all for its own


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
        return self if self.pixels is None else self._replace(pixels=pinned(self.pixels))


def together(items: Sequence[Tensor | BadFile]) -> LoadedBatch:
    """Make one tensor of a batch where it is loaded: one thing to hand over, not one per image."""
    good = [item for item in items if isinstance(item, Tensor)]
    bad = [item for item in items if isinstance(item, BadFile)]
    return LoadedBatch(torch.stack(good) if good else None, bad)


class UnsharedBatch(NamedTuple):
    """A batch whose pixels could not be put in shared memory, and did not come."""

    nbytes: int
    reason: str  # as torch gives it


def together_shared(items: Sequence[Tensor | BadFile]) -> LoadedBatch | UnsharedBatch:
    """Make a batch in a loading process, its pixels in shared memory.

    Torch would move them there in a thread, and lose the batch if that fails.
    """
    batch = together(items)
    if batch.pixels is None:
        return batch
    try:
        batch.pixels.share_memory_()  # type: ignore[no-untyped-call]  # torch
    except RuntimeError as error:  # as torch reports a full /dev/shm and too many open files
        reason = (str(error).splitlines() or [type(error).__name__])[0]  # a trace may follow
        return UnsharedBatch(batch.pixels.nbytes, reason)
    return batch


SHARED_MEMORY = "/dev/shm"  # where Linux has it
PREFETCHED = 2  # batches of each process that exist before they are asked for; torch's default


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
        processes: how many.
        together: makes a batch of items.
    """

    def __init__(
        self, dataset: Dataset[Any], processes: int, together: Callable[[Sequence[Any]], Batch]
    ) -> None:
        self.count = processes
        self._groups = _Groups()
        # None during a pass: one that is left or fails takes its processes along
        self._loader: DataLoader[Batch] | None = DataLoader(
            dataset,
            batch_sampler=self._groups,
            num_workers=processes,
            prefetch_factor=PREFETCHED,
            collate_fn=together,
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
