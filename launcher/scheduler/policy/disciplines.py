"""The policies by name: in which order jobs are looked at, whether they share GPUs, whose place is kept.

Ours and four that everybody knows, for comparison: in `launcher simulate`, and in a queue with `--policy NAME`.

How long jobs have waited and attempts have run, whatever is done to the machine's clock.

Times in the queue are of the wall clock, which may be set by years: a machine without a battery begins in 1970.
A job would then seem to have waited for half a century, and be kept a place for ever; one of the future would be
passed by all others. A steady clock tells how much time really goes by.

How long the queue was when a job came: how long others may pass it before its place is kept.

Who keeps a place for everybody who does not fit leaves GPUs idle for guesses; who keeps none lets wide jobs starve.
A job that came to a queue of an hour would have waited an hour under first come, first served: so long it may
be passed, and half as long again (`disciplines.PATIENCE`), and then its place is kept.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Hashable, Iterable
from enum import Enum
from math import inf
from typing import NamedTuple

from launcher.scheduler.policy.co_location import EXPECTED
from launcher.scheduler.policy.model import Machine, Running, Waiting, left_s, ran_s
from launcher.store.rows import AGEING_S

LEAST_S = 60.0  # shorter jobs count as so long: else one of a second would pass all others
USUAL_S = 3600.0  # a job of which nothing is known counts as so long
PATIENCE = 1.5  # so many times as long as the queue was when it came, a job is passed by others
SLIP = 0.1  # the place of one that is not passed any more slips by at most this share of its wait
FIRM = (
    8.0  # the place of one that has waited so many times his patience slips no more: slips add up
)
FIRM_S = 86_400.0  # and no sooner than that: what came to a short queue has hardly any
LAST_S = (
    30 * 86_400.0
)  # who has waited for this and twice as long as that is passed on no guess at all


class Order(Enum):
    """Who is looked at first."""

    ARRIVAL = "arrival"
    SHORTEST = "shortest"  # by expected duration
    RESPONSE_RATIO = "response ratio"  # (waited + expected) / expected, the highest first


class Keeps(Enum):
    """For whom a place is kept when it becomes free, and later jobs are held back."""

    NOBODY = "nobody"
    ALL = "all"  # nobody starts before an earlier one
    FIRST = "first"  # the first that does not fit
    OVERDUE = "overdue"  # the first that does not fit and has waited too long


class Discipline(NamedTuple):
    """A policy: what of the scheduler's rules it has."""

    name: str
    about: str  # in a few words, for people
    order: Order = Order.ARRIVAL
    shares: bool = False  # jobs share GPUs
    keeps: Keeps = Keeps.NOBODY
    foresees: bool = True  # it uses what was learned of durations, and of what jobs do to a card
    takes_turns: bool = False  # between the runs of a person


OURS = Discipline(
    name="launcher",
    about="highest response ratio first on shared GPUs, places kept for jobs that waited too long",
    order=Order.RESPONSE_RATIO,
    shares=True,
    keeps=Keeps.OVERDUE,
    takes_turns=True,
)
FIFO = Discipline(
    name="fifo",
    about="first come, first served on whole GPUs",
    keeps=Keeps.ALL,
    foresees=False,
)
EASY = Discipline(
    name="easy",
    about="EASY backfill on whole GPUs",
    keeps=Keeps.FIRST,
)
SJF = Discipline(
    name="sjf",
    about="shortest job first on whole GPUs, by its true duration in a simulation",
    order=Order.SHORTEST,
)
FIRST_FIT = Discipline(
    name="first-fit",
    about="first fit on shared GPUs: every job that fits starts, in the order of arrival",
    shares=True,
    foresees=False,
)
DISCIPLINES = {each.name: each for each in (OURS, FIFO, SJF, EASY, FIRST_FIT)}


def length(job: Waiting) -> float:
    """Return how long a job counts in the order, s; a limit alone makes none longer than usual."""
    seconds = USUAL_S if job.seconds is None else job.seconds
    if not job.forecast.seconds and job.forecast.limit is not None:
        seconds = min(seconds, USUAL_S)
    return max(LEAST_S, seconds)


def response_ratio(job: Waiting, now: float) -> float:
    """Return how many times as long as it takes a job stays in the queue, if it starts now.

    The order of Brinch Hansen ("Operating System Principles", 1973): short jobs first, and nobody starves, as
    every job's ratio grows while it waits. A point of priority counts as a day of waiting; who was put back by
    some has less than 1 until they are over, one less for each day, and of these the short ones come first, too.
    """
    expected, waited_s = length(job), now - job.since
    if job.priority < 0 and waited_s < 0:
        there_s = max(0.0, waited_s - job.priority * AGEING_S)
        return there_s / (there_s + expected) + waited_s // AGEING_S
    return (waited_s + expected) / expected


