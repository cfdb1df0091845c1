"""Several processes for one training: start them, pass on what they tell, end them all together.

The job's own process does no computing. It alone writes the job's progress and memory use, hears that
the job is to stop, and sees each rank's end. The first failure ends the training with its message; no
rank outlives this process, however that ends: a rank whose channel is closed ends itself.
"""

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from launcher.api import Job, Json, VramLimit
from trueface.jobs.ranks.failures import Failure, cause_of, error_of
from trueface.jobs.ranks.messages import (
    DONE,
    FAILED,
    LIMIT,
    LOG,
    MEMORY,
    PROGRESS,
    STOP,
    TASK,
    Channel,
    Message,
)
from trueface.jobs.ranks.rank_job import facts_of
from trueface.jobs.ranks.server_client import server
from trueface.jobs.ranks.world import Place, places

LOOK_EVERY_S = 0.2  # for a wish to stop, and for another limit
GRACE_S = 1.0  # from the first failure until the other ranks are killed: they may tell more of it
WAIT_S = 10.0  # for a killed process to be gone
LOST_SERVER = "the process that started the ranks of this training has ended"

log = logging.getLogger(__name__)


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
    """
    with tempfile.TemporaryDirectory(prefix="trueface-ranks-") as folder:
        ranks = _Ranks(job)
        try:
            every = places(job, size, str(Path(folder) / "meeting"))
            log.info("processes=%d backend=%s device=%s", size, every[0].backend, job.device)
            for place in every:
                ranks.start(place, entry)
            return ranks.result()
        finally:
            ranks.end()


@dataclass(slots=True, kw_only=True)
class _Rank:
    """What the job's own process knows of a rank."""

    place: Place
    channel: Channel | None  # None: all that it told was read
    lives: bool = True
    memory: dict[str, Any] | None = None  # its last report
    result: dict[str, Json] | None = None
    failure: Failure | None = None


class _Ranks:
    """The ranks of a job, by pid."""

    def __init__(self, job: Job) -> None:
        self._job, self._server = job, server()
        self._ranks: dict[int, _Rank] = {}
        self._limit = VramLimit()
        self._told_to_stop = False

    def start(self, place: Place, entry: str) -> None:
        """Start a rank."""
        pid, channel = self._server.fork()
        self._ranks[pid] = _Rank(place=place, channel=channel)
        task = {
            "place": asdict(place),
            "entry": entry,
            "job": facts_of(self._job),
            "environment": dict(os.environ),
            "folder": str(Path.cwd()),
        }
        with contextlib.suppress(OSError):  # it has ended, which is seen soon
            channel.send(TASK, task)

    def result(self) -> Mapping[str, Json]:
        """Wait until all have ended, and return the first rank's result; see `run`."""
        kill_at: float | None = None
        while any(rank.lives for rank in self._ranks.values()):
            self._pass_on()
            self._look()
            if kill_at is None and self._failures():
                kill_at = time.monotonic() + GRACE_S
            if kill_at is not None and time.monotonic() >= kill_at:
                break
        if failures := self._failures():
            raise error_of(*cause_of(failures))
        return next(iter(self._ranks.values())).result or {}

    def end(self) -> None:
        """Kill those that still live, and see them gone."""
        deadline = time.monotonic() + WAIT_S
        for pid, rank in self._ranks.items():
            if rank.lives:
                self._server.kill(pid)
        while any(rank.lives for rank in self._ranks.values()) and time.monotonic() < deadline:
            self._look()
        for rank in self._ranks.values():
            if rank.channel is not None:
                rank.channel.connection.close()

    def _failures(self) -> dict[str, Failure]:
        ranks = self._ranks.values()
        return {rank.place.name: rank.failure for rank in ranks if rank.failure is not None}

    def _pass_on(self) -> None:
        """Tell the ranks what the job's own process hears."""
        if self._job.stop.is_set() and not self._told_to_stop:
            self._told_to_stop = True
            self._tell(STOP)
        limit = self._job.share.vram_limit()
        if limit != self._limit:
            self._limit = limit
            self._tell(LIMIT, limit._asdict())

    def _tell(self, name: str, content: Any = None) -> None:
        for rank in self._ranks.values():
            if rank.channel is not None:
                with contextlib.suppress(OSError):  # it has ended, which is seen soon
                    rank.channel.send(name, content)

    def _look(self) -> None:
        """Take in what the ranks tell, and which have ended."""
        ranks = [rank for rank in self._ranks.values() if rank.channel is not None]
        readable = [rank.channel.connection for rank in ranks if rank.channel is not None]
        ready = connection.wait([*readable, self._server.control], LOOK_EVERY_S)
        for rank, channel in zip(ranks, readable, strict=True):
            if channel in ready:
                self._read(rank)
        if self._server.kept or self._server.control in ready:
            self._take_ends()

    def _read(self, rank: _Rank) -> None:
        """Take in one message of a rank."""
        if rank.channel is None:
            return
        try:
            message = rank.channel.receive()
        except (EOFError, OSError):
            rank.channel.connection.close()
            rank.channel = None
        else:
            self._take(rank, message)

    def _take_ends(self) -> None:
        """Take in which ranks have ended, after all that they told."""
        ended = self._server.ended()
        if ended is None:
            now = time.monotonic()
            for rank in self._ranks.values():
                rank.lives = False
                rank.failure = rank.failure or Failure(at=now, sort="other", text=LOST_SERVER)
            return
        for end in ended:
            if end["pid"] in self._ranks:  # else of an earlier training
                self._take_end(self._ranks[end["pid"]], end["code"])

    def _take_end(self, rank: _Rank, code: int) -> None:
        # its loading processes may hold its end of the channel some seconds longer
        while rank.channel is not None and rank.channel.connection.poll():
            self._read(rank)
        rank.lives = False
        if rank.result is None and rank.failure is None:
            rank.failure = Failure.ended(code, time.monotonic())

    def _take(self, rank: _Rank, message: Message) -> None:
        content = message.content
        if message.name == PROGRESS:
            self._job.progress(**content)
        elif message.name == LOG:
            name, level, text = content
            logging.getLogger(name).log(level, "%s", text)
        elif message.name == MEMORY:
            rank.memory = content
            self._report(last=content["last"])
        elif message.name == DONE:
            rank.result = content
        elif message.name == FAILED:
            rank.failure = Failure.read(content)

    def _report(self, *, last: bool) -> None:
        """Report the memory of all ranks: the most on one card, and what each takes of its own."""
        reports = [rank.memory for rank in self._ranks.values() if rank.memory is not None]
        self._job.share.report(
            reserved=max(report["reserved"] for report in reports),
            peak=max(report["peak"] for report in reports),
            cards={report["uuid"]: report["reserved"] for report in reports if report["uuid"]},
            last=last,
        )
