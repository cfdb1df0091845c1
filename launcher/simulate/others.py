"""Jobs of other people on the same cards, whose schedulers know nothing of ours: whole idle cards, in order."""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from launcher.simulate.fleet import Fleet
from launcher.simulate.queue_policy import Live
from launcher.simulate.trace import TraceJob


def beside(ours: Sequence[TraceJob], others: Sequence[TraceJob]) -> tuple[TraceJob, ...]:
    """Return the jobs of both in the order of their submission; others' have the later numbers."""
    first = 1 + max((job.index for job in ours), default=0)
    theirs = [
        replace(job, index=first + at, needs=(), group="", user="") for at, job in enumerate(others)
    ]
    return tuple(sorted([*ours, *theirs], key=lambda job: job.submitted))


class Beside:
    """Our queue on cards of which others take those that are idle: first come, first served."""

    def __init__(self, ours: Live, fleet: Fleet, first: int) -> None:
        """Begin with empty cards.

        Args:
            ours: our queue.
            fleet: the cards.
            first: the number of the first job of others; ours are before it.
        """
        self._ours, self._first = ours, first
        self._room = fleet.room
        self._machines = [[gpu.index for gpu in machine] for machine in fleet.machines()]
        self._line: deque[TraceJob] = deque()
        self._taken: Counter[int] = Counter()  # card → jobs, ours and theirs
        self._held: dict[int, tuple[int, ...]] = {}  # job → cards

    @property
    def out_of_memory(self) -> int:
        """How many attempts of ours took more than they were promised."""
        return self._ours.out_of_memory

    def put(self, job: TraceJob, now: float) -> None:
        """Take in a job, in its owner's queue."""
        if job.index < self._first:
            self._ours.put(job, now)
        else:
            self._line.append(job)

    def take_back(self, job: TraceJob, took: float, now: float) -> bool:
        """Take back the cards of a job."""
        self._taken.subtract(self._held[job.index])
        cards = self._held.pop(job.index)
        if job.index < self._first:
            return self._ours.take_back(job, took, now)
        for card in cards:
            self._ours.others_take(card, -self._room[card])
        return True

    def starts(self, now: float) -> Iterator[tuple[TraceJob, tuple[int, ...]]]:
        """Give what starts now: theirs first, as they ask nobody."""
        while self._line and (cards := self._idle(self._line[0])):
            for card in cards:
                self._ours.others_take(card, self._room[card])
            yield self._started(self._line.popleft(), cards)
        for job, cards in self._ours.starts(now):
            yield self._started(job, cards)

    def _idle(self, job: TraceJob) -> tuple[int, ...]:
        for machine in self._machines:
            idle = [card for card in machine if not self._taken[card]]
            if len(idle) >= job.gpus:
                return tuple(idle[: job.gpus])
        return ()

    def _started(self, job: TraceJob, cards: tuple[int, ...]) -> tuple[TraceJob, tuple[int, ...]]:
        self._taken.update(cards)
        self._held[job.index] = cards
        return job, cards
