"""The same jobs under each policy, and a lower bound for any policy, in several processes; and the study as text.

Other users' jobs may use the same GPUs. Their schedulers do not see ours, and take whole idle GPUs in order.
"""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from textwrap import wrap
from typing import NamedTuple, cast

from launcher.frontends.simulate.machine import (
    JobSpan,
    PolicyResult,
    SimulatedCluster,
    Workload,
    compute_result,
    replay,
)
from launcher.frontends.simulate.queue import (
    PEAK_S,
    JobKnowledge,
    MemoryKnowledge,
    PolicyQueue,
    RuntimeKnowledge,
)
from launcher.frontends.simulate.trace import TraceJob
from launcher.queue.scheduler.policy.disciplines import DEFAULT_POLICY as OUR_DISCIPLINE
from launcher.queue.scheduler.policy.disciplines import POLICIES_BY_NAME, SJF
from launcher.system.errors import JobError, UsageError, pluralize
from launcher.system.files import Json
from launcher.system.text_table import table_of_texts
from launcher.system.units import format_bytes, format_seconds

DEFAULT_POLICY_NAME = OUR_DISCIPLINE.name
POLICIES = tuple(POLICIES_BY_NAME)


class Assumptions(NamedTuple):
    """The assumptions of a simulation."""

    fleet: SimulatedCluster
    # factor on the duration of each of two jobs on a GPU; of n: to the power of n - 1
    slowdown: float
    most: int  # jobs that share a GPU at most
    foresight: RuntimeKnowledge
    load: float  # factor on the rate at which jobs are submitted
    all_at_once: bool
    memory: str  # the memory requests of jobs, in words
    seed: int | None  # seed of the random requests; None if nothing is random
    memory_knowledge: MemoryKnowledge = MemoryKnowledge.KNOWN  # a policy's knowledge of memory
    users: bool = False  # each user of the trace has a queue
    others: tuple[TraceJob, ...] = ()  # jobs of others whose schedulers do not see ours
    durations: str = ""  # the source of durations, in words; empty if it is the trace

    def to_json(self) -> dict[str, Json]:
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
            "memory_is": str(self.memory_knowledge),
            "reserve_bytes": self.fleet.reserve,
            "baseline_bytes": self.fleet.baseline,
            "users": self.users,
            "jobs_of_others": len(self.others),
            "durations": self.durations or "as in the trace",
            "seed": self.seed,
        }


class Study(NamedTuple):
    """The results of a study."""

    assumptions: Assumptions
    workload: Workload
    outcomes: tuple[PolicyResult, ...]  # by policy
    lower_bound: float  # seconds
    spans: Mapping[str, Sequence[JobSpan]]  # by policy
    # attempts under our policy with too small a reservation, which ran again
    out_of_memory: int = 0

    def to_json(self) -> dict[str, Json]:
        """Return the study as JSON, without the single jobs."""
        load = self.workload
        return {
            "policies": [outcome._asdict() for outcome in self.outcomes],
            "lower_bound_s": self.lower_bound,
            "jobs": len(load.jobs),
            "dropped": load.too_many_gpus + load.too_much_vram + load.orphaned,
            "out_of_memory": self.out_of_memory,
            "dropped_because": {
                "too_many_gpus": load.too_many_gpus,
                "too_much_memory": load.too_much_vram,
                "needs_dropped": load.orphaned,
            },
            "assumptions": self.assumptions.to_json(),
        }


def run_study(
    workload: Workload,
    assumptions: Assumptions,
    report_progress: Callable[[str], None] = lambda _: None,
    policies: Iterable[str] = POLICIES,
    *,
    processes: int = 1,
) -> Study:
    """Replay jobs under each policy.

    Args:
        workload: at least one job.
        assumptions: are the same for all policies; only our policy shares GPUs and needs forecasts.
        report_progress: called with each policy's name before its replay, or after it if there are several processes.
        policies: their names.
        processes: number of policies that are replayed at once; it does not change the results.

    Raises:
        UsageError: some jobs never start, so that no figure would be true.
    """
    names = [*policies]
    replays = dict(_replays((workload, assumptions), names, processes, report_progress))
    spans = {policy: replays[policy][0] for policy in names}
    for policy in names:
        if lost := len(workload.jobs) - len(spans[policy]):
            raise _unstartable_error(lost, policy, workload, assumptions.fleet)
    return Study(
        assumptions=assumptions,
        workload=workload,
        outcomes=tuple(
            compute_result(policy, spans[policy], workload.jobs, len(assumptions.fleet.totals))
            for policy in names
        ),
        lower_bound=lower_bound(
            workload.jobs,
            assumptions.fleet.room,
            slowdown=assumptions.slowdown,
            most=assumptions.most,
        ),
        spans=spans,
        out_of_memory=sum(failed for _, failed in replays.values()),
    )


