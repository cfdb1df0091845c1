"""What a simulated policy knows of the memory that a job will take, and one machine of a simulated cluster.

A job has all its GPUs on one machine, and the policy decides for that alone.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Protocol

from launcher.gpu.snapshot import GpuSnapshot
from launcher.scheduler.policy.decide import Policy
from launcher.scheduler.policy.disciplines import Discipline
from launcher.scheduler.policy.model import Machine, Need, Waiting
from launcher.scheduler.policy.vram_request import vram_request_of
from launcher.simulate.trace import TraceJob
from launcher.store.usage import NEWEST, Usage, margin_of
from launcher.system.gpu_sharing import Rules

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


PLENTY = 1 << 50  # cores, and bytes of main memory: neither is ever short in a simulation

Ask = tuple[int, Key, bool, str]  # what jobs ask for, and the group by which that is learned


class Node:
    """The cards of one machine, and the policy over them."""

    def __init__(self, gpus: Sequence[GpuSnapshot], rules: Rules, discipline: Discipline) -> None:
        """Begin with empty cards.

        Args:
            gpus: its cards; their indices count through the whole cluster.
            rules: how many jobs may share one.
            discipline: the policy.
        """
        machine = Machine(cpus=PLENTY, ram=PLENTY, ram_free=PLENTY, gpus=tuple(gpus), rules=rules)
        self.policy = Policy(machine, discipline=discipline, explain=False)
        self.cards = {gpu.uuid: gpu.index for gpu in gpus}
        self._uuids = {gpu.index: gpu.uuid for gpu in gpus}
        self._needs: dict[Ask, tuple[Need, ...]] = {}  # any of them will do

    def learn(self, ask: Ask, seen: Waiting) -> None:
        """Work out with what of its cards jobs can start, as far as it is known now.

        Args:
            ask: what these jobs ask for.
            seen: one of them.
        """
        self._needs[ask] = self.policy.inventory.asks(seen)[1]

    def has_room(self, ask: Ask) -> bool:
        """Tell whether a job that asks for this could start now, were it the first."""
        inventory = self.policy.inventory
        return any(inventory.lacks_gpu(need) is None for need in self._needs[ask])

    def others_take(self, card: int, amount: int) -> None:
        """Count memory of a card that others have taken since; less than 0: that they gave back."""
        self.policy.inventory.others_take(self._uuids[card], amount)
