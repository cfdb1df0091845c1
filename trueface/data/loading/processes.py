"""Loads the batches of a pass ahead of the steps that use them: decoded, transformed and pinned.

    files → processes or one thread: decode, transform, collate → pinned memory → `transfers`

The thread is that of `prefetching`. Processes are kept from one pass to the next: starting them
takes as long as loading dozens of images, and each epoch has two passes. Every request contains
all facts about its pass, so that the age of a process makes no difference.

A process loads a part of a batch at a time. If each loaded whole batches, the first would come late,
and at the end of a pass most processes would have nothing to do.
"""

import contextlib
import errno
import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trueface.data.loading.prefetching import (
    ENDED,
    closing,
    join_batches,
    prefetch,
    stack_images,
    stack_into,
    uses_gpu,
)
from trueface.data.loading.stalls import stalls_reported
from trueface.runtime.errors import MachineError, first_line
from trueface.runtime.files import format_bytes

SHARED_MEMORY = "/dev/shm"  # folder of shared memory on Linux
PREFETCHED = 2  # parts of each process that exist before they are asked for; torch's default
PART = 16  # images that a process loads at a time; sending less costs more than it gains
NICENESS = 10  # niceness of processes on free cores; one at 0 gets about ten times as much time
DEAD = "DataLoader worker"  # beginning of torch's message when one of its processes is gone
BatchT = TypeVar("BatchT")
log = logging.getLogger(__name__)


class ImageRequest(NamedTuple):
    """A request for an image, with all that a loading process needs to know of the pass."""

    position: int
    epoch: int
    is_sound: bool  # whether its file was decoded completely before, without an error


class BadFile(NamedTuple):
    """An image that cannot be decoded or transformed."""

    position: int
    path: Path
    reason: str


class LoadedBatch(NamedTuple):
    """A batch of images."""

    pixels: Tensor | None  # pixels of readable images, (B, …) uint8. None: no image could be read
    bad: list[BadFile]  # the other images

    @classmethod
    def from_parts(cls, parts: "Sequence[LoadedBatch]") -> "LoadedBatch":
        """Return the parts of a batch as one, in pinned memory if this process uses a GPU."""
        pixels = [part.pixels for part in parts if part.pixels is not None]
        bad = [file for part in parts for file in part.bad]
        return cls(join_batches(pixels) if pixels else None, bad)


def collate(
    items: Sequence[Tensor | BadFile], stack: Callable[[Sequence[Tensor]], Tensor] = stack_images
) -> LoadedBatch:
    """Return the images of a batch as one tensor."""
    good = [item for item in items if isinstance(item, Tensor)]
    bad = [item for item in items if isinstance(item, BadFile)]
    return LoadedBatch(stack(good) if good else None, bad)


class NoRoomError(Exception):
    """The pixels of a part of a batch found no room in shared memory, so the part is lost.

    Args:
        nbytes: size of the pixels; 0 if the loading processes could not start.
        reason: as torch or the system gives it.
    """

    def __init__(self, nbytes: int, reason: str) -> None:
        super().__init__(nbytes, reason)
        self.nbytes, self.reason = nbytes, reason


def collate_shared(items: Sequence[Tensor | BadFile]) -> LoadedBatch | NoRoomError:
    """Make a part of a batch in a loading process, its pixels in shared memory.

    Torch would move them there in a thread, and lose the part if that fails.
    """
    try:
        return collate(items, _stack_shared)
    except NoRoomError as error:
        return error  # torch would raise it as a RuntimeError without its fields


def _stack_shared(images: Sequence[Tensor]) -> Tensor:
    """Stack images in shared memory, without a copy in ordinary memory."""
    first = images[0]
    nbytes = len(images) * first.nbytes
    try:
        storage = torch.UntypedStorage._new_shared(nbytes)  # type: ignore[no-untyped-call]  # noqa: SLF001  # as default_collate
    except RuntimeError as error:  # as torch reports a full /dev/shm and too many open files
        reason = first_line(error)  # a trace may follow
        raise NoRoomError(nbytes, reason) from error
    shared = torch.empty(0, dtype=first.dtype).set_(storage).view(len(images), *first.shape)
    return stack_into(shared, images)


def describe_shortage(processes: int, error: NoRoomError) -> str:
    """Return why so many loading processes cannot put batches in shared memory, and what helps."""
    if os.strerror(errno.ENOSPC) in error.reason:
        return _describe_full(processes, error.nbytes)
    if os.strerror(errno.EMFILE) in error.reason:
        return f"{error.reason}. Raise the limit of open files (ulimit -n) or set num_threads: 0"
    return error.reason