ReplayInput = tuple[Workload, Assumptions]
# spans, and number of attempts whose reservation was too small
Replay = tuple[tuple[JobSpan, ...], int]


def _replays(
    replay_input: ReplayInput,
    names: Sequence[str],
    processes: int,
    report_progress: Callable[[str], None],
) -> Iterator[tuple[str, Replay]]:
    """Yield each policy with its replay, in the order in which they finish; with one process, in the given order.

    Raises:
        JobError: a process was killed.
    """
    if processes <= 1 or len(names) <= 1:
        for name in names:
            report_progress(name)
            yield name, _replay(replay_input, name)
        return
    # forked, not spawned: the jobs of a trace are inherited instead of copied. Not a pool, whose `terminate` can hang
    # and which waits forever for a process that was killed
    context, waiting = multiprocessing.get_context("fork"), deque(names)
    running: dict[Connection, tuple[str, ForkProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                name = waiting.popleft()
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(
                    target=_replay_in_child, args=(replay_input, name, sender)
                )
                process.start()
                sender.close()
                running[receiver] = name, process
            for ready in wait([*running]):
                receiver = cast(Connection, ready)
                name, process = running.pop(receiver)
                came_out = _receive(receiver, name)
                process.join()
                report_progress(name)
                yield name, came_out
    finally:  # whatever is raised
        for _, process in running.values():
            process.kill()
            process.join()


def _receive(receiver: Connection, policy: str) -> Replay:
    """Return what a process sends, or raise its exception."""
    with receiver:
        try:
            came_out: Replay | Exception = receiver.recv()
        except EOFError as error:
            raise JobError(
                f"the process that replays the policy {policy} was killed. If it ran out of memory, use a smaller trace."
            ) from error
    if isinstance(came_out, Exception):
        raise came_out
    return came_out


def _replay_in_child(replay_input: ReplayInput, policy: str, sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us, and says why
    try:
        sender.send(_replay(replay_input, policy))
    except Exception as error:  # noqa: BLE001  # the parent raises it
        sender.send(error)


def _replay(replay_input: ReplayInput, policy: str) -> Replay:
    workload, assumptions = replay_input
    discipline, rooms = POLICIES_BY_NAME[policy], {*assumptions.fleet.room}
    knowledge = JobKnowledge(
        RuntimeKnowledge.KNOWN if discipline is SJF else assumptions.foresight,
        assumptions.memory_knowledge if discipline is OUR_DISCIPLINE else MemoryKnowledge.KNOWN,
        rooms.pop() if not discipline.shares_gpus and len(rooms) == 1 else None,
    )
    queue = PolicyQueue(
        assumptions.fleet,
        knowledge,
        discipline,
        max_per_gpu=assumptions.most,
        slowdown=assumptions.slowdown,
        users=assumptions.users,
    )
    first = 1 + max(job.index for job in workload.jobs)
    happened = replay(
        merge_jobs(workload.jobs, assumptions.others),
        ContendedQueue(queue, assumptions.fleet, first) if assumptions.others else queue,
        cards=len(assumptions.fleet.totals),
        slowdown=assumptions.slowdown,
    )
    return tuple(span for span in happened if span.job < first), queue.out_of_memory


def merge_jobs(
    own_jobs: Sequence[TraceJob], other_jobs: Sequence[TraceJob]
) -> tuple[TraceJob, ...]:
    """Return the jobs of both in the order of their submission; others' have the later numbers."""
    first = 1 + max((job.index for job in own_jobs), default=0)
    theirs = [
        replace(job, index=first + at, needs=(), group="", user="")
        for at, job in enumerate(other_jobs)
    ]
    return tuple(sorted([*own_jobs, *theirs], key=lambda job: job.submitted))


class ContendedQueue:
    """Our queue on GPUs of which others take the idle ones: first come, first served."""

    def __init__(self, own_queue: PolicyQueue, cluster: SimulatedCluster, first: int) -> None:
        """Begin with idle GPUs.

        Args:
            own_queue: our queue.
            cluster: the GPUs.
            first: the number of the first job of others; ours are before it.
        """
        self._ours, self._first = own_queue, first
        self._room = cluster.room
        self._machines = [[gpu.index for gpu in machine] for machine in cluster.gpus()]
        self._others_waiting: deque[TraceJob] = deque()
        self._held: dict[int, tuple[int, ...]] = {}  # job, ours or theirs → GPUs

    def submit(self, job: TraceJob, now: float) -> None:
        """Add a job to its owner's queue."""
        if job.index < self._first:
            self._ours.submit(job, now)
        else:
            self._others_waiting.append(job)

    def finish_job(self, job: TraceJob, duration_s: float, now: float) -> bool:
        """Release the GPUs of a job."""
        cards = self._held.pop(job.index)
        if job.index < self._first:
            return self._ours.finish_job(job, duration_s, now)
        for card in cards:
            self._ours.add_others_usage(card, -self._room[card])
        return True

    def next_starts(self, now: float) -> Iterator[tuple[TraceJob, tuple[int, ...]]]:
        """Yield the jobs that start now; others' jobs come first, because they do not consider ours."""
        while self._others_waiting and (cards := self._find_idle_gpus(self._others_waiting[0])):
            for card in cards:
                self._ours.add_others_usage(card, self._room[card])
            job = self._others_waiting.popleft()
            self._held[job.index] = cards
            yield job, cards
        for job, cards in self._ours.next_starts(now):
            self._held[job.index] = cards
            yield job, cards

    def _find_idle_gpus(self, job: TraceJob) -> tuple[int, ...]:
        busy = {card for cards in self._held.values() for card in cards}
        for machine in self._machines:
            idle = [card for card in machine if card not in busy]
            if len(idle) >= job.gpus:
                return tuple(idle[: job.gpus])
        return ()


def _unstartable_error(
    lost_nodes: int, policy: str, workload: Workload, cluster: SimulatedCluster
) -> UsageError:
    whole = pluralize(len(workload.jobs), "job")
    return UsageError(
        f"{lost_nodes:,} of {whole} never start under {policy}, because {format_bytes(cluster.baseline)} of each GPU are in use "
        f"and {format_bytes(cluster.reserve)} are reserved for other users. A job of unknown memory starts only "
        "on an almost empty GPU. Use a smaller --baseline or --reserve, or --memory known."
    )


def lower_bound(
    jobs: Sequence[TraceJob], totals: Sequence[int], *, slowdown: float, most: int
) -> float:
    """Return a lower bound in seconds from the first submission to the end, for any order and any placement.

    It is the largest of:

    * The longest chain. A job starts at its submission or after its dependencies, and no job runs faster than alone.
    * The area. The GPUs must do all work that becomes ready at a time or later after that time. Each of n jobs on a GPU
      advances by 1 / slowdown ** (n - 1) seconds per second. So a second of work takes at least slowdown ** (n - 1) / n
      seconds of a GPU, for the best n. If a job's memory leaves no room for n - 1 of the smallest jobs, the best n
      that fits is used.
    * The same for only the larger GPUs, and the jobs that do not fit on a smaller one.

    Args:
        jobs: the replayed jobs; dependencies precede the jobs that need them.
        totals: the bytes of each GPU.
        slowdown: factor on the duration of each of two jobs on a GPU.
        most: how many jobs share a GPU at most.
    """
    ready: dict[int, float] = {}
    ends: dict[int, float] = {}
    for job in jobs:
        ready[job.index] = max([job.submitted, *(ends[need] for need in job.needs)])
        ends[job.index] = ready[job.index] + job.seconds
    late_first = sorted((job for job in jobs if job.gpus), key=lambda job: -ready[job.index])
    best = [*accumulate((slowdown ** (n - 1) / n for n in range(1, most + 1)), min)]
    bound, smaller = max(ends.values(), default=0.0), -1
    for size in sorted(set(totals)):
        cards = sum(total >= size for total in totals)
        here = [job for job in late_first if (job.vram or 0) > smaller]
        least = max(1, min((job.vram or 0 for job in here), default=0))
        work = 0.0
        for job in here:
            neighbours = (max(totals) - (job.vram or 0)) // least
            work += job.gpus * job.seconds * best[min(most - 1, neighbours)]
            bound = max(bound, ready[job.index] + work / cards)
        smaller = size
    return bound


# --- in words

_HEADER = ("policy", "utilisation", "mean wait", "p95 wait", "turnaround", "makespan")
_NO_BREAK_SPACE = "\u00a0"  # a space at which no line is broken


def draw_study(name: str, study: Study, *, width: int) -> str:
    """Return a study as text: the jobs, a table of results, the assumptions.

    Args:
        name: name of the file.
        study: the study.
        width: columns.
    """
    load, assumed = study.workload, study.assumptions
    what = f"{pluralize(len(load.jobs), 'job')} of {name} on {assumed.fleet}"
    rows: list[Sequence[str]] = []
    for outcome in study.outcomes:
        times = (
            outcome.wait_mean_s,
            outcome.wait_p95_s,
            outcome.turnaround_mean_s,
            outcome.makespan_s,
        )
        used = (
            "–" if outcome.utilisation is None else f"{outcome.utilisation:.1%}".replace("%", " %")
        )
        rows.append((outcome.policy, used, *map(format_seconds, times)))
    rows.append(("lower bound", "", "", "", "", format_seconds(study.lower_bound)))
    table = table_of_texts(_HEADER, rows, range(1, len(_HEADER))).to_lines()
    paragraphs = [
        f"Left out: {_describe_dropped(study)}",
        f"Assumed: {'; '.join(_describe_assumptions(assumed))}",
    ]
    notes = [line for outcome in paragraphs for line in _wrap_text(outcome, width)]
    return "\n".join([*_wrap_text(what, width), "", *(line.text for line in table), "", *notes])


def describe_sharing(assumptions: Assumptions) -> str:
    """Return how jobs share GPUs, in words."""
    times = f"{assumptions.slowdown:g}"
    if assumptions.most == 1:
        return "no two jobs share a GPU"
    if assumptions.most == 2:
        return f"up to 2 jobs share a GPU, and each then takes {times} times as long"
    return f"up to {assumptions.most} jobs share a GPU, and each of n jobs takes {times}^(n-1) times as long"


def _wrap_text(text: str, width: int) -> list[str]:
    kept = text.replace(" %", f"{_NO_BREAK_SPACE}%").replace(" GiB", f"{_NO_BREAK_SPACE}GiB")
    lines = wrap(
        kept, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return [line.replace(_NO_BREAK_SPACE, " ") for line in lines]


def _describe_dropped(study: Study) -> str:
    load, fleet = study.workload, study.assumptions.fleet
    parts = []
    if load.too_many_gpus:
        parts.append(
            f"{pluralize(load.too_many_gpus, 'job')} requesting more than {pluralize(fleet.most_gpus_per_machine, 'GPU')}"
            f"{' of one machine' if len(fleet.machines) > 1 else ''}"
        )
    if load.too_much_vram:
        parts.append(
            f"{pluralize(load.too_much_vram, 'job')} requesting more memory than these GPUs have"
        )
    if load.orphaned:
        parts.append(f"{pluralize(load.orphaned, 'job')} depending on one of these")
    return ", ".join(parts) if parts else "no jobs"


def _describe_assumptions(assumptions: Assumptions) -> list[str]:
    knows = {
        RuntimeKnowledge.KNOWN: "launcher knows how long each job takes alone",
        RuntimeKnowledge.LEARNED: "launcher learns durations from finished jobs",
        RuntimeKnowledge.NONE: "launcher knows no durations",
    }
    parts = [f"durations of {assumptions.durations}"] if assumptions.durations else []
    parts += [f"memory {assumptions.memory}"]
    if assumptions.memory_knowledge is MemoryKnowledge.LEARNED:
        parts += [
            "launcher learns the memory of a job from running and finished jobs of its group",
            "the first job of a group reserves an eighth of a GPU",
            f"a job that runs out of memory starts again after {format_seconds(PEAK_S)}",
            "first-fit knows the memory of each job",
        ]
    fleet = assumptions.fleet
    if fleet.baseline:
        parts.append(f"{format_bytes(fleet.baseline)} of each GPU used by others")
    if fleet.reserve:
        parts.append(f"{format_bytes(fleet.reserve)} of each GPU reserved for others")
    if assumptions.users:
        parts.append("the launcher user with less recent usage goes first (half-life 1 day)")
    if assumptions.others:
        parts.append(
            f"others run {pluralize(len(assumptions.others), 'job')} on whole idle GPUs in the order of submission; "
            "the table does not include them"
        )
    if len(fleet.machines) > 1:
        parts.append("all GPUs of a job are on one machine")
    parts += [describe_sharing(assumptions), knows[assumptions.foresight]]
    parts.append(
        "fifo, sjf and easy assign whole GPUs, sjf knows all durations, first-fit and fifo know none"
    )
    if assumptions.all_at_once:
        parts.append("all jobs are submitted at once")
    elif assumptions.load != 1:
        parts.append(f"jobs are submitted {assumptions.load:g} times as fast")
    return parts
