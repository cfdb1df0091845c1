"""The same jobs under each policy, beside what no policy can beat."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from launcher.errors import UsageError, counted
from launcher.scheduler.policy.disciplines import DISCIPLINES, SJF, Discipline
from launcher.scheduler.policy.disciplines import OURS as OUR_DISCIPLINE
from launcher.simulate.claims import Claims, Memory, WholeCards, claims
from launcher.simulate.fleet import Fleet
from launcher.simulate.lower_bound import lower_bound
from launcher.simulate.others import Beside, beside
from launcher.simulate.outcome import Outcome, measure
from launcher.simulate.parallel import in_processes
from launcher.simulate.predictions import Foresight, forecasts
from launcher.simulate.queue_policy import Live
from launcher.simulate.replay import Span, replay
from launcher.simulate.trace import TraceJob
from launcher.simulate.workload import Workload
from launcher.system.files import Json
from launcher.system.gpu_sharing import Rules
from launcher.units import format_bytes

OURS = OUR_DISCIPLINE.name
POLICIES = tuple(DISCIPLINES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
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


@dataclass(frozen=True, slots=True)
class Replay:
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
