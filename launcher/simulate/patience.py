"""How long others may pass each job of a simulation: by how long the queue was when it had come."""

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from math import inf

from launcher.scheduler.policy.disciplines import PATIENCE, USUAL_S
from launcher.simulate.predictions import Forecasts
from launcher.simulate.trace import TraceJob
from launcher.store.user_actions import rank_of


class Patience:
    """The jobs that wait, and until when others may pass each of them."""

    def __init__(self, forecasts: Forecasts, cards: int, *, learns: bool) -> None:
        """Begin with an empty queue.

        Args:
            forecasts: how long jobs take.
            cards: how many there are.
            learns: the policy learns from jobs how long their like take.
        """
        self._forecasts, self._cards, self._learns = forecasts, cards, learns
        self._until: dict[int, float] = {}  # by index of a job that waits
        self._heap: list[tuple[float, int]] = []  # the same, with jobs that wait no more
        self._waiting_s = 0.0  # card-seconds of all that waits
        self._shares: dict[int, float] = {}  # of each job
        # of jobs alike, and of all (None), how many run and the sum of when they began
        self._running: dict[tuple[str, int] | None, tuple[int, float]] = {}

    def until(self, index: int) -> float:
        """Return until when others may pass a job; for ever, where that is not decided."""
        return self._until.get(index, inf)

    def overdue(self, now: float) -> int | None:
        """Return the job whose patience has been at an end for longest, None where there is none."""
        while self._heap and self._until.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)  # it waits no more, or came again
        return self._heap[0][1] if self._heap and self._heap[0][0] <= now else None

    def tied(self) -> bool:
        """Tell whether others may have as much patience as the job whose patience ends first."""
        return any(until == self._heap[0][0] for until, _ in self._heap[1:3])

    def leave(self, index: int) -> None:
        """Forget a job that waits no more."""
        self._until.pop(index, None)
        self._waiting_s -= self._shares.pop(index, 0.0)

    def started(self, job: TraceJob, now: float) -> None:
        """Count a job among those that run: of its kind, and of all."""
        self._count(job, 1, now)

    def ended(self, job: TraceJob, began: float) -> None:
        """Count a job among those that run no longer."""
        self._count(job, -1, began)

    def give(
        self, fresh: Sequence[TraceJob], running_s: Callable[[float], float], now: float
    ) -> Iterator[tuple[int, float]]:
        """Let others pass new jobs for a while: as long as the queue is with them, and half as long again.

        Args:
            fresh: the new jobs that wait.
            running_s: returns the card-seconds that are left of all that runs.
            now: the time.

        Yields:
            Each job, and until when others may pass it.
        """
        if not fresh:
            return
        for job in fresh:
            self._shares[job.index] = job.gpus * self._mean(job, now)
            self._waiting_s += self._shares[job.index]
        length_s = (self._waiting_s + running_s(now)) / self._cards
        for job in fresh:
            until = rank_of(job.submitted, job.priority) + PATIENCE * length_s
            self._until[job.index] = until
            heappush(self._heap, (until, job.index))
            yield job.index, until

    def _mean(self, job: TraceJob, now: float) -> float:
        """Return how long a job takes on average, s; those alike that run count, too."""
        forecast = self._forecasts.of(job)
        if forecast.limit is None and job.forecast is None and self._learns:
            alike = (job.group, job.gpus) if self._forecasts.knows(job) else None
            count, began = self._running.get(alike, (0, 0.0))
            return forecast.mean(USUAL_S, count * now - began, count)
        return forecast.mean(USUAL_S)

    def _count(self, job: TraceJob, by: int, began: float) -> None:
        for alike in ((job.group, job.gpus), None):
            count, sum_s = self._running.get(alike, (0, 0.0))
            self._running[alike] = (count + by, sum_s + by * began)
