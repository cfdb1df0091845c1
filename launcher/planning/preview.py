"""What a plan is up to on this machine: what starts first, how long all of it takes, how much disk."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from launcher.errors import counted
from launcher.gpu.snapshot import GpuSnapshot
from launcher.job import CPU, Breed, Resources
from launcher.kinds import Kind
from launcher.planning.estimates import Estimate, History, forecast
from launcher.planning.plan import Plan, PlannedJob
from launcher.planning.queue_comparison import Action, ComparedJob
from launcher.scheduler.feasibility import impossible
from launcher.scheduler.gpu_accounting import waiting
from launcher.scheduler.model import Machine, Running, Start, Wait
from launcher.scheduler.policy import decide
from launcher.states import ReasonCode
from launcher.store.rows import Lane, ReadyJob
from launcher.store.usage import NO_USAGE, Usage
from launcher.store.user_actions import rank_of
from launcher.system.files import Json

_LAST = 1 << 62  # behind every job that is queued already


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineState:
    """The machine and its queue at one instant."""

    now: float
    machine: Machine
    running: tuple[Running, ...] = ()  # places that are promised already
    ready: tuple[ReadyJob, ...] = ()  # jobs of the queue that could start
    disk_free: int | None = None  # bytes where the results will lie; None: it does not tell
    usage: Callable[[str], Usage] = lambda _: NO_USAGE  # what was learned of a signature
    visible: tuple[str, ...] | None = None  # CUDA_VISIBLE_DEVICES, as the plan would be queued


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstWave:
    """What would start at once, were the plan queued now."""

    starts: Mapping[tuple[str, str], int] = field(default_factory=dict)  # (kind, device) → jobs
    hindrance: str = ""  # why the first job that does not start has to wait
    hopeless: Mapping[str, int] = field(default_factory=dict)  # why jobs can never start → how many

    def record(self) -> dict[str, Json]:
        """Return the wave as JSON."""
        return {
            "starts": [
                {"kind": kind, "device": device, "jobs": number}
                for (kind, device), number in self.starts.items()
            ],
            "hindrance": self.hindrance,
            "never": [{"why": why, "jobs": number} for why, number in self.hopeless.items()],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class KindSum:
    """What the jobs of a kind that have to run are expected to take together."""

    jobs: int
    known: int  # of them, how many have a time
    seconds: float  # of those, added up
    spread: float | None  # of a single job
    shortest: float  # seconds of a single job
    longest: float
    runs: int  # earlier jobs on which this rests


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What is expected of a plan."""

    machine_state: MachineState
    estimates: tuple[Estimate, ...]  # of the plan's jobs, in their order
    wave: FirstWave
    kinds: Mapping[str, KindSum]  # of what has to run
    chain: float | None  # seconds when all that can runs side by side; None: not all is known
    disk: int | None  # bytes of those jobs whose results have a known size; None: of none
    disk_unknown: int  # jobs of which nobody knows how much they write

    def record(self) -> dict[str, Json]:
        """Return what holds for the plan as a whole as JSON."""
        machine = self.machine_state.machine
        return {
            "machine": {
                "cpus": machine.cpus,
                "cpus_free": machine.cpus - sum(job.cpus for job in self.machine_state.running),
                "ram_bytes": machine.ram,
                "ram_free_bytes": machine.ram_free,
                "gpus": [_gpu_record(gpu) for gpu in machine.gpus],
            },
            "first_wave": self.wave.record(),
            "time": {
                "kinds": {
                    kind: {
                        "jobs": kind_sum.jobs,
                        "known": kind_sum.known,
                        "seconds": kind_sum.seconds if kind_sum.known else None,
                        "runs": kind_sum.runs,
                    }
                    for kind, kind_sum in self.kinds.items()
                },
                "chain_seconds": self.chain,
            },
            "disk": {
                "bytes": self.disk,
                "unknown_jobs": self.disk_unknown,
                "free_bytes": self.machine_state.disk_free,
            },
        }


def _gpu_record(gpu: GpuSnapshot) -> dict[str, Json]:
    return {
        "index": gpu.index,
        "label": gpu.label,
        "name": gpu.name,
        "uuid": gpu.uuid,
        "total_bytes": gpu.total,
        "used_bytes": gpu.used,
        "fault": gpu.fault or None,
    }


