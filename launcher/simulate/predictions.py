"""What a simulated policy knows of what is to come: how long a job is expected to take, how long others may pass it."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from heapq import heappop, heappush
from math import inf
from typing import Protocol

from launcher.scheduler.policy.disciplines import PATIENCE, USUAL_S
from launcher.scheduler.policy.model import UNKNOWN, Forecast, forecast_of
from launcher.simulate.trace import TraceJob
from launcher.store.user_actions import rank_of

NEWEST = 64  # durations of jobs alike that are remembered, as in the queue


class Forecasts(Protocol):
    """Who tells how long a job will take, from what has ended."""

    def add(self, job: TraceJob) -> None:
        """Remember a job that has ended."""

    def knows(self, job: TraceJob) -> bool:
        """Tell whether jobs like it have ended, and not only others."""

    def of(self, job: TraceJob) -> Forecast:
        """Return how long a job is expected to take."""


class Foresight(StrEnum):
    """How much a policy knows of what is to come."""

    KNOWN = "known"  # how long each job takes alone on its cards
    LEARNED = "learned"  # how long the jobs took that ended before
    NONE = "none"


def forecasts(foresight: Foresight) -> Forecasts:
    """Return what tells durations at the beginning of a replay."""
    match foresight:
        case Foresight.KNOWN:
            return _Known()
        case Foresight.LEARNED:
            return Learned()
        case Foresight.NONE:
            return _Unknown()


class Learned:
    """The lessons that the scheduler would have kept.

    It keeps them for each signature, of which a trace tells nothing: here jobs are alike when they are
    of the same group and ask for as many GPUs. Where none like it has ended, all that ended count.
    Durations count as alone on their cards: the scheduler measures how much slower a job was beside others.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self._newest: dict[tuple[str, int], deque[float]] = {}
        self._all: deque[float] = deque(maxlen=NEWEST)
        self._known: dict[tuple[str, int], Forecast] = {}  # worked out since one was added
        self._any: Forecast | None = None

    def add(self, job: TraceJob) -> None:
        """Remember a job that has ended."""
        key = (job.group, job.gpus)
        self._newest.setdefault(key, deque(maxlen=NEWEST)).append(job.seconds)
        self._all.append(job.seconds)
        self._known.pop(key, None)
        self._any = None

    def knows(self, job: TraceJob) -> bool:
        """Tell whether jobs like it have ended, and not only others."""
        return (job.group, job.gpus) in self._newest

    def of(self, job: TraceJob) -> Forecast:
        """Return how long a job is expected to take."""
        if job.forecast is not None:
            return forecast_of((job.forecast,))
        key = (job.group, job.gpus)
        if not self.knows(job):
            self._any = self._any or forecast_of(self._all)
            return self._any
        if key not in self._known:
            self._known[key] = forecast_of(self._newest[key])
        return self._known[key]


class _Known:
    def __init__(self) -> None:
        self._forecasts: dict[int, Forecast] = {}

    def add(self, job: TraceJob) -> None:
        pass

    def knows(self, job: TraceJob) -> bool:  # noqa: ARG002  # as the others
        return True

    def of(self, job: TraceJob) -> Forecast:
        if job.index not in self._forecasts:
            self._forecasts[job.index] = forecast_of((job.seconds,))
        return self._forecasts[job.index]


class _Unknown:
    def add(self, job: TraceJob) -> None:
        pass

    def knows(self, job: TraceJob) -> bool:  # noqa: ARG002  # as the others
        return False

    def of(self, job: TraceJob) -> Forecast:  # noqa: ARG002  # as the others
        return UNKNOWN


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
