"""What a plan is up to on this machine: what starts first, how long all of it takes, how much disk."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from launcher.errors import counted
from launcher.gpu.snapshot import GpuSnapshot
from launcher.job import CPU, Breed, Resources
from launcher.kinds import Kind
from launcher.planning.estimates import Estimate, History, forecast
from launcher.planning.plan import Plan, PlannedJob
from launcher.planning.submit import Action, Standing, resources_of
from launcher.scheduler.feasibility import impossible
from launcher.scheduler.gpu_accounting import waiting
from launcher.scheduler.model import Machine, Running, Start
from launcher.scheduler.policy import decide
from launcher.store.rows import Lane, ReadyJob
from launcher.store.usage import UNTAUGHT, Lesson
from launcher.store.user_actions import rank_of
from launcher.system.files import Json

_LAST = 1 << 62  # behind every job that is queued already


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """The machine and its queue at one instant."""

    now: float
    machine: Machine
    running: tuple[Running, ...] = ()  # places that are promised already
    ready: tuple[ReadyJob, ...] = ()  # jobs of the queue that could start
    disk_free: int | None = None  # bytes where the results will lie; None: it does not tell
    lesson: Callable[[str], Lesson] = lambda _: UNTAUGHT  # what was learned of a signature
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
class Outlook:
    """What is expected of a plan."""

    here: Here
    estimates: tuple[Estimate, ...]  # of the plan's jobs, in their order
    wave: FirstWave
    kinds: Mapping[str, KindSum]  # of what has to run
    chain: float | None  # seconds when all that can runs side by side; None: not all is known
    disk: int | None  # bytes of those jobs whose results have a known size; None: of none
    disk_unknown: int  # jobs of which nobody knows how much they write

    def record(self) -> dict[str, Json]:
        """Return what holds for the plan as a whole as JSON."""
        machine = self.here.machine
        return {
            "machine": {
                "cpus": machine.cpus,
                "cpus_free": machine.cpus - sum(one.cpus for one in self.here.running),
                "ram_bytes": machine.ram,
                "ram_free_bytes": machine.ram_free,
                "gpus": [_gpu_record(gpu) for gpu in machine.gpus],
            },
            "first_wave": self.wave.record(),
            "time": {
                "kinds": {
                    kind: {
                        "jobs": one.jobs,
                        "known": one.known,
                        "seconds": one.seconds if one.known else None,
                        "runs": one.runs,
                    }
                    for kind, one in self.kinds.items()
                },
                "chain_seconds": self.chain,
            },
            "disk": {
                "bytes": self.disk,
                "unknown_jobs": self.disk_unknown,
                "free_bytes": self.here.disk_free,
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


def look_ahead(standings: Sequence[Standing], history: History, here: Here) -> Outlook:
    """Return what is expected of a plan.

    Args:
        standings: its jobs beside what the queue knows of them; needs come before what needs them.
        history: what was done before.
        here: the machine.
    """
    estimates = tuple(forecast(one.job, history) for one in standings)
    open_ones = [
        (one.job, estimate)
        for one, estimate in zip(standings, estimates, strict=True)
        if one.action is not Action.CACHED
    ]
    disks = [estimate.disk for _, estimate in open_ones]
    return Outlook(
        here=here,
        estimates=estimates,
        wave=_first_wave(standings, here),
        kinds=_kind_sums(open_ones),
        chain=_longest_chain(open_ones),
        disk=sum(known) if (known := [one for one in disks if one is not None]) else None,
        disk_unknown=disks.count(None),
    )


def _kind_sums(jobs: Sequence[tuple[PlannedJob, Estimate]]) -> dict[str, KindSum]:
    by_kind: dict[str, list[Estimate]] = {}
    for job, estimate in jobs:
        by_kind.setdefault(job.kind, []).append(estimate)
    return {kind: _kind_sum(estimates) for kind, estimates in by_kind.items()}


def _kind_sum(estimates: Sequence[Estimate]) -> KindSum:
    known = [one for one in estimates if one.seconds is not None]
    times = [one.seconds or 0.0 for one in known]
    spreads = [one.spread for one in known if one.spread is not None]
    # jobs with the same estimate rest on the same runs
    return KindSum(
        jobs=len(estimates),
        known=len(known),
        seconds=sum(times),
        spread=median(spreads) if spreads else None,
        shortest=min(times, default=0.0),
        longest=max(times, default=0.0),
        runs=sum({(one.seconds, one.spread, one.disk): one.runs for one in known}.values()),
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


def _first_wave(standings: Sequence[Standing], here: Here) -> FirstWave:
    """Ask the scheduler's own policy what it would start, beside and behind what waits already."""
    again = {one.number for one in standings if one.action is Action.RUN}
    known = {one.number: one.job for one in standings if one.number is not None}
    line = [one for one in here.ready if one.id not in again]
    for place, job in enumerate(_first_of_each_lane(standings, here.machine.cpus)):
        number = -1 - place  # no job of the queue has such a one
        known[number] = job
        rank = rank_of(here.now, job.resources.priority)
        line.append(ReadyJob(id=number, rank=rank, lane_id=0, lane=_lane(job, here)))
    unseen = [one for one in line if here.machine.absent and one.lane.resources.may_need_gpu]
    line = [one for one in line if one not in unseen]
    line.sort(key=lambda one: (one.rank, one.id if one.id > 0 else _LAST - one.id))
    machine = here.machine
    asked = [waiting(one, here.lesson(one.lane.signature)) for one in line]
    devices = {gpu.uuid: gpu.label for gpu in machine.gpus}
    starts: Counter[tuple[str, str]] = Counter()
    hindrance, hopeless = "", hopeless_jobs(standings, here)
    for decision in decide(asked, here.running, machine, here.now):
        found = known.get(decision.job)
        if found is not None and isinstance(decision, Start):
            where = "+".join(devices[uuid] for uuid in decision.devices) or CPU
            starts[found.kind, where] += 1
        elif found is not None and not hindrance and decision.reason not in hopeless:
            hindrance = f"{found.name} {_named(decision.reason, known)}"
    held_up = next((known[one.id] for one in unseen if one.id in known), None)
    if held_up is not None and not hindrance:
        hindrance = f"{held_up.name} waits for its GPU: {here.machine.absent}"
    return FirstWave(starts=dict(starts), hindrance=hindrance, hopeless=hopeless)


