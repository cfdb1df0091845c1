"""How long a job is expected to take: what a simulated policy knows of what is to come."""

from collections import deque
from enum import StrEnum

from launcher.simulate.queue_policy import Forecasts
from launcher.simulate.trace import TraceJob
from launcher.store.usage import NEWEST, Usage


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

    It keeps one for each signature, of which a trace tells nothing: here jobs are alike when they are
    of the same group and ask for as many GPUs.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self._newest: dict[tuple[str, int], deque[float]] = {}

    def add(self, job: TraceJob, took: float) -> None:
        """Remember a job that has ended."""
        key = (job.group, job.gpus)
        self._newest.setdefault(key, deque(maxlen=NEWEST)).append(took)

    def expected(self, job: TraceJob) -> float | None:
        """Return how long a job is expected to take, None where nothing like it has ended."""
        if job.forecast is not None:
            return job.forecast
        newest = self._newest.get((job.group, job.gpus))
        return None if newest is None else Usage(seconds=tuple(newest)).expected_seconds


class _Known:
    def add(self, job: TraceJob, took: float) -> None:
        pass

    def expected(self, job: TraceJob) -> float | None:
        return job.seconds


class _Unknown:
    def add(self, job: TraceJob, took: float) -> None:
        pass

    def expected(self, job: TraceJob) -> float | None:  # noqa: ARG002  # as the others
        return None
