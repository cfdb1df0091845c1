"""What a whole screen shows, as one value: `status`, its watch and `top` draw nothing else."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from launcher.backends.pilots_file import NO_PILOTS, Pilots
from launcher.screens.format import harmless
from launcher.screens.gpu_view import Gauge
from launcher.screens.host import Host
from launcher.screens.job_view import JobView
from launcher.states import ENDED, ReasonCode, State
from launcher.units import mean

COMMAND = "command"  # the kind of which no two jobs need be alike
LEAST_ENDS = 3  # jobs on which an estimate rests


class Scheduler(NamedTuple):
    """Who starts the jobs."""

    pid: int | None
    state: str  # running, stopping, stopped or absent
    since: float | None = None
    version: str | None = None


class Group(NamedTuple):
    """A group of jobs that has a limit."""

    name: str
    limit: int
    running: int


class Screen(NamedTuple):
    """Everything that is known of a queue at one moment and fits a screen."""

    at: float  # seconds since 1970
    home: str
    scheduler: Scheduler
    host: Host | None = None
    counts: Mapping[State, int] = {}
    active: Mapping[str, tuple[int, int]] = {}  # run → ended, of how many
    left_s: float | None = None  # until all is done, at the pace of late; None: unknown
    runs_left: Mapping[str, float] = {}  # run → the same, where known
    warnings: tuple[str, ...] = ()
    gpus: tuple[Gauge, ...] = ()
    pilots: Pilots = NO_PILOTS
    busy: Mapping[str, tuple[float, ...]] = {}  # UUID → shares, of late
    groups: tuple[Group, ...] = ()
    running: tuple[JobView, ...] = ()
    waiting: tuple[JobView, ...] = ()
    more: int = 0  # waiting jobs that are not listed
    recent: tuple[JobView, ...] = ()  # ends of attempts, the newest first
    found: tuple[JobView, ...] | None = None  # jobs that were looked for; None: none were
    sought: str = ""  # what was looked for
    orders: Mapping[str, str] = {}  # list → by what it is sorted

    @property
    def ended_more(self) -> int:
        """How many jobs have ended that are not listed."""
        listed = {ended.id for ended in self.recent if not ended.again}
        return sum(self.counts.get(state, 0) for state in ENDED) - len(listed)

    def left_of(self, run: str) -> float | None:
        """Return how long a run with open jobs still takes; where it is the only one, that is all that is left."""
        return self.runs_left.get(run, self.left_s if len(self.active) == 1 else None)

    def order_of(self, name: str) -> str:
        """Return what a list's title ends with where the list is sorted."""
        return f" by {self.orders[name]}" if name in self.orders else ""


def remaining_s(
    queued: Mapping[str, int],
    works: Sequence[JobView],
    took: Mapping[str, Sequence[float]],
    now: float,
) -> float | None:
    """Return how long all that is queued or runs takes, at as many jobs at once as run now.

    It is unknown where nothing runs, where a kind of jobs was not done often enough of late, where a
    job is paused or runs longer than any of its kind, or where programs wait, which may be anything.

    Args:
        queued: kind → how many wait.
        works: what runs.
        took: kind → seconds of those that were done of late.
        now: seconds since 1970.
    """
    by_kind = {kind: spans for kind, spans in took.items() if len(spans) >= LEAST_ENDS}
    by_kind.pop(COMMAND, None)
    if not works or not queued.keys() <= by_kind.keys():
        return None
    each = [_left_s(work, by_kind.get(work.kind, ()), now) for work in works]
    left = [span_s for span_s in each if span_s is not None]
    if len(left) < len(each):
        return None
    waiting_s = sum(number * mean(by_kind[kind]) for kind, number in queued.items())
    return max(max(left), (waiting_s + sum(left)) / len(works))


def left_by_run(
    queued: Mapping[str, Mapping[str, int] | None],
    works: Sequence[JobView],
    took: Mapping[str, Sequence[float]],
    now: float,
) -> dict[str, float]:
    """Return run → seconds until it is done, of those where that is known: no other run matters."""
    left_by_run = {}
    for run, kinds in queued.items():
        name = harmless(run)
        ours = [work for work in works if work.run == name]
        left = None if kinds is None else remaining_s(kinds, ours, took, now)
        if left is not None:
            left_by_run[name] = left
    return left_by_run


def _left_s(work: JobView, spans: Sequence[float], now: float) -> float | None:
    """Return how long a running job still takes: as it says itself, else as its like took.

    None: unknown, as of one that is paused.
    """
    if work.code == ReasonCode.PAUSED:
        return None
    if work.step is not None and (ends := work.step.ends(now)) is not None:
        return ends - now
    taken_s = now - work.since
    if not spans or taken_s > max(spans):
        return None
    return max(0.0, mean(spans) - taken_s)
