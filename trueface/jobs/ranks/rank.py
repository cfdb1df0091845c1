"""One rank: a process that computes its part of a training and reports its result.

A message between a rank and the main process of its job is one of the names below and a content.
"""

import contextlib
import importlib
import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from launcher.api import Error, Job, JobError, Json, MachineError, Share, UsageError, VramLimit
from trueface.data.loading.loader import Shard
from trueface.runtime import logs, memory
from trueface.runtime.process_pool import end_with_parent
from trueface.training.distributed import ProcessGroup

# from a rank
PROGRESS, LOG, MEMORY, DONE, FAILED = "progress", "log", "memory", "done", "failed"
# to a rank
STOP, LIMIT = "stop", "limit"

# the job's own process sees a rank that dies; a slow disk must not end the others
PATIENCE = timedelta(days=7)
INTERFACE = "GLOO_SOCKET_IFNAME"  # all ranks are on one machine, whose name need not resolve
# messages of gloo, NCCL and torch if another process has ended
_LOST = (
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "remote process exited",
)
_KINDS = {UsageError.exit_code: UsageError, MachineError.exit_code: MachineError}

Entry = Callable[[Job, ProcessGroup], Mapping[str, Json]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPlace:
    """One rank's place among the processes of a job."""

    rank: int
    size: int
    device: str  # "cpu", or the rank's own GPU, such as "cuda:1"
    cpus: int  # cores of the rank
    meeting: str  # path of the file through which the ranks find each other

    @property
    def backend(self) -> str:
        """The torch.distributed backend that averages the gradients."""
        return "nccl" if self.device.startswith("cuda") else "gloo"

    @property
    def name(self) -> str:
        """How messages call the rank."""
        return f"rank {self.rank} of {self.size} ({self.device})"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankWork:
    """The specification that all ranks of a job receive."""

    entry: str  # `module:function`; see `Entry`
    job_of: Callable[..., Job]  # creates the job from the fields that differ between processes
    places: tuple[RankPlace, ...]
    channels: tuple[Connection, ...]  # to the job's own process, one a rank
    environment: Mapping[str, str]
    start_method: str  # start method of the processes that load a rank's images


class Failure(NamedTuple):
    """Why a rank did not come to its end."""

    at: float  # time on the clock that all processes of a machine share, in seconds
    kind: type[Exception]  # error that the job's own process raises for it
    text: str
    is_reported: bool = False  # errors of this package, whose messages need no rank
    is_peer_loss: bool = False  # it missed another rank: that one's failure came first

    @classmethod
    def from_exception(cls, error: BaseException) -> "Failure":
        """Return the failure of an exception. The traceback of an unexpected one is printed.

        Lack of memory keeps its type, so that the launcher recognises it at the end of the job.
        """
        now = time.monotonic()
        if isinstance(error, Error):
            return cls(now, _KINDS.get(error.exit_code, JobError), str(error), is_reported=True)
        for kind in (torch.OutOfMemoryError, MemoryError):
            if isinstance(error, kind):
                return cls(now, kind, str(error))
        text = f"{type(error).__name__}: {error}"
        lost = any(words in text.casefold() for words in _LOST)
        if not lost:
            traceback.print_exception(error)
        return cls(now, JobError, text, is_peer_loss=lost)

    @classmethod
    def from_exit_code(cls, code: int) -> "Failure":
        """Return the failure of a process that ended without a word.

        Args:
            code: as `Process.exitcode` has it: negative where a signal ended it.
        """
        how = f"ended with exit code {code}"
        if code < 0:
            # launcher reads these words as a kill by the kernel for lack of memory
            how = f"is killed by signal: {signal.strsignal(-code)}"
        return cls(time.monotonic(), JobError, f"its process {how}")

    def error(self, name: str) -> Exception:
        """Return the error that the job's own process raises for it.

        Args:
            name: of the rank.
        """
        return self.kind(self.text if self.is_reported else f"{name}: {self.text}")


class Channel:
    """Channel from a rank to the main process of its job. Thread-safe, because several threads may log."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()

    def send(self, name: str, content: Any) -> None:
        """Send a message.

        Raises:
            OSError: the other process has ended.
        """
        with self._lock:
            self._connection.send((name, content))


class RankShare(Share):
    """Memory limit of a rank's GPU, as the main process sends it, and reports of its usage."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel
        self.limit = VramLimit()

    def vram_limit(self) -> VramLimit:
        """Return the current GPU memory limit of the rank."""
        return self.limit

    def report(
        self,
        *,
        reserved_bytes: int,
        peak: int,
        context: int | None = None,
        uuid: str | None = None,
        cards: Mapping[str, int] | None = None,  # noqa: ARG002  # a rank has one
        last: bool = False,
    ) -> None:
        """Report what the rank takes; the job's own process reports for all of them."""
        amounts = {"reserved": reserved_bytes, "peak": peak, "context": context}
        self._channel.send(MEMORY, {**amounts, "uuid": uuid, "last": last})


class Forwarding(logging.Handler):
    """Sends the log of a rank to the job's own process, where it is shown and kept."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(logging.INFO)
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line."""
        self._channel.send(LOG, (record.name, record.levelno, record.getMessage()))


def ignore_signals() -> None:
    """Ignore signals to the job's process group, which the main process handles."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def main(number: int, work: RankWork) -> None:
    """Do a rank's part of the work; the first rank's result is that of the job.

    Args:
        number: of the rank, from 0.
        work: of all ranks.
    """
    ignore_signals()
    end_with_parent()
    for other in {*work.channels} - {connection := work.channels[number]}:
        other.close()  # its end would not be seen while another rank holds it
    os.environ.clear()
    os.environ.update(work.environment)
    os.environ.setdefault(INTERFACE, "lo")
    multiprocessing.set_start_method(
        work.start_method, force=True
    )  # otherwise that of the rank itself
    channel, rank = Channel(connection), work.places[number]
    try:
        job = job_of_rank(work, rank, channel)
        threading.Thread(target=_listen, args=(connection, job), daemon=True).start()
        # the first one's log is the job's; those of the others would say the same again
        logs.root().addHandler(Forwarding(channel) if number == 0 else logging.NullHandler())
        module, _, function = work.entry.partition(":")
        entry: Entry = getattr(importlib.import_module(module), function)
        with _meeting(rank) as group:
            result = entry(job, group)
        channel.send(DONE, dict(result))
    except BaseException as error:  # noqa: BLE001  # the rank's top: whatever it was is told
        with contextlib.suppress(OSError):
            channel.send(FAILED, Failure.from_exception(error))
        os._exit(1)  # who waits for other ranks could not leave in order


def job_of_rank(work: RankWork, rank: RankPlace, channel: Channel) -> Job:
    """Return the job of a rank: with its own device and cores, and read by its job's own process alone."""

    def progress(*, step: int, total: int | None = None, **metrics: float | str) -> None:
        if rank.rank == 0:  # the job's progress is that of rank 0
            channel.send(PROGRESS, {"step": step, "total": total, **metrics})

    return work.job_of(
        device=rank.device,
        cpus=rank.cpus,
        progress=progress,
        stop=threading.Event(),
        share=RankShare(channel),
    )


def obey(job: Job, name: str, content: Any) -> None:
    """Execute the requests of the main process in a rank."""
    if name == STOP:
        job.stop.set()
    elif name == LIMIT and isinstance(job.share, RankShare):
        job.share.limit = content


def _listen(connection: Connection, job: Job) -> None:
    """Follow the messages of the main process, and exit at once when it has ended."""
    try:
        while True:
            obey(job, *connection.recv())
    except (EOFError, OSError):
        os._exit(1)


@contextlib.contextmanager
def _meeting(rank: RankPlace) -> Iterator[ProcessGroup]:
    """Join the other ranks of the job, and leave together with them.

    Raises:
        UsageError: there are fewer GPUs than ranks.
        JobError: torch cannot use the rank's GPU, or it is not the reserved one.
    """
    if rank.device != "cpu":
        _take_card(rank)
    # not declared as exported, though documented
    store = dist.FileStore(rank.meeting, rank.size)  # type: ignore[attr-defined]
    dist.init_process_group(
        rank.backend,
        store=store,
        rank=rank.rank,
        world_size=rank.size,
        timeout=PATIENCE,
    )
    control = dist.new_group(backend="gloo", timeout=PATIENCE)
    assert isinstance(control, dist.ProcessGroup)  # this rank is in it
    shard = Shard(rank=rank.rank, size=rank.size)
    yield ProcessGroup(shard, control=control, backend=rank.backend)
    dist.barrier(group=control)
    dist.destroy_process_group()


def _take_card(rank: RankPlace) -> None:
    number, there = torch.device(rank.device).index or 0, torch.cuda.device_count()
    if 0 < there <= number:
        raise UsageError(
            f"{rank.name}: this job has {there} GPU{'s' * (there > 1)}. Request as many GPUs as "
            f"processes, or set processes: {there}"
        )
    memory.confirm_device(number, os.environ)
    torch.cuda.set_device(number)  # otherwise a rank would also allocate memory of the first GPU
