"""The policies by name: in which order jobs are looked at, whether they share GPUs, whose place is kept.

Ours and four that everybody knows, for comparison: in `launcher simulate`, and in a queue with `--policy NAME`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from math import inf

from launcher.scheduler.policy.model import Machine, Waiting

LEAST_S = 60.0  # shorter jobs count as so long: else one of a second would pass all others
USUAL_S = 3600.0  # a job of which nothing is known counts as so long
PATIENCE = 1.5  # so many times as long as the queue was when it came, a job is passed by others
SLIP = 0.25  # the place of one that is not passed any more slips by at most this share of its wait


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Discipline:
    """A policy: what of the scheduler's rules it has."""

    name: str
    about: str  # in a few words, for people
    order: Order
    shares: bool  # jobs share GPUs
    keeps: Keeps
    foresees: bool = True  # it uses forecasts of durations


OURS = Discipline(
    name="launcher",
    about="highest response ratio first on shared GPUs, places kept for jobs that waited too long",
    order=Order.RESPONSE_RATIO,
    shares=True,
    keeps=Keeps.OVERDUE,
)
FIFO = Discipline(
    name="fifo",
    about="first come, first served on whole GPUs",
    order=Order.ARRIVAL,
    shares=False,
    keeps=Keeps.ALL,
    foresees=False,
)
EASY = Discipline(
    name="easy",
    about="EASY backfill on whole GPUs",
    order=Order.ARRIVAL,
    shares=False,
    keeps=Keeps.FIRST,
)
SJF = Discipline(
    name="sjf",
    about="shortest job first on whole GPUs, by its true duration in a simulation",
    order=Order.SHORTEST,
    shares=False,
    keeps=Keeps.NOBODY,
)
FIRST_FIT = Discipline(
    name="first-fit",
    about="first fit on shared GPUs: every job that fits starts, in the order of arrival",
    order=Order.ARRIVAL,
    shares=True,
    keeps=Keeps.NOBODY,
    foresees=False,
)
DISCIPLINES = {each.name: each for each in (OURS, FIFO, SJF, EASY, FIRST_FIT)}


def rules_for(machine: Machine, discipline: Discipline) -> Machine:
    """Return the machine with one job on each GPU where a policy shares none."""
    if discipline.shares:
        return machine
    return replace(machine, rules=replace(machine.rules, max_per_gpu=1))


def length(job: Waiting) -> float:
    """Return how long a job counts in the order, s."""
    return USUAL_S if job.seconds is None else max(LEAST_S, job.seconds)


def response_ratio(job: Waiting, now: float) -> float:
    """Return how many times as long as it takes a job stays in the queue, if it starts now.

    The order of Brinch Hansen ("Operating System Principles", 1973): short jobs first, and nobody starves, as
    every job's ratio grows while it waits. A point of priority counts as a day of waiting.
    """
    expected = length(job)
    return (now - job.since + expected) / expected


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
    return [replace(first, slip=SLIP * max(0.0, now - first.since)), *line]
