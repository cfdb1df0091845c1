"""What a queue does that knows nothing of memory: whole cards, one job on each."""

from collections import deque
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush

from launcher.simulate.trace import TraceJob

_Lane = tuple[int, int]  # GPUs, bytes on each


class _Cards:
    """Free cards, the smallest that will do first, then by their place."""

    def __init__(self, totals: Sequence[int]) -> None:
        self._totals = totals
        self._free: dict[int, list[int]] = {total: [] for total in sorted(totals)}
        for card, total in enumerate(totals):
            self._free[total].append(card)
        for free in self._free.values():
            heapify(free)

    def take(self, job: TraceJob) -> tuple[int, ...] | None:
        """Take whole cards for a job, None where too few are free."""
        fitting = [free for total, free in self._free.items() if free and total >= (job.vram or 0)]
        if sum(map(len, fitting)) < job.gpus:
            return None
        taken: list[int] = []
        for free in fitting:
            while free and len(taken) < job.gpus:
                taken.append(heappop(free))
        return tuple(taken)

    def give_back(self, cards: Sequence[int]) -> None:
        for card in cards:
            heappush(self._free[self._totals[card]], card)


class Fifo:
    """First come, first served: a job that does not fit keeps all behind it from starting."""

    def __init__(self, totals: Sequence[int]) -> None:
        """Begin with empty cards of these sizes."""
        self._cards = _Cards(totals)
        self._line: deque[TraceJob] = deque()
        self._held: dict[int, tuple[int, ...]] = {}

    def put(self, job: TraceJob, now: float) -> None:  # noqa: ARG002  # as every queue
        """Take in a job: the last in line."""
        self._line.append(job)

    def take_back(self, job: TraceJob, took: float, now: float) -> None:  # noqa: ARG002
        """Take back the cards of a job that ended."""
        self._cards.give_back(self._held.pop(job.index))

    def starts(self, now: float) -> Iterator[tuple[TraceJob, tuple[int, ...]]]:  # noqa: ARG002
        """Give what starts now: from the head of the line until one does not fit."""
        while self._line:
            cards = self._cards.take(self._line[0])
            if cards is None:
                return
            job = self._line.popleft()
            self._held[job.index] = cards
            yield job, cards


class ShortestFirst:
    """The shortest job first, by the duration that only a simulation can know.

    One that does not fit is passed over: its cards are not kept for it, and it may starve.
    """

    def __init__(self, totals: Sequence[int]) -> None:
        """Begin with empty cards of these sizes."""
        self._cards = _Cards(totals)
        self._lanes: dict[_Lane, list[tuple[float, int, TraceJob]]] = {}  # of alike jobs a heap
        self._news: set[_Lane] = set()  # lanes of which something may start
        self._held: dict[int, tuple[int, ...]] = {}

    def put(self, job: TraceJob, now: float) -> None:  # noqa: ARG002
        """Take in a job, among those that ask for the same."""
        key = (job.gpus, job.vram or 0)
        heappush(self._lanes.setdefault(key, []), (job.seconds, job.index, job))
        self._news.add(key)

    def take_back(self, job: TraceJob, took: float, now: float) -> None:  # noqa: ARG002
        """Take back the cards of a job that ended."""
        self._cards.give_back(self._held.pop(job.index))
        self._news.update(self._lanes)

    def starts(self, now: float) -> Iterator[tuple[TraceJob, tuple[int, ...]]]:  # noqa: ARG002
        """Give what starts now: of all that fits, the shortest, again and again."""
        # while jobs start, cards only become fewer: a lane whose first does not fit is done with
        firsts = [(self._lanes[key][0][:2], key) for key in self._news if self._lanes[key]]
        self._news.clear()
        heapify(firsts)
        while firsts:
            _, key = heappop(firsts)
            lane = self._lanes[key]
            cards = self._cards.take(lane[0][2])
            if cards is not None:
                *_, job = heappop(lane)
                self._held[job.index] = cards
                yield job, cards
                if lane:
                    heappush(firsts, (lane[0][:2], key))