def arranged(jobs: Iterable[Waiting], now: float, discipline: Discipline = OURS) -> list[Waiting]:
    """Return jobs in the order in which a policy looks at them.

    With `Keeps.OVERDUE` the one whose patience ended first comes before all others, and its place may slip:
    how long others take is a guess, and a place that must not slip at all keeps GPUs idle for every wrong one.

    Args:
        jobs: by age, as the queue has them.
        now: on the clock of `Waiting.since`.
        discipline: the policy.
    """
    line = list(jobs)
    if discipline.order is Order.SHORTEST:
        line.sort(key=lambda job: inf if job.seconds is None else job.seconds)
    elif discipline.order is Order.RESPONSE_RATIO:
        line.sort(key=lambda job: -response_ratio(job, now))
    if discipline.keeps is not Keeps.OVERDUE or not line:
        return line
    place = min(range(len(line)), key=lambda at: line[at].patient_until)
    if line[place].patient_until > now:
        return line
    first = line.pop(place)
    return [first._replace(slip=_slip(first, now)), *line]


def _slip(job: Waiting, now: float) -> float:
    """Return by how much a place may slip in one decision; -inf: nobody passes on a guess.

    Each job that passes may put it off by a slip, and so may the next one. Without an end to that, jobs shorter than
    the slip would pass for ever; and later on those whose guesses are always wrong.
    """
    waited_s, firm_s = max(0.0, now - job.since), firm_from(job) - job.since
    if waited_s < firm_s:
        return SLIP * waited_s
    return 0.0 if waited_s < max(LAST_S, 2 * firm_s) else -inf


def firm_from(job: Waiting) -> float:
    """Return from when on the place that is kept for a job slips no more."""
    return job.since + max(FIRM_S, FIRM * (job.patient_until - job.since))


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

        def moved(key: Hashable, stamp: float) -> float:
            """Return by how much a time lies elsewhere on the wall clock as it is now; 0: by next to nothing."""
            age = now - stamp
            as_new = steady - (age if -DRIFT_S <= age <= LONGEST_S else 0.0)
            since = self._since[key] = before.get(key, as_new)
            shift = age - (steady - since)
            return shift if abs(shift) > DRIFT_S else 0.0

        for job in waiting:
            came = job.since + job.priority * AGEING_S  # a rank may lie a century away
            if shift := moved((job.job, job.since), came):
                since, until = job.since + shift, job.patient_until + shift
                job = job._replace(since=since, patient_until=until)
            candidates.append(job)
        for run in running:
            began = run.since
            if began is not None and (shift := moved((run.job, "runs", began), began)):
                ends = None if run.ends is None else run.ends + shift
                run = run._replace(since=began + shift, ends=ends)
            runs.append(run)
        return candidates, runs


STEP_S = 10.0  # lengths are remembered at most so often
MOST_LENGTHS = 4096  # then each other one of the older half is forgotten


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
    ran: dict[tuple[float, ...], list[float]] = defaultdict(list)  # by what is known of jobs alike
    for run in runs:
        if (spent_s := ran_s(run, now)) is not None:
            ran[run.forecast.seconds].append(spent_s)

    def share(gpus: float, cpus: int) -> float:  # of the machine: the larger part counts
        of_gpus = gpus / len(machine.gpus) if machine.gpus else 0.0
        return max(of_gpus, cpus / machine.cpus if machine.cpus > 0 else 0.0)

    largest = max((gpu.total for gpu in machine.gpus), default=0)

    def part(job: Waiting) -> float:  # of each GPU, as jobs share them
        if job.exclusive or not largest or machine.rules.most == 1:
            return 1.0
        memory = machine.rules.unknown_bytes(largest)
        if job.vram_request is not None:
            memory = job.vram_request
        load = EXPECTED if job.demand.sm is None else job.demand.sm
        return min(1.0, max(memory / largest, load))

    for job, count in waiting:
        alike = ran[job.forecast.seconds]
        mean = job.forecast.mean(USUAL_S, sum(alike), len(alike))
        gpus = job.resources.gpus if job.resources.may_need_gpu else 0
        length_s += count * share(gpus * part(job), job.resources.cpus) * mean
    return length_s + sum(share(len(run.devices), run.cpus) * left_s(run, now) for run in runs)


class QueueLengths:
    """How long the queue was, lately; one per scheduler.

    A scheduler that has just started knows only how long it is now: jobs that came before are passed as if they had come to it.
    """

    def __init__(self) -> None:
        """Begin without lengths."""
        self._lengths: list[tuple[float, float]] = []  # when, and how long; ascending

    def due(self, now: float) -> bool:
        """Tell whether to work out the length again."""
        return not self._lengths or not 0 <= now - self._lengths[-1][0] < STEP_S

    def note(self, now: float, length_s: float) -> None:
        """Remember the length now; a clock that was set back forgets what was after that."""
        del self._lengths[bisect_left(self._lengths, (now,)) :]
        self._lengths.append((now, length_s))
        if len(self._lengths) > MOST_LENGTHS:
            half = MOST_LENGTHS // 2
            self._lengths[:half] = self._lengths[:half:2]

    def at(self, time: float) -> float:
        """Return how long the queue was when a job had come at a time, s."""
        if not self._lengths:
            return 0.0
        return self._lengths[min(bisect_left(self._lengths, (time,)), len(self._lengths) - 1)][1]

    def patient(self, waiting: Iterable[Waiting]) -> list[Waiting]:
        """Return jobs with the time until which others may pass them."""
        return [
            job._replace(patient_until=job.since + PATIENCE * self.at(job.since)) for job in waiting
        ]
