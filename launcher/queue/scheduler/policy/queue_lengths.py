"""Length of the queue when a job arrived: how long other jobs may pass it before it gets a reservation.

A reservation for every job that does not fit leaves GPUs idle because of estimates. No reservation at all starves wide
jobs. A job that arrives at a queue of one hour would wait one hour under first come, first served. Others may pass it for
this time and half as long again (`PATIENCE_FACTOR`), and then it gets a reservation.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable

from launcher.queue.scheduler.policy.co_location import EXPECTED_LOAD
from launcher.queue.scheduler.policy.disciplines import USUAL_S
from launcher.queue.scheduler.policy.model import Machine, Running, Waiting, elapsed_s, remaining_s

PATIENCE_FACTOR = (
    1.5  # others may pass a job for this many times the length of the queue at its arrival
)
STEP_S = 10.0  # lengths are remembered at most so often
MOST_LENGTHS = 4096  # lengths after which every second one of the older half is forgotten


def queue_length(
    waiting_jobs: Iterable[tuple[Waiting, int]],
    running_jobs: Iterable[Running],
    machine: Machine,
    now: float,
) -> float:
    """Return how long the machine would be busy with all that waits and runs, one after the other, s.

    Args:
        waiting_jobs: first job of each kind of waiting jobs, and the number of jobs of that kind.
        running_jobs: what runs.
        machine: what there is.
        now: time on the clock of `Running.ends`.
    """
    length_s, runs = 0.0, [*running_jobs]
    # known properties of similar jobs → lengths
    ran: dict[tuple[float, ...], list[float]] = defaultdict(list)
    for run in runs:
        if (spent_s := elapsed_s(run, now)) is not None:
            ran[run.forecast.seconds].append(spent_s)

    def share(gpus: float, cpus: int) -> float:  # share of the machine: the larger part counts
        of_gpus = gpus / len(machine.gpus) if machine.gpus else 0.0
        return max(of_gpus, cpus / machine.cpus if machine.cpus > 0 else 0.0)

    largest = max((gpu.total for gpu in machine.gpus), default=0)

    def part(job: Waiting) -> float:  # part of each GPU, as jobs share GPUs
        if job.exclusive or not largest or machine.rules.max_jobs_per_gpu == 1:
            return 1.0
        memory = machine.rules.unknown_bytes(largest)
        if job.vram is not None:
            memory = job.vram
        load = EXPECTED_LOAD if job.load.sm is None else job.load.sm
        return min(1.0, max(memory / largest, load))

    for job, count in waiting_jobs:
        alike = ran[job.forecast.seconds]
        mean = job.forecast.mean(USUAL_S, sum(alike), len(alike))
        gpus = job.resources.gpus if job.resources.may_need_gpu else 0
        length_s += count * share(gpus * part(job), job.resources.cpus) * mean
    return length_s + sum(share(len(run.devices), run.cpus) * remaining_s(run, now) for run in runs)


class QueueDelayEstimator:
    """How long the queue was, lately; one per scheduler.

    A scheduler that has just started knows only the present length: earlier jobs are passed as if they had come now.
    """

    def __init__(self) -> None:
        """Begin without lengths."""
        self._lengths: list[tuple[float, float]] = []  # times and lengths, ascending

    def is_due(self, now: float) -> bool:
        """Whether the length must be computed again."""
        return not self._lengths or not 0 <= now - self._lengths[-1][0] < STEP_S

    def record(self, now: float, length_s: float) -> None:
        """Remember the length now; a clock that was set back forgets what was after that."""
        del self._lengths[bisect_left(self._lengths, (now,)) :]
        self._lengths.append((now, length_s))
        if len(self._lengths) > MOST_LENGTHS:
            half = MOST_LENGTHS // 2
            self._lengths[:half] = self._lengths[:half:2]

    def length_at(self, time: float) -> float:
        """Return how long the queue was when a job had come at a time, s."""
        if not self._lengths:
            return 0.0
        return self._lengths[min(bisect_left(self._lengths, (time,)), len(self._lengths) - 1)][1]

    def set_patience(self, waiting_jobs: Iterable[Waiting]) -> list[Waiting]:
        """Return jobs with the time until which others may pass them."""
        return [
            job._replace(backfill_until=job.since + PATIENCE_FACTOR * self.length_at(job.since))
            for job in waiting_jobs
        ]
