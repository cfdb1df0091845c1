"""The same jobs under each policy, beside what no policy can beat, in processes of which a scheduler may use the rest.

Other people's jobs may come to the same cards; their schedulers know nothing of ours, and take whole idle cards in order.
"""

import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from launcher.errors import UsageError, counted
from launcher.scheduler.policy.disciplines import DISCIPLINES, SJF, Discipline
from launcher.scheduler.policy.disciplines import OURS as OUR_DISCIPLINE
from launcher.simulate.claims import Claims, Memory, WholeCards, claims
from launcher.simulate.fleet import Fleet, Workload
from launcher.simulate.lower_bound import lower_bound
from launcher.simulate.predictions import Foresight, forecasts
from launcher.simulate.queue_policy import Live
from launcher.simulate.replay import Outcome, Span, measure, replay
from launcher.simulate.trace import TraceJob
from launcher.system.files import Json
from launcher.system.gpu_sharing import Rules
from launcher.units import format_bytes

Common = TypeVar("Common")
Answer = TypeVar("Answer")

_common: Any = None  # in a child: what all calculations are about; inherited, as it may be large


def in_processes(
    function: Callable[[Common, str], Answer],
    common: Common,
    names: Sequence[str],
    processes: int,
    tell: Callable[[str], None],
) -> Iterator[tuple[str, Answer]]:
    """Give each name with what the function says of it, as they come.

    Args:
        function: of a module, so that a child finds it.
        common: what all calculations are about.
        names: one for each calculation.
        processes: at most so many at once; 1: all in this process, one after another.
        tell: called with a name before its calculation in this process, and after it in another.
    """
    if processes <= 1 or len(names) <= 1:
        for name in names:
            tell(name)
            yield name, function(common, name)
        return
    # forked, not spawned: the jobs of a trace are inherited instead of copied
    context = multiprocessing.get_context("fork")
    count = min(processes, len(names))
    with context.Pool(
        count, _begin, (common,)
    ) as pool:  # whatever is raised, its processes are ended
        for name, answer in pool.imap_unordered(_call, [(function, name) for name in names]):
            tell(name)
            yield name, answer


def _begin(common: object) -> None:
    global _common  # a child of a pool has no other place for what it inherits
    _common = common
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us, and says why


def _call(task: tuple[Callable[[Any, str], Any], str]) -> tuple[str, Any]:
    function, name = task
    return name, function(_common, name)


def beside(ours: Sequence[TraceJob], others: Sequence[TraceJob]) -> tuple[TraceJob, ...]:
    """Return the jobs of both in the order of their submission; others' have the later numbers."""
    first = 1 + max((job.index for job in ours), default=0)
    theirs = [
        replace(job, index=first + at, needs=(), group="", user="") for at, job in enumerate(others)
    ]
    return tuple(sorted([*ours, *theirs], key=lambda job: job.submitted))


class Beside:
    """Our queue on cards of which others take those that are idle: first come, first served."""

    def __init__(self, ours: Live, fleet: Fleet, first: int) -> None:
        """Begin with empty cards.

        Args:
            ours: our queue.
            fleet: the cards.
            first: the number of the first job of others; ours are before it.
        """
        self._ours, self._first = ours, first
        self._room = fleet.room
        self._machines = [[gpu.index for gpu in machine] for machine in fleet.machines()]
        self._line: deque[TraceJob] = deque()
        self._taken: Counter[int] = Counter()  # card → jobs, ours and theirs
        self._held: dict[int, tuple[int, ...]] = {}  # job → cards

    @property
    def out_of_memory(self) -> int:
        """How many attempts of ours took more than they were promised."""
        return self._ours.out_of_memory

    def put(self, job: TraceJob, now: float) -> None:
        """Take in a job, in its owner's queue."""
        if job.index < self._first:
            self._ours.put(job, now)
        else:
            self._line.append(job)

    def take_back(self, job: TraceJob, took: float, now: float) -> bool:
        """Take back the cards of a job."""
        self._taken.subtract(self._held[job.index])
        cards = self._held.pop(job.index)
        if job.index < self._first:
            return self._ours.take_back(job, took, now)
        for card in cards:
            self._ours.others_take(card, -self._room[card])
        return True

    def starts(self, now: float) -> Iterator[tuple[TraceJob, tuple[int, ...]]]:
        """Give what starts now: theirs first, as they ask nobody."""
        while self._line and (cards := self._idle(self._line[0])):
            for card in cards:
                self._ours.others_take(card, self._room[card])
            yield self._started(self._line.popleft(), cards)
        for job, cards in self._ours.starts(now):
            yield self._started(job, cards)

    def _idle(self, job: TraceJob) -> tuple[int, ...]:
        for machine in self._machines:
            idle = [card for card in machine if not self._taken[card]]
            if len(idle) >= job.gpus:
                return tuple(idle[: job.gpus])
        return ()

    def _started(self, job: TraceJob, cards: tuple[int, ...]) -> tuple[TraceJob, tuple[int, ...]]:
        self._taken.update(cards)
        self._held[job.index] = cards
        return job, cards


OURS = OUR_DISCIPLINE.name
POLICIES = tuple(DISCIPLINES)


