"""Scheduling policies by name: the order of jobs, whether they share GPUs, and which jobs get a reservation.

One is the project's own. Four well-known ones are for comparison, in `launcher simulate` or with `--policy NAME`.
"""

from collections.abc import Iterable
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from launcher.queue.store.lanes import PRIORITY_POINT_S

if TYPE_CHECKING:  # 4 ms; commands need the names of policies only
    from launcher.queue.scheduler.policy.model import Waiting

LEAST_S = 60.0  # seconds; shorter jobs count as this long: otherwise a job of one second would pass all others
USUAL_S = 3600.0  # seconds; assumed duration of a job without records
MAX_DELAY_FRACTION = (
    0.1  # a job that no other job passes any more is delayed by at most this share of its wait
)
FIRM_PATIENCE_FACTOR = 8.0  # multiples of the patience; a job that has waited longer is not delayed any more, because delays add up
FIRM_AFTER_S = (
    # seconds; least wait before that: a job that came to a short queue has almost no patience
    86_400.0
)
# seconds; a job that has waited for this and for twice the firm time is not passed because of an estimate
STRICT_AFTER_S = 30 * 86_400.0


class QueueOrder(Enum):
    """Order in which jobs are examined."""

    ARRIVAL = "arrival"
    SHORTEST = "shortest"  # by expected duration
    RESPONSE_RATIO = "response ratio"  # (waited + expected) / expected, the highest first


class ReservationPolicy(Enum):
    """Which jobs get a reservation that holds back later jobs."""

    NOBODY = "nobody"
    ALL = "all"  # no job starts before an earlier one
    FIRST = "first"  # the first that does not fit
    OVERDUE = "overdue"  # the first that does not fit and has waited too long


class SchedulingPolicy(NamedTuple):
    """A policy: what of the scheduler's rules it has."""

    name: str
    description: str  # in a few words, for people
    order: QueueOrder = QueueOrder.ARRIVAL
    shares_gpus: bool = False  # jobs share GPUs
    reserves_for: ReservationPolicy = ReservationPolicy.NOBODY
    uses_estimates: bool = True  # whether recorded durations and measured loads on GPUs are used
    uses_fair_share: bool = False  # between the runs of a person


DEFAULT_POLICY = SchedulingPolicy(
    name="launcher",
    description="highest response ratio first on shared GPUs, places kept for jobs that waited too long",
    order=QueueOrder.RESPONSE_RATIO,
    shares_gpus=True,
    reserves_for=ReservationPolicy.OVERDUE,
    uses_fair_share=True,
)
FIFO = SchedulingPolicy(
    name="fifo",
    description="first come, first served on whole GPUs",
    reserves_for=ReservationPolicy.ALL,
    uses_estimates=False,
)
EASY = SchedulingPolicy(
    name="easy",
    description="EASY backfill on whole GPUs",
    reserves_for=ReservationPolicy.FIRST,
)
SJF = SchedulingPolicy(
    name="sjf",
    description="shortest job first on whole GPUs, by its true duration in a simulation",
    order=QueueOrder.SHORTEST,
)
FIRST_FIT = SchedulingPolicy(
    name="first-fit",
    description="first fit on shared GPUs: every job that fits starts, in the order of arrival",
    shares_gpus=True,
    uses_estimates=False,
)
POLICIES_BY_NAME = {each.name: each for each in (DEFAULT_POLICY, FIFO, SJF, EASY, FIRST_FIT)}


def job_length_s(job: "Waiting") -> float:
    """Return how long a job counts in the order, s; a limit alone makes none longer than usual."""
    seconds = USUAL_S if job.seconds is None else job.seconds
    if not job.forecast.seconds and job.forecast.limit is not None:
        seconds = min(seconds, USUAL_S)
    return max(LEAST_S, seconds)


def response_ratio(job: "Waiting", now: float) -> float:
    """Return the response ratio of a job that starts now: (waiting time + duration) / duration.

    The order of Brinch Hansen ("Operating System Principles", 1973): short jobs first, and no job
    starves, as every job's ratio grows while it waits. A point of priority counts as a day of
    waiting. A job with negative priority has a ratio below 1 until that many days are over, lower
    by 1 for each remaining day. Short jobs come first among these, too.
    """
    expected, waited_s = job_length_s(job), now - job.since
    if job.priority < 0 and waited_s < 0:
        there_s = max(0.0, waited_s - job.priority * PRIORITY_POINT_S)
        return there_s / (there_s + expected) + waited_s // PRIORITY_POINT_S
    return (waited_s + expected) / expected


def order_by_policy(
    jobs: Iterable["Waiting"], now: float, policy: SchedulingPolicy = DEFAULT_POLICY
) -> list["Waiting"]:
    """Return jobs in the order in which a policy examines them.

    With `ReservationPolicy.OVERDUE` the job whose patience ended first comes before all others, and
    its start may slip. The durations of others are estimates, and a start that must not slip at all
    keeps GPUs idle for every wrong one.

    Args:
        jobs: By age, as stored in the queue.
        now: On the clock of `Waiting.since`.
        policy: The policy.
    """
    line = list(jobs)
    if policy.order is QueueOrder.SHORTEST:
        line.sort(key=lambda job: inf if job.seconds is None else job.seconds)
    elif policy.order is QueueOrder.RESPONSE_RATIO:
        line.sort(key=lambda job: -response_ratio(job, now))
    if policy.reserves_for is not ReservationPolicy.OVERDUE or not line:
        return line
    place = min(range(len(line)), key=lambda index: line[index].backfill_until)
    if line[place].backfill_until > now:
        return line
    first = line.pop(place)
    return [first._replace(max_delay_s=_max_delay_s(first, now)), *line]


def _max_delay_s(job: "Waiting", now: float) -> float:
    """Return by how many seconds a start may slip in one decision. -inf: no job passes by an estimate.

    Each passing job may delay it by a slip, and so may the next one. Without an end to that, jobs
    shorter than the slip would pass forever, and later those whose estimates are always wrong.
    """
    waited_s, firm_s = max(0.0, now - job.since), firm_since(job) - job.since
    if waited_s < firm_s:
        return MAX_DELAY_FRACTION * waited_s
    return 0.0 if waited_s < max(STRICT_AFTER_S, 2 * firm_s) else -inf


def firm_since(job: "Waiting") -> float:
    """Return the time from which the reservation of a job is no longer delayed."""
    return job.since + max(FIRM_AFTER_S, FIRM_PATIENCE_FACTOR * (job.backfill_until - job.since))
