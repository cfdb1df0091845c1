"""How long a job is expected to take: what a simulated policy knows of what is to come."""

from collections import deque
from enum import StrEnum
from typing import Protocol

from launcher.scheduler.policy.model import UNKNOWN, Forecast, forecast_of
from launcher.simulate.trace import TraceJob

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
