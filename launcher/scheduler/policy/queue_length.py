"""How long the queue was when a job came: how long others may pass it before its place is kept.

Who keeps a place for everybody who does not fit leaves GPUs idle for guesses; who keeps none lets wide jobs starve.
A job that came to a queue of an hour would have waited an hour under first come, first served: so long it may
be passed, and half as long again (`disciplines.PATIENCE`), and then its place is kept.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import isfinite

from launcher.scheduler.policy.disciplines import PATIENCE, USUAL_S
from launcher.scheduler.policy.model import Machine, Running, Waiting

STEP_S = 10.0  # lengths are remembered at most so often
MOST_LENGTHS = 4096  # then each other one of the older half is forgotten


def machine_share(gpus: int, cpus: int, machine: Machine) -> float:
    """Return which part of a machine a job takes: of its GPUs or its cores, the larger part counts."""
    of_gpus = gpus / len(machine.gpus) if machine.gpus else 0.0
    return max(of_gpus, cpus / machine.cpus if machine.cpus > 0 else 0.0)


def queue_length(
    waiting: Iterable[tuple[Waiting, int]], running: Iterable[Running], machine: Machine, now: float
) -> float:
    """Return how long the machine would be busy with all that waits and runs, one after the other, s.

    Args:
        waiting: of each kind of waiting jobs the first one, and how many there are.
        running: what runs.
        machine: what there is.
        now: on the clock of `Running.ends`.
    """
    length_s, runs = 0.0, [*running]
    ran_s: dict[tuple[float, ...], list[float]] = defaultdict(
        list
    )  # by what is known of jobs alike
    for run in runs:
        if run.since is not None and isfinite(run.since):
            ran_s[run.forecast.seconds].append(max(0.0, now - run.since))
    for job, count in waiting:
        alike = ran_s[job.forecast.seconds]
        mean = job.forecast.mean(USUAL_S, sum(alike), len(alike))
        gpus = job.resources.gpus if machine.gpus and job.resources.may_need_gpu else 0
        length_s += count * machine_share(gpus, job.resources.cpus, machine) * mean
    for run in runs:
        left_s = _left(run, now)
        if isfinite(left_s) and left_s > 0:
            length_s += machine_share(len(run.devices), run.cpus, machine) * left_s
    return length_s


def _left(run: Running, now: float) -> float:
    """Return how long what runs goes on; as long again where only its limit is known, or nothing."""
    ran_s = 0.0 if run.since is None else now - run.since
    ends = run.ends
    if run.since is not None and run.forecast.seconds:
        ends = run.forecast.end(run.since, now)
    elif run.forecast.limit is not None:
        return min(ran_s, run.forecast.limit - ran_s)
    return ran_s if ends is None or ends <= now else ends - now


class QueueLengths:
    """How long the queue was, lately; one per scheduler.

    A scheduler that has just started knows only how long it is now: jobs that came before are passed as if they had come to it.
    """

    def __init__(self) -> None:
        """Begin without lengths."""
        self._times: list[float] = []  # ascending
        self._lengths: list[float] = []

    def due(self, now: float) -> bool:
        """Tell whether to work out the length again."""
        return not self._times or not 0 <= now - self._times[-1] < STEP_S

    def note(self, now: float, length_s: float) -> None:
        """Remember the length now; a clock that was set back forgets what was after that."""
        keep = bisect_left(self._times, now)
        del self._times[keep:], self._lengths[keep:]
        self._times.append(now)
        self._lengths.append(length_s)
        if len(self._times) > MOST_LENGTHS:
            half = MOST_LENGTHS // 2
            self._times[:half] = self._times[:half:2]
            self._lengths[:half] = self._lengths[:half:2]

    def at(self, time: float) -> float:
        """Return how long the queue was when a job had come at a time, s."""
        if not self._times:
            return 0.0
        return self._lengths[min(bisect_left(self._times, time), len(self._times) - 1)]

    def patient(self, waiting: Iterable[Waiting]) -> list[Waiting]:
        """Return jobs with the time until which others may pass them."""
        return [
            replace(job, patient_until=job.since + PATIENCE * self.at(job.since)) for job in waiting
        ]


def length_of(
    jobs: Mapping[int, Waiting], counts: Mapping[int, int]
) -> Iterable[tuple[Waiting, int]]:
    """Give of each lane its first job and how many jobs wait there; a lane without a first one is left out."""
    return ((jobs[lane], count) for lane, count in counts.items() if lane in jobs)
