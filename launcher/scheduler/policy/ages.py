"""How long jobs have waited and attempts have run, whatever is done to the machine's clock.

Times in the queue are of the wall clock, which may be set by years: a machine without a battery begins in 1970.
A job would then seem to have waited for half a century, and be kept a place for ever; one of the future would be
passed by all others. A steady clock tells how much time really goes by.
"""

from collections.abc import Hashable, Iterable
from dataclasses import replace

from launcher.scheduler.policy.model import Running, Waiting
from launcher.store.user_actions import AGEING_S

LONGEST_S = 366 * 86_400.0  # what is said to be older was written before the clock was set
DRIFT_S = 60.0  # a clock that is corrected little by little is left alone


class Ages:
    """Since when each job waits or runs, on a clock that nobody sets."""

    def __init__(self) -> None:
        """Begin without having seen any."""
        self._since: dict[Hashable, float] = {}

    def corrected(
        self,
        waiting: Iterable[Waiting],
        running: Iterable[Running],
        *,
        now: float,
        steady: float,
    ) -> tuple[list[Waiting], list[Running]]:
        """Return jobs with times that fit the wall clock as it is now.

        Args:
            waiting: all that wait; who is left out is forgotten.
            running: all that run; likewise.
            now: the wall clock.
            steady: a clock that counts the machine's sleep, too, and is never set.
        """
        before, self._since = self._since, {}
        candidates, runs = [], []
        for job in waiting:
            came = job.since + job.priority * AGEING_S  # a rank may lie a century away
            moved = self._age((job.job, job.since), came, before, now, steady) - came
            if abs(moved) > DRIFT_S:
                since, until = job.since + moved, job.patient_until + moved
                job = replace(job, since=since, patient_until=until)
            candidates.append(job)
        for run in running:
            if run.since is None:
                runs.append(run)
                continue
            since = self._age((run.job, "runs", run.since), run.since, before, now, steady)
            moved = since - run.since
            ends = None if run.ends is None else run.ends + moved
            runs.append(replace(run, since=since, ends=ends) if abs(moved) > DRIFT_S else run)
        return candidates, runs

    def _age(
        self, key: Hashable, stamp: float, before: dict[Hashable, float], now: float, steady: float
    ) -> float:
        """Return since when, on the wall clock as it is now."""
        since = before.get(key)
        if since is None:
            age = now - stamp
            since = steady - (age if -DRIFT_S <= age <= LONGEST_S else 0.0)
        self._since[key] = since
        return now - (steady - since)
