"""How long a job takes, as a distribution: the durations of jobs like it, and its own time limit."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, isfinite

LONG = 0.75  # a waiting job is counted on to take no longer than this share of those like it
MIDDLE = 0.5  # a running job is expected to end with the middle one of those that ran as long
SHORTEST_S = 60.0  # a job that nothing is known of is expected to run at least so long


@dataclass(frozen=True, slots=True)
class Forecast:
    """Durations of jobs alike, seconds alone on their GPUs, ascending; and its own time limit.

    Durations of trainings have heavy tails: the longest of a few says little about the next one, and a job that
    has outlasted all of them is not about to end. So every question is about the part of the distribution that is
    left after the time that a job runs already, and beyond the last known duration a job is expected to run as long
    again as it has run (a Pareto tail with exponent 1; "Lindy's law"). The time limit bounds all answers.
    """

    seconds: tuple[float, ...] = ()
    limit: float | None = None  # it is ended then at the latest; None: it has none

    def quantile(self, share: float, elapsed: float = 0.0) -> float | None:
        """Return the duration that a share of such jobs does not exceed, None where nothing is known.

        Args:
            share: above 0 and at most 1.
            elapsed: seconds that it runs already; jobs that took no longer do not count.

        Returns:
            Seconds from its start to its end; more than `elapsed`, unless its limit has passed.
        """
        first = bisect_right(self.seconds, elapsed)
        left = len(self.seconds) - first
        if left:
            total: float | None = self.seconds[first + max(1, ceil(share * left)) - 1]
        else:
            total = max(2 * elapsed, SHORTEST_S) if elapsed > 0 else None
        if self.limit is None:
            return total
        bound = max(self.limit, elapsed)
        return bound if total is None else min(total, bound)

    def mean(self, usual_s: float, running_s: float = 0.0, running: int = 0) -> float:
        """Return how long such jobs take on average, s, but no longer than its limit.

        Those that have ended are the short ones as long as the long ones run. So the time that all have run
        is divided by the number of ends (the estimate for exponential durations with censoring: Epstein and Sobel,
        "Life testing", 1953). Where none has ended, those that run are expected to run as long again.

        Args:
            usual_s: how long a job takes of which nothing is known.
            running_s: how long jobs alike have run that have not ended, added up.
            running: how many those are.
        """
        if self.seconds:
            mean = (sum(self.seconds) + running_s) / len(self.seconds)
        else:
            mean = max(usual_s, 2 * running_s / running if running else 0.0)
        return mean if self.limit is None else min(mean, self.limit)

    def end(self, since: float, now: float) -> float | None:
        """Return when a job that runs since a time is expected to end, on the same clock.

        A clock that was set back counts as no time at all.
        """
        total = self.quantile(MIDDLE, max(0.0, now - since))
        return None if total is None else since + total


UNKNOWN = Forecast()


def forecast_of(seconds: Iterable[float], limit: float | None = None) -> Forecast:
    """Return the forecast from durations in any order; what is no duration at all does not count.

    Args:
        seconds: durations of jobs alike.
        limit: its own time limit, s.
    """
    usable = (value for value in seconds if isfinite(value) and value >= 0)
    bound = limit if limit is not None and isfinite(limit) and limit > 0 else None
    return Forecast(tuple(sorted(usable)), bound)