def preview_plan(
    compared_jobs: Sequence[ComparedJob], history: History, machine_state: MachineState
) -> Preview:
    """Return what is expected of a plan.

    Args:
        compared_jobs: its jobs beside what the queue knows of them; needs come before what needs them.
        history: what was done before.
        machine_state: the machine and its queue.
    """
    estimates = tuple(forecast(compared.job, history) for compared in compared_jobs)
    open_ones = [
        (compared.job, estimate)
        for compared, estimate in zip(compared_jobs, estimates, strict=True)
        if compared.action is not Action.CACHED
    ]
    disks = [estimate.disk for _, estimate in open_ones]
    return Preview(
        machine_state=machine_state,
        estimates=estimates,
        wave=_first_wave(compared_jobs, machine_state),
        kinds=_kind_sums(open_ones),
        chain=_longest_chain(open_ones),
        disk=sum(sizes) if (sizes := [disk for disk in disks if disk is not None]) else None,
        disk_unknown=disks.count(None),
    )


def _kind_sums(jobs: Sequence[tuple[PlannedJob, Estimate]]) -> dict[str, KindSum]:
    by_kind: dict[str, list[Estimate]] = {}
    for job, estimate in jobs:
        by_kind.setdefault(job.kind, []).append(estimate)
    return {kind: _kind_sum(estimates) for kind, estimates in by_kind.items()}


def _kind_sum(estimates: Sequence[Estimate]) -> KindSum:
    estimated = [estimate for estimate in estimates if estimate.seconds is not None]
    times = [estimate.seconds or 0.0 for estimate in estimated]
    spreads = [estimate.spread for estimate in estimated if estimate.spread is not None]
    # jobs with the same estimate rest on the same runs
    return KindSum(
        jobs=len(estimates),
        known=len(estimated),
        seconds=sum(times),
        spread=median(spreads) if spreads else None,
        shortest=min(times, default=0.0),
        longest=max(times, default=0.0),
        runs=sum(
            {
                (estimate.seconds, estimate.spread, estimate.disk): estimate.runs
                for estimate in estimated
            }.values()
        ),
    )


def _longest_chain(jobs: Sequence[tuple[PlannedJob, Estimate]]) -> float | None:
    """Return how long the plan takes at least, however many jobs run side by side."""
    ends: dict[str, float] = {}
    for job, estimate in jobs:
        if estimate.seconds is None:
            return None
        before = max((ends.get(need, 0.0) for need in job.needs), default=0.0)
        ends[job.name] = before + estimate.seconds
    return max(ends.values(), default=0.0)


def _first_wave(compared_jobs: Sequence[ComparedJob], machine_state: MachineState) -> FirstWave:
    """Ask the scheduler's own policy what it would start, beside and behind what waits already."""
    again = {compared.number for compared in compared_jobs if compared.action is Action.RUN}
    known = {
        compared.number: compared.job for compared in compared_jobs if compared.number is not None
    }
    line = [ready for ready in machine_state.ready if ready.id not in again]
    for place, job in enumerate(
        _first_of_each_lane(compared_jobs, machine_state.machine.cpus, machine_state.now)
    ):
        number = -1 - place  # no job of the queue has such a one
        known[number] = job
        rank = rank_of(machine_state.now, job.priority)
        line.append(ReadyJob(id=number, rank=rank, lane_id=0, lane=_lane(job, machine_state)))
    names = {number: job.name for number, job in known.items() if number < 0}
    unseen = [
        ready
        for ready in line
        if machine_state.machine.absent and ready.lane.resources.may_need_gpu
    ]
    line = [ready for ready in line if ready not in unseen]
    line.sort(key=lambda ready: (ready.rank, ready.id if ready.id > 0 else _LAST - ready.id))
    machine = machine_state.machine
    asked = [
        # a job of the plan has no number that a person could know
        replace(
            waiting(ready, machine_state.usage(ready.lane.signature)), name=names.get(ready.id, "")
        )
        for ready in line
    ]
    devices = {gpu.uuid: gpu.label for gpu in machine.gpus}
    starts: Counter[tuple[str, str]] = Counter()
    hindrance, hopeless = "", hopeless_jobs(compared_jobs, machine_state)
    for decision in decide(asked, machine_state.running, machine, machine_state.now):
        found = known.get(decision.job)
        if found is not None and isinstance(decision, Start):
            where = "+".join(devices[uuid] for uuid in decision.devices) or CPU
            starts[found.kind, where] += 1
        elif isinstance(decision, Wait) and found is not None and not hindrance:
            never = decision.code is ReasonCode.NEVER_FITS
            hindrance = "" if never else f"{found.name} {decision.reason}"
    held_up = next((known[ready.id] for ready in unseen if ready.id in known), None)
    if held_up is not None and not hindrance:
        hindrance = f"{held_up.name} waits for its GPU: {machine_state.machine.absent}"
    return FirstWave(starts=dict(starts), hindrance=hindrance, hopeless=hopeless)


