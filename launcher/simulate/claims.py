"""What a job is promised of a card's memory: what a simulated policy knows of what it will take."""

from collections import deque
from dataclasses import replace
from enum import StrEnum
from typing import Protocol

from launcher.scheduler.policy.model import Waiting
from launcher.scheduler.policy.vram_request import vram_request_of
from launcher.simulate.trace import TraceJob
from launcher.store.usage import NEWEST, Usage, margin_of

PEAK_S = 60.0  # a job that shares a card takes its most memory within so long, and fails if that is too much

Key = tuple[str, int | None]  # by what claims differ: a group or nothing, and bytes


class Memory(StrEnum):
    """How much a policy knows of the memory that jobs will take."""

    KNOWN = "known"  # each job's claim, before it ran
    LEARNED = "learned"  # what jobs alike took that ended before


class Claims(Protocol):
    """Who tells what a job is promised.

    Attributes:
        learns: what it tells of jobs changes when others have ended.
    """

    learns: bool

    def key(self, job: TraceJob) -> Key:
        """Return what jobs have in common that are promised the same."""

    def told(self, job: TraceJob, waiting: Waiting) -> Waiting:
        """Return a job as the policy sees it, with its request."""

    def add(self, job: TraceJob) -> None:
        """Remember what a job took that has ended."""

    def failed(self, job: TraceJob) -> None:
        """Remember what a job wanted that was promised less."""


def claims(memory: Memory) -> Claims:
    """Return what tells claims at the beginning of a replay."""
    return _Learned() if memory is Memory.LEARNED else _Known()


class _Known:
    """Each job claims what it takes."""

    learns = False

    def key(self, job: TraceJob) -> Key:
        return "", job.vram

    def told(self, job: TraceJob, waiting: Waiting) -> Waiting:
        return replace(waiting, vram_request=job.vram)

    def add(self, job: TraceJob) -> None:
        pass

    def failed(self, job: TraceJob) -> None:
        pass


class WholeCards(_Known):
    """Each job claims all of a card, where policies give whole cards and all cards are alike.

    So jobs are the same that ask for as many cards, whatever memory they take.
    """

    def __init__(self, room: int) -> None:
        """Claim `room` bytes."""
        self._room = room

    def key(self, job: TraceJob) -> Key:  # noqa: ARG002  # as the others
        """Return the same for all jobs."""
        return "", self._room

    def told(self, job: TraceJob, waiting: Waiting) -> Waiting:  # noqa: ARG002
        """Return a job with its request: a card."""
        return replace(waiting, vram_request=self._room)


class _Learned:
    """The largest peak of the newest jobs alike, with a margin, as in the queue.

    Jobs are alike when they are of the same group and ask for as many GPUs. Until one of them has ended, each gets
    cards that it shares with none. One that was promised too little runs again with what it wanted.
    """

    learns = True

    def __init__(self) -> None:
        self._newest: dict[tuple[str, int], deque[int]] = {}
        self._least: dict[int, int] = {}

    def key(self, job: TraceJob) -> Key:
        return job.group, self._least.get(job.index, 0)

    def told(self, job: TraceJob, waiting: Waiting) -> Waiting:
        peaks = tuple(self._newest.get((job.group, job.gpus), ()))
        least = self._least.get(job.index, 0)
        request, source = vram_request_of(None, least, Usage(peaks=peaks))
        wanted = (job.vram or 0) if least else 0
        enough = None if request is None else max([wanted, *peaks])
        return replace(waiting, vram_request=request, source=source, enough=enough, least=wanted)

    def add(self, job: TraceJob) -> None:
        peaks = self._newest.setdefault((job.group, job.gpus), deque(maxlen=NEWEST))
        peaks.append(job.vram or 0)

    def failed(self, job: TraceJob) -> None:
        wanted = job.vram or 0
        self._least[job.index] = wanted + margin_of(wanted)
        self.add(job)
