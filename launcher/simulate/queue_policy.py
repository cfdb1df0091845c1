"""The scheduler's own policy as a queue of a simulation."""

from bisect import insort
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from typing import Protocol

from launcher.job import Resources
from launcher.scheduler.policy.decide import Policy
from launcher.scheduler.policy.model import Machine, Start, Waiting
from launcher.simulate.fleet import Fleet
from launcher.simulate.trace import TraceJob
from launcher.store.user_actions import rank_of
from launcher.system.gpu_sharing import Rules

PLENTY = 1 << 50  # cores, and bytes of main memory: neither is ever short in a simulation

_Lane = tuple[int, int | None, bool]  # what jobs ask for
_Entry = tuple[float, int]  # rank and index: a place in the queue


class Forecasts(Protocol):
    """Who tells how long a job will take, from what has ended."""

    def add(self, job: TraceJob, took: float) -> None:
        """Remember a job that has ended."""

    def expected(self, job: TraceJob) -> float | None:
        """Return how long a job is expected to take, None where that is unknown."""


class Live:
    """Jobs in lanes as the queue's database has them, and the scheduler's policy over their heads.

    Like the scheduler it looks at the first few jobs of each lane only. Where nothing has ended
    since the last decision, what was refused then is refused again, so that only new jobs are
    looked at, behind the first one, whose place is kept.
    """

    def __init__(self, fleet: Fleet, *, rules: Rules, forecasts: Forecasts, each: int) -> None:
        """Begin with empty cards.

        Args:
            fleet: the cards.
            rules: how many jobs may share one.
            forecasts: asked when a job comes to the head of its lane.
            each: at so many jobs of each lane it looks.
        """
        gpus = fleet.snapshots()
        machine = Machine(cpus=PLENTY, ram=PLENTY, ram_free=PLENTY, gpus=gpus, rules=rules)
        self._policy = Policy(machine, explain=False)
        self._cards = {gpu.uuid: gpu.index for gpu in gpus}
        self._forecasts, self._each = forecasts, each
        self._jobs: dict[int, TraceJob] = {}
        self._resources: dict[_Lane, Resources] = {}
        self._heads: dict[_Lane, list[_Entry]] = {}  # what is looked at
        self._rest: dict[_Lane, list[_Entry]] = {}  # heaps of what is not
        self._line: list[_Entry] = []  # the heads of all lanes, the most urgent first
        self._waiting: dict[int, Waiting] = {}  # the same as the policy sees them
        self._new: set[_Entry] = set()  # of these, what it has not seen yet
        self._ended = False

    def put(self, job: TraceJob, now: float) -> None:  # noqa: ARG002  # as every queue
        """Take in a job, in its lane."""
        self._jobs[job.index] = job
        lane = _lane(job)
        if lane not in self._heads:
            self._heads[lane], self._rest[lane] = [], []
            self._resources[lane] = Resources(
                cpus=0, gpus=job.gpus, min_vram=job.vram, exclusive=job.exclusive, device="cuda"
            )
        heads, rest = self._heads[lane], self._rest[lane]
        entry = (rank_of(job.submitted, job.priority), job.index)
        if len(heads) == self._each and entry < heads[-1]:  # more urgent than what came before it
            last = heads[-1]
            self._hide(lane, last)
            heappush(rest, last)
        heappush(rest, entry)
        self._show(lane)

    def take_back(self, job: TraceJob, took: float, now: float) -> None:  # noqa: ARG002
        """Take back the cards of a job that ended, and learn from it."""
        self._policy.ended(job.index)
        self._forecasts.add(job, took)
        self._ended = True

    def starts(self, now: float) -> Iterator[tuple[TraceJob, tuple[int, ...]]]:
        """Give what the policy starts now, and on which cards."""
        while self._ended or self._new:
            seen = self._line[:] if self._ended else self._head_and_new()
            self._ended = False
            self._new.clear()
            waiting = [self._waiting[index] for _, index in seen]
            for entry, decision in zip(seen, self._policy.decide(waiting, now), strict=True):
                if isinstance(decision, Start):
                    lane = _lane(self._jobs[decision.job])
                    self._hide(lane, entry)
                    self._show(lane)
                    cards = tuple(self._cards[uuid] for uuid in decision.devices)
                    yield self._jobs.pop(decision.job), cards

    def _head_and_new(self) -> Sequence[_Entry]:
        new = sorted(self._new)
        return new if new[0] <= self._line[0] else [self._line[0], *new]

    def _show(self, lane: _Lane) -> None:
        """Let the policy look at so many jobs of a lane as it may."""
        heads, rest = self._heads[lane], self._rest[lane]
        while rest and len(heads) < self._each:
            entry = heappop(rest)
            job = self._jobs[entry[1]]
            heads.append(entry)  # all that is in the rest comes behind them
            insort(self._line, entry)
            self._new.add(entry)
            self._waiting[job.index] = Waiting(
                job=job.index,
                resources=self._resources[lane],
                vram_request=job.vram,
                seconds=self._forecasts.expected(job),
            )

    def _hide(self, lane: _Lane, entry: _Entry) -> None:
        """Take a job out of the policy's sight: it starts, or goes back behind others."""
        self._heads[lane].remove(entry)
        self._line.remove(entry)
        self._new.discard(entry)
        del self._waiting[entry[1]]


def _lane(job: TraceJob) -> _Lane:
    return (job.gpus, job.vram, job.exclusive)