def hopeless_jobs(
    compared_jobs: Sequence[ComparedJob], machine_state: MachineState
) -> dict[str, int]:
    """Return why jobs of the plan can never start on this machine, and how many those are."""
    found: Counter[str] = Counter()
    known: dict[tuple[object, ...], str] = {}
    for compared in compared_jobs:
        if compared.action is Action.CACHED:
            continue
        lane = _lane(compared.job, machine_state)
        if (key := (lane.resources, lane.signature)) not in known:
            job = ReadyJob(id=0, rank=0.0, lane_id=0, lane=lane)
            known[key] = impossible(
                waiting(job, machine_state.usage(lane.signature)), machine_state.machine
            )
        if known[key]:
            found[known[key]] += 1
    return dict(found)


def kinds_to_run(plan: Plan, compared_jobs: Iterable[ComparedJob]) -> list[Kind]:
    """Return the kinds of the jobs that have to run, each once."""
    names = dict.fromkeys(one.job.kind for one in compared_jobs if one.action is not Action.CACHED)
    return [plan.kinds[name] for name in names]


def refusals(
    plan: Plan,
    hopeless: Mapping[str, int],
    unset: Iterable[str],
    uninstalled: Iterable[str] = (),
) -> list[str]:
    """Return in a few words each why `run` would refuse a plan; none: it would queue it.

    Args:
        plan: the plan.
        hopeless: why jobs of it can never start here, and how many those are.
        unset: variables that its jobs ask for, and that the shell does not hold.
        uninstalled: in a sentence each, packages that its jobs import and that are not there.
    """
    reasons = ["inputs are missing"] if plan.missing else []
    if hopeless:
        reasons.append(f"{counted(sum(hopeless.values()), 'job')} can never start here")
    reasons += (f"{name} of pass_env is not set in this shell" for name in unset)
    return [*reasons, *uninstalled]


def _lane(job: PlannedJob, machine_state: MachineState) -> Lane:
    """Return the lane in which a job of the plan would wait."""
    resources = job.resources
    if not resources.may_need_gpu:
        return Lane(group=job.terms.group, resources=resources, breed=Breed())
    return Lane(
        group=job.terms.group,
        resources=resources,
        breed=Breed(),
        signature=job.signature,
        visible=machine_state.visible,
    )


def _first_of_each_lane(
    compared_jobs: Sequence[ComparedJob], most: int, now: float
) -> list[PlannedJob]:
    """Return which jobs the scheduler would look at: of those that ask for the same, the first."""
    ended = {compared.job.name for compared in compared_jobs if compared.action is Action.CACHED}
    lanes: Counter[tuple[Resources, str, str]] = Counter()
    found = []
    for compared in sorted(compared_jobs, key=lambda compared: -compared.job.priority):
        due = compared.job.terms.not_before is None or compared.job.terms.not_before <= now
        if due and compared.action is Action.RUN and ended.issuperset(compared.job.needs):
            resources = compared.job.resources
            memory = compared.job.signature if resources.may_need_gpu else ""
            alike = (resources, memory, compared.job.terms.group)
            lanes[alike] += 1
            if lanes[alike] <= most:
                found.append(compared.job)
    return found
