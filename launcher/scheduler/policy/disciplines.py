"""Scheduling policies by name: the order of jobs, whether they share GPUs, and which jobs get a reservation.

One is the project's own. Four well-known ones are for comparison, in `launcher simulate` or with `--policy NAME`.
"""

from collections.abc import Iterable
from enum import Enum
from math import inf
from typing import NamedTuple

from launcher.scheduler.policy.model import Waiting
from launcher.store.lanes import AGEING_S

LEAST_S = 60.0  # shorter jobs count as so long: else one of a second would pass all others
USUAL_S = 3600.0  # a job of which nothing is known counts as so long
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