class Assumptions(NamedTuple):
    """What holds in the simulated world."""

    fleet: Fleet
    slowdown: float  # so much longer each of two jobs on a card takes; of n: to the power of n - 1
    most: int  # jobs that share a card at most
    foresight: Foresight
    load: float  # jobs come so many times as fast as they did
    all_at_once: bool
    memory: str  # what jobs claim, in words
    seed: int | None  # of that, None where nothing is drawn
    knows: Memory = Memory.KNOWN  # how much a policy knows of that
    users: bool = False  # each user of the trace has a queue
    others: tuple[TraceJob, ...] = ()  # jobs of people whose schedulers know nothing of ours
    durations: str = ""  # how long jobs take, in words; '' where the trace tells

    def record(self) -> dict[str, Json]:
        """Return the assumptions as JSON."""
        return {
            "gpus": str(self.fleet),
            "slowdown": self.slowdown,
            "slowdown_rule": "each of n jobs on a GPU takes slowdown ** (n - 1) times as long",
            "max_per_gpu": self.most,
            "forecast": str(self.foresight),
            "load": self.load,
            "all_at_once": self.all_at_once,
            "memory": self.memory,
            "memory_is": str(self.knows),
            "reserve_bytes": self.fleet.reserve,
            "baseline_bytes": self.fleet.baseline,
            "users": self.users,
            "jobs_of_others": len(self.others),
            "durations": self.durations or "as in the trace",
            "seed": self.seed,
        }


class Study(NamedTuple):
    """What came out."""

    assumptions: Assumptions
    workload: Workload
    outcomes: tuple[Outcome, ...]  # by policy
    lower_bound: float  # seconds
    spans: Mapping[str, Sequence[Span]]  # by policy
    out_of_memory: int = 0  # attempts under our policy that were promised too little, and ran again

    def record(self) -> dict[str, Json]:
        """Return all but the single jobs as JSON."""
        load = self.workload
        return {
            "schema": 1,
            "policies": [outcome.record() for outcome in self.outcomes],
            "lower_bound_s": self.lower_bound,
            "jobs": len(load.jobs),
            "dropped": load.dropped,
            "out_of_memory": self.out_of_memory,
            "dropped_because": {
                "too_many_gpus": load.too_many_gpus,
                "too_much_memory": load.too_much_vram,
                "needs_dropped": load.orphaned,
            },
            "assumptions": self.assumptions.record(),
        }


def study(
    workload: Workload,
    assumptions: Assumptions,
    tell: Callable[[str], None] = lambda _: None,
    policies: Iterable[str] = POLICIES,
    *,
    processes: int = 1,
) -> Study:
    """Replay jobs under each policy.

    Args:
        workload: at least one job.
        assumptions: what holds for all policies; only ours shares cards, and needs forecasts.
        tell: called with the name of each policy: before it is replayed, or, in several processes, when it has been.
        policies: their names.
        processes: so many policies are replayed at once; what comes out is the same.

    Raises:
        UsageError: some jobs never start, so that no figure would be true.
    """
    names = [*policies]
    replays = dict(in_processes(_replay, (workload, assumptions), names, processes, tell))
    spans = {policy: replays[policy].spans for policy in names}
    for policy in names:
        if lost := len(workload.jobs) - len(spans[policy]):
            raise _stuck(lost, policy, workload, assumptions.fleet)
    return Study(
        assumptions=assumptions,
        workload=workload,
        outcomes=tuple(
            measure(policy, spans[policy], workload.jobs, len(assumptions.fleet.totals))
            for policy in names
        ),
        lower_bound=lower_bound(
            workload.jobs,
            assumptions.fleet.room,
            slowdown=assumptions.slowdown,
            most=assumptions.most,
        ),
        spans=spans,
        out_of_memory=sum(came_out.out_of_memory for came_out in replays.values()),
    )


class Replay(NamedTuple):
    """What came out of one policy."""

    spans: Sequence[Span]
    out_of_memory: int


def _replay(asked: tuple[Workload, Assumptions], policy: str) -> Replay:
    workload, assumptions = asked
    queue = _queue(policy, assumptions)
    first = 1 + max(job.index for job in workload.jobs)
    happened = replay(
        beside(workload.jobs, assumptions.others),
        Beside(queue, assumptions.fleet, first) if assumptions.others else queue,
        cards=len(assumptions.fleet.totals),
        slowdown=assumptions.slowdown,
    )
    spans = tuple(span for span in happened if span.job < first)
    return Replay(spans, queue.out_of_memory)


def _stuck(lost: int, policy: str, workload: Workload, fleet: Fleet) -> UsageError:
    whole = counted(len(workload.jobs), "job")
    return UsageError(
        f"{lost:,} of {whole} never start under {policy}: of each GPU {format_bytes(fleet.baseline)} are in use "
        f"and {format_bytes(fleet.reserve)} are left to others, and a job whose memory is not known starts only "
        "where hardly any is in use; give a smaller --baseline or --reserve, or --memory known"
    )


def _queue(policy: str, assumptions: Assumptions) -> Live:
    discipline = DISCIPLINES[policy]
    foresight = Foresight.KNOWN if discipline is SJF else assumptions.foresight
    return Live(
        assumptions.fleet,
        rules=Rules(max_per_gpu=assumptions.most, reserve=assumptions.fleet.reserve),
        forecasts=forecasts(foresight),
        claims=_claims(assumptions, discipline),
        discipline=discipline,
        slowdown=assumptions.slowdown,
        users=assumptions.users,
    )


def _claims(assumptions: Assumptions, discipline: Discipline) -> Claims:
    rooms = {*assumptions.fleet.room}
    if not discipline.shares and len(rooms) == 1:
        return WholeCards(rooms.pop())
    return claims(assumptions.knows if discipline is OUR_DISCIPLINE else Memory.KNOWN)
