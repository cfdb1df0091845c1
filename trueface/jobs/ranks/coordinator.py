"""Several processes for one training: start them, forward their messages, end them together.

The main process of the job computes nothing. It alone writes the job's progress and memory use, receives
the request to stop, and detects the end of each rank. The first failure ends the training with its
message. All ranks end with this process, however it ends.

The ranks are forks of multiprocessing's fork server, which imports torch once and is kept for the next
training of this process.
"""

import contextlib
import logging
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from multiprocessing import connection, forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import torch.multiprocessing

from launcher.api import Job, Json, MachineError, VramLimit
from trueface.jobs.ranks import rank as ranks
from trueface.jobs.ranks.rank import (
    DONE,
    FAILED,
    LIMIT,
    LOG,
    MEMORY,
    PROGRESS,
    STOP,
    Failure,
    RankPlace,
    RankWork,
)

PRELOADED = "trueface.jobs.ranks.preloading"
# fields of a job that differ between its processes
FIELDS_PER_RANK = frozenset({"progress", "stop", "share", "device", "cpus"})
POLL_INTERVAL_S = 0.2  # for a wish to stop, and for another limit
GRACE_S = (
    1.0  # seconds from the first failure until the other ranks are killed: they may report details
)
WAIT_S = 10.0  # seconds until a killed process must have ended
RETRY_S = 0.02  # seconds between two checks for it
LOST = 255  # exit code that multiprocessing reports for a fork whose server has ended
LOST_SERVER = "the process that started the ranks of this training has ended"

log = logging.getLogger(__name__)
_start: Any = torch.multiprocessing.start_processes  # type: ignore[attr-defined]  # and untyped


def rank_places(job: Job, size: int, meeting: str) -> tuple[RankPlace, ...]:
    """Return the places of all ranks. Cores are divided, and each rank has its own GPU."""
    kind, _, number = job.device.partition(":")
    return tuple(
        RankPlace(
            rank=rank,
            size=size,
            device=job.device if kind == "cpu" else f"{kind}:{int(number or 0) + rank}",
            cpus=max(1, job.cpus // size),
            meeting=meeting,
        )
        for rank in range(size)
    )


def run(job: Job, entry: str, size: int) -> Mapping[str, Json]:
    """Return the result of the first of `size` ranks that do a job together.

    Args:
        job: whose device is the first rank's; the others have the next ones, or the CPU.
        entry: `module:function`, called in each rank with its job and its group.
        size: how many.

    Raises:
        Error: as the rank raised it that failed first.
        torch.OutOfMemoryError, MemoryError: a rank had too little memory.
        JobError: a rank ended in another way.
        MachineError: no rank could be started.
    """
    with tempfile.TemporaryDirectory(prefix="trueface-ranks-") as folder:
        every = rank_places(job, size, str(Path(folder) / "meeting"))
        log.info("processes=%d backend=%s device=%s", size, every[0].backend, job.device)
        coordinator = Coordinator(job, start_ranks(job, entry, every))
        try:
            return coordinator.result()
        finally:
            coordinator.end()


@dataclass(slots=True, kw_only=True)
class Rank:
    """State of a rank in the main process of the job."""

    place: RankPlace
    process: BaseProcess
    channel: Connection | None  # None: all messages were read
    lives: bool = True
    memory: dict[str, Any] | None = None  # its last report
    result: dict[str, Json] | None = None
    failure: Failure | None = None


def start_ranks(job: Job, entry: str, every: tuple[RankPlace, ...]) -> list[Rank]:
    """Start the ranks of a job at their places. The other arguments are those of `run`.

    Raises:
        MachineError: the fork server has ended; its output says why.
    """
    pairs = [connection.Pipe() for _ in every]
    work = RankWork(
        entry=entry,
        job_of=job_of(job),
        places=every,
        channels=tuple(theirs for _, theirs in pairs),
        environment=dict(os.environ),
        start_method=multiprocessing.get_start_method(),
    )
    try:
        processes = _fork(work)
    except (EOFError, OSError) as error:
        raise MachineError(
            "the process that starts the ranks of this training has ended. See its output above."
        ) from error
    finally:
        for theirs in work.channels:
            theirs.close()
    return [
        Rank(place=rank, process=process, channel=ours)
        for rank, process, (ours, _) in zip(every, processes, pairs, strict=True)
    ]


def job_of(job: Job) -> partial[Job]:
    """Return a function that recreates a job in a rank, which adds its own fields."""
    names = [field.name for field in fields(job) if field.name not in FIELDS_PER_RANK]
    return partial(type(job), **{name: getattr(job, name) for name in names})


def _fork(work: RankWork) -> list[BaseProcess]:
    deadline = time.monotonic() + WAIT_S
    while True:
        _serve()
        try:
            with _without_main():
                context = _start(
                    ranks.main, (work,), len(work.places), join=False, start_method="forkserver"
                )
            return list(context.processes)
        except ConnectionRefusedError:
            # a server that is killed loses its socket before it can be waited for; until then it counts as living
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_S)


