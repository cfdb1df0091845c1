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
    ran_s: dict[tuple[float, ...], float] = defaultdict(float)  # by what is known of jobs alike
    for run in runs:
        if run.since is not None and isfinite(run.since):
            ran_s[run.forecast.seconds] += max(0.0, now - run.since)
    for job, count in waiting:
        mean = job.forecast.mean(ran_s[job.forecast.seconds])
        gpus = job.resources.gpus if machine.gpus and job.resources.may_need_gpu else 0
        share = machine_share(gpus, job.resources.cpus, machine)
        length_s += count * share * (USUAL_S if mean is None else mean)
    for run in runs:
        began = now if run.since is None else run.since
        left_s = now - began if run.ends is None or run.ends <= now else run.ends - now
        if isfinite(left_s) and left_s > 0:
            length_s += machine_share(len(run.devices), run.cpus, machine) * left_s
    return length_s


class QueueLengths:
    """How long the queue was, lately; one per scheduler.

    A scheduler that has just started knows only how long it is now: jobs that came before are passed less long.
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