def _named(reason: str, known: Mapping[int, PlannedJob]) -> str:
    """Return a reason with names of planned jobs, which have no numbers that a person could know."""

    def name(found: re.Match[str]) -> str:
        return known[int(found[0])].name if int(found[0]) in known else found[0]

    return re.sub(r"(?<= )-[1-9][0-9]*\b", name, reason)


def hopeless_jobs(standings: Sequence[Standing], here: Here) -> dict[str, int]:
    """Return why jobs of the plan can never start on this machine, and how many those are."""
    found: Counter[str] = Counter()
    known: dict[tuple[object, ...], str] = {}
    for one in standings:
        if one.action is Action.CACHED:
            continue
        lane = _lane(one.job, here)
        if (key := (lane.resources, lane.signature)) not in known:
            job = ReadyJob(id=0, rank=0.0, lane_id=0, lane=lane)
            known[key] = impossible(waiting(job, here.lesson(lane.signature)), here.machine)
        if known[key]:
            found[known[key]] += 1
    return dict(found)


def kinds_to_run(plan: Plan, standings: Iterable[Standing]) -> list[Kind]:
    """Return the kinds of the jobs that have to run, each once."""
    names = dict.fromkeys(one.job.kind for one in standings if one.action is not Action.CACHED)
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


def _lane(job: PlannedJob, here: Here) -> Lane:
    """Return the lane in which a job of the plan would wait."""
    resources = resources_of(job)
    if not resources.may_need_gpu:
        return Lane(group="", resources=resources, breed=Breed())
    return Lane(
        group="",
        resources=resources,
        breed=Breed(),
        signature=job.signature,
        visible=here.visible,
    )


def _first_of_each_lane(standings: Sequence[Standing], most: int) -> list[PlannedJob]:
    """Return which jobs the scheduler would look at: of those that ask for the same, the first."""
    ended = {one.job.name for one in standings if one.action is Action.CACHED}
    lanes: Counter[tuple[Resources, str]] = Counter()
    found = []
    for one in sorted(standings, key=lambda one: -one.job.resources.priority):
        if one.action is Action.RUN and ended.issuperset(one.job.needs):
            resources = resources_of(one.job)
            alike = (resources, one.job.signature if resources.may_need_gpu else "")
            lanes[alike] += 1
            if lanes[alike] <= most:
                found.append(one.job)
    return found