def _describe_full(processes: int, batch_bytes: int) -> str:
    """Return how much shared memory there is, how much loading takes, and what helps."""
    try:
        usage = shutil.disk_usage(SHARED_MEMORY)
        reason = f"{SHARED_MEMORY} has {format_bytes(usage.total)}"
    except OSError as error:
        reason = f"{SHARED_MEMORY} cannot be used ({error.strerror})"
    if batch_bytes:
        parts = PREFETCHED * processes + 1  # the last one is in use
        reason += (
            f", and {processes} processes keep {parts} parts of batches of "
            f"{format_bytes(batch_bytes)} in it"
        )
    return (
        f"{reason}. Set num_threads: 0 or a smaller number, or give the container more shared "
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


def _lower_priority(first: int, number: int) -> None:
    """Let this process yield to jobs that reserve its core, if its number is at least `first`."""
    if number >= first:
        os.nice(NICENESS)


class LoadingProcesses(Generic[BatchT]):
    """Processes with a copy of a dataset; they end with this object.

    Args:
        dataset: returns an item for a request; must not refer to this object.
        processes: their number.
        collate_items: makes a batch of items.
        nice_from: the number of the first process with a lower priority. None: none has.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        processes: int,
        collate_items: Callable[[Sequence[Any]], BatchT],
        nice_from: int | None = None,
    ) -> None:
        self.count, self.nice_from = processes, nice_from
        self._groups = _Groups()
        # None during a pass: if the pass is left or fails, its processes end
        self._loader: DataLoader[BatchT] | None = DataLoader(
            dataset,
            batch_sampler=self._groups,
            num_workers=processes,
            prefetch_factor=PREFETCHED,
            collate_fn=collate_items,
            persistent_workers=True,
            worker_init_fn=None if nice_from is None else partial(_lower_priority, nice_from),
            generator=torch.Generator(),  # else a pass would draw from torch's global generator
        )

    @property
    def is_free(self) -> bool:
        """Whether a pass can begin: no pass is running, was left, or failed."""
        return self._loader is not None

    def load(
        self, groups: Sequence[Sequence[Any]], describe: Callable[[int], str] | None = None
    ) -> Iterator[BatchT]:
        """Start a pass: a batch for each group of requests, in their order.

        Args:
            groups: the requests.
            describe: returns a description of the group with this number. None logs no long waits.

        Raises:
            MachineError: a process died.
        """
        loader, self._loader = self._loader, None
        if loader is None:
            raise ValueError("these processes are still in use")
        self._groups.groups = groups
        return self._passing(loader, describe)

    def _passing(
        self, loader: DataLoader[BatchT], describe: Callable[[int], str] | None
    ) -> Iterator[BatchT]:
        with _death_as_machine_error():
            try:
                batches = _DEATHS.start(loader)  # forks; the thread that watches begins later
                with stalls_reported(describe) as waiting:
                    for number in count():
                        with waiting(number), _DEATHS.raise_deaths():
                            batch = next(batches, ENDED)
                        if batch is ENDED:
                            break
                        yield batch
                self._loader = loader
            finally:  # without references torch ends the processes; an error would keep these
                batches = iter(())
                del loader


@contextlib.contextmanager
def _death_as_machine_error() -> Iterator[None]:
    """Raise a MachineError for errors of torch that a loading process died.

    One that dies while it hands over a batch closes the connection.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith(DEAD):
            raise
        cause = str(error).rstrip(". ")
    else:
        return
    raise MachineError(  # without the error of torch, whose traceback keeps the other processes
        f"a process that loads images died ({cause}). If it ran out of memory, reduce "
        "num_threads. With 0, the process of the job loads the images."
    )


class _Deaths:
    """Deaths of loading processes, which raise an error only where the main thread waits for a batch.

    Torch's handler of SIGCHLD raises in any line of the main thread. That may be one after a lock was taken, such as
    that of `logging`, which then nobody releases.
    """

    def __init__(self) -> None:
        self._look: Callable[[int, None], object] | None = None  # raises if a process is dead
        self._waits = self._is_due = False

    def start(self, loader: DataLoader[BatchT]) -> Iterator[BatchT]:
        """Start a pass, and the processes if there are none."""
        before = signal.getsignal(signal.SIGCHLD)
        batches: Iterator[BatchT] = iter(loader)
        handler = signal.getsignal(signal.SIGCHLD)
        # torch sets it once, and in the main thread only
        if handler is not before and callable(handler):
            self._look = handler
            signal.signal(signal.SIGCHLD, self._handle)
        return batches

    @contextlib.contextmanager
    def raise_deaths(self) -> Iterator[None]:
        """Raise the RuntimeError of torch in this block for processes that died before or die in it.

        In other threads torch notices a death after five seconds.
        """
        if self._look is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        try:
            self._waits = True
            if self._is_due:
                self._handle()
            yield
        finally:
            self._waits = False

    def _handle(self, *_: object) -> None:
        self._is_due = not self._waits
        if self._waits and self._look is not None:
            self._waits = False  # one error is enough
            self._look(signal.SIGCHLD, None)
            self._waits = True


_DEATHS = _Deaths()


class ImageReader(Protocol):
    """Images that are decoded and transformed on request, here or in processes."""

    @property
    def loads_alone(self) -> bool:
        """Whether this process loads the images, because loading processes lack shared memory."""

    def items(
        self, requests: Sequence[ImageRequest], leave: threading.Event | None = None
    ) -> Iterator[Tensor | BadFile]:
        """Yield an item for each request. Items after `leave` is set are not used."""

    def processes(
        self, count: int, nice_from: int | None = None
    ) -> LoadingProcesses[LoadedBatch | NoRoomError]:
        """Return processes that read these images, see `LoadingProcesses`."""

    def end_loading_processes(self) -> None:
        """End these processes, and start no others."""

    def file(self, position: int) -> str:
        """Return the path of an image."""


def load_batches(
    reader: ImageReader,
    requests: Sequence[Sequence[ImageRequest]],
    num_threads: int,
    *,
    nice_from: int | None = None,
) -> Iterator[LoadedBatch]:
    """Load batches ahead of those who take them: in processes, or in a thread of this one.

    Args:
        reader: decodes and transforms.
        requests: of each batch.
        num_threads: loading processes. 0 loads in a thread of this process, which alone fills the
            cache.
        nice_from: number of the first process with a lower priority, see `LoadingProcesses`.

    Raises:
        MachineError: a loading process died.
    """
    # more processes than cores would wait for each other, and torch would warn in each pass
    processes = min(num_threads, len(os.sched_getaffinity(0)))
    if processes == 0 or reader.loads_alone:
        return _load_here(reader, requests)
    loaded = _load_in_processes(reader, requests, processes, nice_from)
    return prefetch(lambda _: loaded) if uses_gpu() else loaded


def _load_here(
    reader: ImageReader, requests: Sequence[Sequence[ImageRequest]], first: int = 0
) -> Iterator[LoadedBatch]:
    """Load the batches from number `first` on in a thread of this process."""
    make = partial(_load_in_this_process, reader, requests[first:])
    whole = [BatchPart(number, batch, is_last=True) for number, batch in enumerate(requests)]
    describe = partial(_describe, reader, whole[first:], len(requests))
    return prefetch(make, describe=describe)


def _load_in_processes(
    reader: ImageReader,
    requests: Sequence[Sequence[ImageRequest]],
    processes: int,
    nice_from: int | None,
) -> Iterator[LoadedBatch]:
    """Load in processes. After a part that finds no room in shared memory, load in this process."""
    number, unshared = 0, None
    parts = split_batches(requests)
    describe = partial(_describe, reader, parts, len(requests))
    groups = [part.requests for part in parts]
    try:
        with closing(reader.processes(processes, nice_from).load(groups, describe)) as loaded:
            waiting: list[LoadedBatch] = []
            for part, result in zip(parts, loaded, strict=True):
                if isinstance(result, NoRoomError):
                    unshared = result
                    break
                waiting.append(result)
                if part.is_last:
                    batch, waiting = LoadedBatch.from_parts(waiting), []
                    number += 1
                    yield batch
    except OSError as error:  # not even the processes' locks have room
        if error.errno != errno.ENOSPC:
            raise
        unshared = NoRoomError(0, os.strerror(error.errno))
    if unshared is None:
        return
    shortage = describe_shortage(processes, unshared)
    reader.end_loading_processes()
    log.warning("state=images are loaded in the process of the job reason=%s", shortage)
    yield from _load_here(reader, requests, number)


class BatchPart(NamedTuple):
    """The images of a batch that one process loads."""

    batch: int  # its number, from 0
    requests: Sequence[ImageRequest]
    is_last: bool  # whether it is the last part of its batch


def split_batches(batches: Sequence[Sequence[ImageRequest]]) -> list[BatchPart]:
    """Return batches in parts of at most PART images, which differ by one image at most."""
    parts = []
    for number, batch in enumerate(batches):
        count = max(1, -(-len(batch) // PART))
        ends = [len(batch) * at // count for at in range(count + 1)]
        for begin, end in pairwise(ends):
            parts.append(BatchPart(number, batch[begin:end], end == len(batch)))
    return parts


def _load_in_this_process(
    reader: ImageReader, requests: Sequence[Sequence[ImageRequest]], leave: threading.Event
) -> Iterator[LoadedBatch]:
    for batch in requests:
        items = []
        for item in reader.items(batch, leave):
            if leave.is_set():
                return
            items.append(item)
        yield collate(items)


def _describe(reader: ImageReader, parts: Sequence[BatchPart], batches: int, number: int) -> str:
    """Return the number of the batch of a part, and the path of the first image of the part."""
    if number >= len(parts):
        return "the end of the pass"
    files = (reader.file(request.position) for request in parts[number].requests)
    first = next((f", which starts with {file}" for file in files), "")
    return f"batch {parts[number].batch + 1} of {batches}{first}"
