"""How long jobs have waited and attempts have run, independent of changes of the machine's clock.

The queue stores wall-clock times. A machine without a battery starts in 1970, so a clock may jump by years. A job would
then seem to have waited for decades and get a reservation for ever, and a job of the future would be passed by all
others. A monotonic clock measures the time that really passes.
"""

from collections.abc import Hashable, Iterable

from launcher.queue.scheduler.policy.model import Running, Waiting
from launcher.queue.store.lanes import PRIORITY_POINT_S

LONGEST_S = 366 * 86_400.0  # older times were written before the clock was set
DRIFT_S = 60.0  # a clock that is corrected little by little is left alone


class AgeTracker:
    """Start times of waiting and running jobs, on a clock that is never set."""

    def __init__(self) -> None:
        """Begin without having seen any."""
        self._since: dict[Hashable, float] = {}

    def correct_clock(
        self,
        waiting_jobs: Iterable[Waiting],
        running_jobs: Iterable[Running],
        *,
        now: float,
        steady: float,
    ) -> tuple[list[Waiting], list[Running]]:
        """Return jobs with times that match the wall clock as it is now.

        Args:
            waiting_jobs: All waiting jobs. Times of other jobs are deleted.
            running_jobs: All running jobs. Times of other jobs are deleted.
            now: The wall clock.
            steady: A clock that also counts the machine's sleep and is never set.
        """
        before, self._since = self._since, {}
        candidates, runs = [], []

        def clock_shift(key: Hashable, stamp: float) -> float:
            """Return the shift of a time on the current wall clock in seconds. 0 for a negligible shift."""
            age = now - stamp
            as_new = steady - (age if -DRIFT_S <= age <= LONGEST_S else 0.0)
            since = self._since[key] = before.get(key, as_new)
            shift = age - (steady - since)
            return shift if abs(shift) > DRIFT_S else 0.0

        for job in waiting_jobs:
            came = job.since + job.priority * PRIORITY_POINT_S  # a rank may lie a century away
            if shift := clock_shift((job.job, job.since), came):
                since, until = job.since + shift, job.backfill_until + shift
                job = job._replace(since=since, backfill_until=until)
            candidates.append(job)
        for run in running_jobs:
            began = run.since
            if began is not None and (shift := clock_shift((run.job, "runs", began), began)):
                ends = None if run.ends is None else run.ends + shift
                run = run._replace(since=began + shift, ends=ends)
            runs.append(run)
        return candidates, runs