def _serve() -> None:
    """Start the fork server of this process, unless it lives: it finds the modules that this one finds."""
    forkserver.set_forkserver_preload([PRELOADED])
    path = os.pathsep.join(folder or os.curdir for folder in sys.path)
    with _environment({"PYTHONSAFEPATH": "1", "PYTHONPATH": path}):
        forkserver.ensure_running()


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, text in before.items():
            if text is None:
                del os.environ[name]
            else:
                os.environ[name] = text


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Let no process that is started run the program of this one again, which need not be guarded."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class Coordinator:
    """The ranks of a job, from their start to their end."""

    def __init__(self, job: Job, started_ranks: list[Rank]) -> None:
        self._job, self._ranks = job, started_ranks
        self._limit = VramLimit()
        self._stop_sent = False

    def result(self) -> Mapping[str, Json]:
        """Wait until all have ended, and return the first rank's result; see `run`."""
        kill_at: float | None = None
        while any(rank.lives for rank in self._ranks):
            self._forward_orders()
            self._poll_ranks()
            if kill_at is None and any(rank.failure for rank in self._ranks):
                kill_at = time.monotonic() + GRACE_S
            if kill_at is not None and time.monotonic() >= kill_at:
                break
        failures = [
            (rank.failure, rank.place.name) for rank in self._ranks if rank.failure is not None
        ]
        if failures:
            raise cause_of(failures)
        return self._ranks[0].result or {}

    def end(self) -> None:
        """Kill the ranks that are still running, and wait for their end."""
        deadline = time.monotonic() + WAIT_S
        for rank in self._ranks:
            if rank.lives:
                rank.process.kill()
        while any(rank.lives for rank in self._ranks) and time.monotonic() < deadline:
            self._poll_ranks()
        for rank in self._ranks:
            if rank.channel is not None:
                rank.channel.close()
            if not rank.lives:
                rank.process.close()  # closing ends it for certain; see `end_with_parent`

    def _forward_orders(self) -> None:
        """Forward the stop request and memory limits of the job to the ranks."""
        if self._job.stop.is_set() and not self._stop_sent:
            self._stop_sent = True
            self._broadcast(STOP)
        limit = self._job.share.vram_limit()
        if limit != self._limit:
            self._limit = limit
            self._broadcast(LIMIT, limit)

    def _broadcast(self, name: str, content: Any = None) -> None:
        for rank in self._ranks:
            if rank.channel is not None:
                with contextlib.suppress(OSError):  # it has ended, which is seen soon
                    rank.channel.send((name, content))

    def _poll_ranks(self) -> None:
        """Read messages of the ranks and detect ranks that have ended."""
        channels = {rank.channel: rank for rank in self._ranks if rank.channel is not None}
        sentinels = {rank.process.sentinel: rank for rank in self._ranks if rank.lives}
        for ready in connection.wait([*channels, *sentinels], POLL_INTERVAL_S):
            if isinstance(ready, Connection):
                self._read(channels[ready])
            elif isinstance(ready, int):
                self._handle_exit(sentinels[ready])

    def _read(self, rank: Rank) -> None:
        """Take in one message of a rank."""
        if rank.channel is None:
            return
        try:
            name, content = rank.channel.recv()
        except (EOFError, OSError):
            rank.channel.close()
            rank.channel = None
        else:
            self._handle_message(rank, name, content)

    def _handle_exit(self, rank: Rank) -> None:
        """Record the end of a rank, after reading its last messages."""
        # its loader processes may keep its end of the channel open some seconds longer
        while rank.channel is not None and rank.channel.poll():
            self._read(rank)
        rank.lives = False
        code = rank.process.exitcode
        if rank.result is not None or rank.failure is not None or code is None:
            return
        rank.failure = Failure.from_exit_code(code)
        if code == LOST:
            rank.failure = rank.failure._replace(text=LOST_SERVER)

    def _handle_message(self, rank: Rank, name: str, content: Any) -> None:
        if name == PROGRESS:
            self._job.progress(**content)
        elif name == LOG:
            logger, level, text = content
            logging.getLogger(logger).log(level, "%s", text)
        elif name == MEMORY:
            rank.memory = content
            self._report(last=content["last"])
        elif name == DONE:
            rank.result = content
        elif name == FAILED:
            rank.failure = content

    def _report(self, *, last: bool) -> None:
        """Report the memory of all ranks: the maximum of one GPU, and the usage of each GPU."""
        reports = [rank.memory for rank in self._ranks if rank.memory is not None]
        self._job.share.report(
            reserved_bytes=max(report["reserved"] for report in reports),
            peak=max(report["peak"] for report in reports),
            cards={report["uuid"]: report["reserved"] for report in reports if report["uuid"]},
            last=last,
        )


def cause_of(failures: list[tuple[Failure, str]]) -> Exception:
    """Return the error for the failure that ended a training: the first that is not the loss of another rank.

    Args:
        failures: and the names of their ranks, one at least.
    """
    failure, name = min(failures, key=lambda each: (each[0].is_peer_loss, each[0].at))
    return failure.error(name)
