"""The clock of a simulation: jobs come, a queue starts them, they end; nothing else happens."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from launcher.simulate.slowdown import Pace
from launcher.simulate.trace import TraceJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """When a job could have started, when it did, when it ended, and where."""

    job: int  # its index
    ready: float  # it was submitted, and all that it needs had ended
    start: float
    end: float
    cards: tuple[int, ...]

    @property
    def waited(self) -> float:
        """Seconds that it waited for cards."""
        return self.start - self.ready


class Queue(Protocol):
    """Who decides which job starts, and where."""

    def put(self, job: TraceJob, now: float) -> None:
        """Take in a job that could start."""

    def take_back(self, job: TraceJob, took: float, now: float) -> bool:
        """Take back the cards of a job; False: it failed, and has to run again."""

    def starts(self, now: float) -> Iterable[tuple[TraceJob, tuple[int, ...]]]:
        """Give what starts now, and on which cards; from now on they are its."""


def replay(
    jobs: Sequence[TraceJob], queue: Queue, *, cards: int, slowdown: float
) -> tuple[Span, ...]:
    """Return what became of each job, in the order of their ends.

    What happens at one instant reaches the queue together: first ends, then what comes.
    A job without GPUs starts as soon as it can: cores are never short here.

    Args:
        jobs: in the order of their submission; `needs` name jobs among them.
        queue: who decides.
        cards: how many GPUs there are.
        slowdown: how much longer each of two jobs on a card takes.
    """
    return _Replay(jobs, queue, Pace(cards, slowdown)).run()


class _Replay:
    """One replay while it goes on."""

    def __init__(self, jobs: Sequence[TraceJob], queue: Queue, pace: Pace) -> None:
        self._queue, self._pace = queue, pace
        self._coming = [*jobs[::-1]]
        self._by_index = {job.index: job for job in jobs}
        self._missing = {job.index: len(job.needs) for job in jobs if job.needs}
        self._needed: dict[int, list[TraceJob]] = {}
        for job in jobs:
            for need in job.needs:
                self._needed.setdefault(need, []).append(job)
        self._early: set[int] = set()  # came before all that they need had ended
        self._ready: dict[int, float] = {}
        self._begun: dict[int, tuple[float, tuple[int, ...]]] = {}
        self._spans: list[Span] = []

    def run(self) -> tuple[Span, ...]:
        never = float("inf")
        while True:
            comes = self._coming[-1].submitted if self._coming else never
            now = min(comes, self._pace.next_end())
            if now == never:
                return tuple(self._spans)
            while self._pace.next_end() <= now:
                self._end(now)
            while self._coming and self._coming[-1].submitted <= now:
                self._arrive(self._coming.pop(), now)
            for job, cards in self._queue.starts(now):
                self._start(job, cards, now)

    def _arrive(self, job: TraceJob, now: float) -> None:
        if self._missing.get(job.index, 0) <= 0:
            self._let_go(job, now)
        else:
            self._early.add(job.index)

    def _let_go(self, job: TraceJob, now: float) -> None:
        self._ready[job.index] = now
        if job.gpus:
            self._queue.put(job, now)
        else:
            self._start(job, (), now)

    def _start(self, job: TraceJob, cards: tuple[int, ...], now: float) -> None:
        self._begun[job.index] = (now, cards)
        self._pace.start(job.index, job.seconds, cards, now)

    def _end(self, now: float) -> None:
        job = self._by_index[self._pace.end()]
        start, cards = self._begun.pop(job.index)
        if job.gpus and not self._queue.take_back(job, now - start, now):
            self._queue.put(job, now)  # ready since it was ready at first
            return
        ready = self._ready.pop(job.index)
        self._spans.append(Span(job=job.index, ready=ready, start=start, end=now, cards=cards))
        for dependant in self._needed.get(job.index, ()):
            self._missing[dependant.index] -= 1
            if not self._missing[dependant.index] and dependant.index in self._early:
                self._let_go(dependant, now)
