"""What a whole screen shows, as one value: `status`, its watch and `top` draw nothing else."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from launcher.backends.pilots_file import NO_PILOTS, Pilots
from launcher.screens.format import first_line, harmless
from launcher.screens.gpu_view import Gauge
from launcher.screens.host import Host
from launcher.screens.job_lines import JobLine
from launcher.states import OPEN, Reason, ReasonCode, State
from launcher.units import mean
from launcher.workers.progress.steps import Step

METRICS = 3  # results of a job that are shown in its line
COMMAND = "command"  # the kind of which no two jobs need be alike
LEAST_ENDS = 3  # jobs on which an estimate rests


class Memory(NamedTuple):
    """GPU memory of a running job, in bytes on the GPU where it takes most; None: not known."""

    now: int | None = None
    peak: int | None = None
    asked: int | None = None

    @property
    def beyond(self) -> bool:
        """It took more than it was promised."""
        return self.asked is not None and max(self.now or 0, self.peak or 0) > self.asked


class Work(NamedTuple):
    """A job that runs."""

    line: JobLine
    started: float  # seconds since 1970
    devices: str = "cpu"  # the GPUs as people call them
    node: str = ""  # where its pilot is; '' on this machine
    memory: Memory | None = None  # None: it works on the CPU
    step: Step | None = None
    ends: float | None = None  # when it is expected to end; None: unknown


class Happening(NamedTuple):
    """The end of a job or of an attempt, and what was done about it."""

    at: float
    line: JobLine
    state: State  # failed, too, where the job was queued again; queued, where the queue was stopped
    reason: str = ""  # why it failed, and what was done about it
    short: str = ""  # the same, cut to the program's exception; empty: there is none
    requeued: bool = False  # the reason says itself that the job was queued again
    seconds: float | None = None  # how long its attempt took
    result: str = ""


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
    running: tuple[Work, ...] = ()
    waiting: tuple[JobLine, ...] = ()
    more: int = 0  # waiting jobs that are not listed
    recent: tuple[Happening, ...] = ()  # the newest first
    found: tuple[JobLine, ...] | None = None  # jobs that were looked for; None: none were
    sought: str = ""  # what was looked for
    orders: Mapping[str, str] = {}  # list → by what it is sorted

    @property
    def open(self) -> int:
        """How many jobs have not ended."""
        return sum(self.counts.get(state, 0) for state in OPEN)

    def order_of(self, name: str) -> str:
        """Return what a list's title ends with where the list is sorted."""
        return f" by {self.orders[name]}" if name in self.orders else ""


def numbers_of(result: Mapping[str, object]) -> str:
    """Return the first few numbers of a job's result, as `key=value`."""
    numbers = {
        key: value
        for key, value in result.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return harmless(
        " ".join(
            f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in list(numbers.items())[:METRICS]
        )
    )


def happening(
    line: JobLine,
    at: float,
    state: State,
    reason: Reason,
    *,
    seconds: float | None = None,
    result: Mapping[str, object] | None = None,
) -> Happening:
    """Return what an event says of a job.

    Args:
        line: the job as it is now.
        at: when it happened.
        state: how the job or its attempt ended: see `Happening`.
        reason: why, as the event says.
        seconds: how long the attempt took.
        result: what the job returned.
    """
    return Happening(
        at=at,
        line=line,
        state=state,
        reason="" if state is State.DONE else harmless(first_line(reason.text)),
        short=harmless(str(reason.data.get("short", ""))),
        requeued=bool(reason.data.get("requeued")),
        seconds=seconds,
        result=numbers_of(result or {}),
    )


def remaining_s(
    queued: Mapping[str, int],
    works: Sequence[Work],
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
    each = [_left_s(work, by_kind.get(work.line.kind, ()), now) for work in works]
    left = [span_s for span_s in each if span_s is not None]
    if len(left) < len(each):
        return None
    waiting_s = sum(number * mean(by_kind[kind]) for kind, number in queued.items())
    return max(max(left), (waiting_s + sum(left)) / len(works))


def left_by_run(
    queued: Mapping[str, Mapping[str, int] | None],
    works: Sequence[Work],
    took: Mapping[str, Sequence[float]],
    now: float,
) -> dict[str, float]:
    """Return run → seconds until it is done, of those where that is known: no other run matters."""
    left_by_run = {}
    for run, kinds in queued.items():
        name = harmless(run)
        ours = [work for work in works if work.line.run == name]
        left = None if kinds is None else remaining_s(kinds, ours, took, now)
        if left is not None:
            left_by_run[name] = left
    return left_by_run


def _left_s(work: Work, spans: Sequence[float], now: float) -> float | None:
    """Return how long a running job still takes: as it says itself, else as its like took.

    None: unknown, as of one that is paused.
    """
    if work.line.code == ReasonCode.PAUSED:
        return None
    if work.step is not None and (ends := work.step.ends(now)) is not None:
        return ends - now
    taken_s = now - work.started
    if not spans or taken_s > max(spans):
        return None
    return max(0.0, mean(spans) - taken_s)
