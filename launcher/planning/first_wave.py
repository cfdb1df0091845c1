"""What the scheduler would start at once if a plan were queued now, what could never start, and what all of it takes.

With it what a listing shows beside its plan: the machine and its queue now, what was done before, and by that the time
and disk of each job.
"""

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from launcher.accounts import NO_ACCOUNT, Account
from launcher.backends.settings import HERE, Backends, impossible_there, runs_here, runs_only_here
from launcher.context import WorkerEnvironment
from launcher.errors import MachineError
from launcher.gpu.monitor import Ours, Sight, look_once
from launcher.gpu.nvml import Nvml
from launcher.gpu.reservation_files import reservations_folder
from launcher.gpu.reservations import ReservationBoard
from launcher.job import CPU, Resources, is_exact, numbers_of
from launcher.kind_interface import Kind
from launcher.kinds import costs
from launcher.planning.plan import PlannedJob
from launcher.planning.queue_comparison import Action, ComparedJob
from launcher.scheduler.gpus.gpu_ledger import Ledger
from launcher.scheduler.policy.decide import decide
from launcher.scheduler.policy.disciplines import arranged
from launcher.scheduler.policy.inventory import impossible
from launcher.scheduler.policy.model import Machine, Running, Start, Waiting, waiting
from launcher.scheduler.policy.vram_request import lesson_of
from launcher.scheduler.waiting_line import Newcomers, in_turn
from launcher.states import ReasonCode
from launcher.store.client import cores_for
from launcher.store.queue import Store
from launcher.store.rows import JobRow, Lane, ReadyJob, visible_devices
from launcher.store.usage import NO_USAGE, Usage
from launcher.store.user_actions import rank_of
from launcher.system import memory
from launcher.system.config import read_configuration
from launcher.system.environment import owners_environment
from launcher.system.files import Json
from launcher.system.gpu_sharing import Rules
from launcher.system.paths import Home

FEWEST = 2  # runs that a spread needs at least

_Signature = tuple[str, str | None, bool, bool, str]


class Source(StrEnum):
    """On what an estimate rests."""

    MEASURED = "measured"
    DECLARED = "declared"  # the task file says so
    NONE = "none"


class Past(NamedTuple):
    """A job that was done."""

    kind: str
    settings: Mapping[str, Any]
    images: str | None
    fresh: bool  # it began from no model
    on_gpu: bool
    seconds: float  # from its claim to its end
    disk: int | None  # bytes of what it wrote; None: it names a folder, whose size is unknown


class Estimate(NamedTuple):
    """What is expected of one job; None: unknown."""

    seconds: float | None = None
    spread: float | None = None  # half of the runs lie within this fraction of `seconds`
    disk: int | None = None  # bytes
    runs: int = 0  # on which time and disk rest
    vram: int | None = None  # bytes on each of its GPUs
    peaks: int = 0  # attempts of jobs like it whose memory was measured, and on which `vram` rests

    @property
    def source(self) -> Source:
        """On what time and disk rest."""
        return Source.MEASURED if self.runs else Source.NONE

    @property
    def vram_source(self) -> Source:
        """On what the memory rests."""
        if self.peaks:
            return Source.MEASURED
        return Source.NONE if self.vram is None else Source.DECLARED

    def record(self) -> dict[str, Json]:
        """Return the estimate as JSON."""
        return {
            "seconds": self.seconds,
            "spread": self.spread,
            "disk_bytes": self.disk,
            "runs": self.runs,
            "source": self.source,
            "vram_bytes": self.vram,
            "vram_source": self.vram_source,
        }


@dataclass(slots=True)
class _Alike:
    """The jobs of one signature, and what they have in common once it was asked for."""

    seconds: list[float] = field(default_factory=list)
    disks: list[int] = field(default_factory=list)
    summary: tuple[float, float | None, int | None] | None = None


class History:
    """Jobs that were done on this machine, to be found by what decides how long they take.

    Two jobs are alike when they agree in kind, images, in the settings that their kind names in
    `costs` (in all that are not neutral where it names none), in whether they begin from a model,
    and in whether they work on a GPU.
    """

    def __init__(
        self,
        past: Iterable[Past] = (),
        kinds: Mapping[str, Kind] | None = None,
        *,
        gpus: bool,
        usage: Callable[[str], Usage] = lambda _: NO_USAGE,
    ) -> None:
        """Sort what was done.

        Args:
            past: the jobs.
            kinds: every installed kind by its name; jobs of others are left out.
            gpus: this machine has some.
            usage: returns what was learned of jobs with a signature.
        """
        self.gpus, self.usage = gpus, usage
        self._settings = {name: costs(kind) for name, kind in (kinds or {}).items()}
        self._alike: dict[_Signature, _Alike] = {}
        self._kinds: set[str] = set()
        self._by_kind: dict[tuple[str, bool], list[float]] = {}
        for job in past:
            if job.kind in self._settings:
                self._kinds.add(job.kind)
                text = self._text(job.kind, job.settings)
                key = (job.kind, job.images, job.fresh, job.on_gpu, text)
                alike = self._alike.setdefault(key, _Alike())
                alike.seconds.append(job.seconds)
                self._by_kind.setdefault((job.kind, job.on_gpu), []).append(job.seconds)
                alike.disks += [] if job.disk is None else [job.disk]

    def like(self, job: PlannedJob, *, on_gpu: bool | None = None) -> _Alike | None:
        """Return what was done that is like a job, None where there is nothing.

        Args:
            job: which.
            on_gpu: where it was done; None: where this job will be.
        """
        if job.kind not in self._kinds:
            return None
        text = self._text(job.kind, job.settings)
        on_gpu = wants_gpu(job, gpus=self.gpus) if on_gpu is None else on_gpu
        return self._alike.get((job.kind, job.images, job.base is None, on_gpu, text))

    def of_kind(self, kind: str, *, on_gpu: bool) -> tuple[float, int] | None:
        """Return the median duration of all jobs of a kind, and how many there were; None: none was there."""
        seconds = self._by_kind.get((kind, on_gpu))
        return (median(seconds), len(seconds)) if seconds else None

    def _text(self, kind: str, settings: Mapping[str, Any]) -> str:
        return repr([settings.get(name) for name in self._settings[kind]])


def forecast(job: PlannedJob, history: History) -> Estimate:
    """Return what a job is expected to take: the medians of the jobs that are like it."""
    vram, peaks = _memory(job, history)
    alike = history.like(job)
    if alike is None and wants_gpu(job, gpus=history.gpus):
        usage = history.usage(job.signature)  # of a program, whatever numbers it ran with
        alike = _Alike(seconds=[*usage.seconds]) if usage.own and usage.seconds else None
    if alike is None:
        return Estimate(vram=vram, peaks=peaks)
    if alike.summary is None:
        alike.summary = _summary(alike)
    seconds, spread, disk = alike.summary
    runs = len(alike.seconds)
    return Estimate(seconds=seconds, spread=spread, disk=disk, runs=runs, vram=vram, peaks=peaks)


def seconds_on_cpu(job: PlannedJob, history: History) -> tuple[float, int] | None:
    """Return how long jobs like one took on the CPU, wherever it will work, and how many; None: none was there."""
    alike = history.like(job, on_gpu=False)
    return None if alike is None else (median(alike.seconds), len(alike.seconds))


def _memory(job: PlannedJob, history: History) -> tuple[int | None, int]:
    """Return (bytes, attempts measured): the peak of jobs like it, unless its file declares more."""
    if not wants_gpu(job, gpus=history.gpus):
        return None, 0
    asked, exact = job.resources.min_vram, is_exact(job.signature)
    lesson = lesson_of(
        history.usage(job.signature), exact=exact, numbers=None if exact else numbers_of(job.argv)
    )
    if lesson is None or (asked is not None and (asked > lesson.peak or not exact)):
        return asked, 0
    return lesson.peak, lesson.runs


def wants_gpu(job: PlannedJob, *, gpus: bool) -> bool:
    """Tell whether a job will work on a GPU, where the machine has some or has none."""
    return job.resources.works_on_gpu(there=gpus)


def past_job(row: JobRow, seconds: float, device: str) -> Past:
    """Return a done job as history keeps it.

    Args:
        row: as the queue knows it.
        seconds: how long its last attempt had its place.
        device: where that was: "cpu" or a GPU's UUID.
    """
    spec = row.spec
    sizes = list(row.outputs.values())
    measurable = sizes and (0, 0) not in sizes  # the stamp of a folder
    return Past(
        kind=row.kind,
        settings=spec.settings,
        images=spec.images,
        fresh=spec.base is None,
        on_gpu=device != CPU,
        seconds=seconds,
        disk=sum(size for size, _ in sizes) if measurable else None,
    )


def _summary(alike: _Alike) -> tuple[float, float | None, int | None]:
    middle = median(alike.seconds)
    spread = None
    if len(alike.seconds) >= FEWEST and middle > 0:
        spread = median(abs(span_s - middle) for span_s in alike.seconds) / middle
    disk = round(median(alike.disks)) if alike.disks else None
    return middle, spread, disk


_LAST = 1 << 62  # behind every job that is queued already


class MachineState(NamedTuple):
    """The machine and its queue at one instant."""

    now: float
    machine: Machine
    running: tuple[Running, ...] = ()  # of running attempts
    ready: tuple[ReadyJob, ...] = ()  # jobs of the queue that could start
    disk_free: int | None = None  # bytes where the results will lie; None: it does not tell
    usage: Callable[[str], Usage] = lambda _: NO_USAGE  # what was learned of a signature
    visible: tuple[str, ...] | None = None  # CUDA_VISIBLE_DEVICES, as the plan would be queued
    account: Account = NO_ACCOUNT  # of the plan's run


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


def first_wave(
    compared_jobs: Sequence[ComparedJob], machine_state: MachineState, backends: Backends
) -> FirstWave:
    """Ask the scheduler's own policy what it would start here, beside and behind what waits already."""
    machine = machine_state.machine
    jobs, line = _line(compared_jobs, machine_state)
    blocked = [ready for ready in line if machine.absent and ready.lane.resources.may_need_gpu]
    requests = [
        replace(
            waiting(ready, machine_state.usage(ready.lane.signature)),
            # a job that is not queued yet has no number that a person could know
            name=jobs[ready.id].name if ready.id < 0 else "",
        )
        for ready in line
        if ready not in blocked
    ]
    requests = _in_turn(requests, machine_state)
    labels = {gpu.uuid: gpu.label for gpu in machine.gpus}
    starts: Counter[tuple[str, str]] = Counter()
    hindrance = ""
    for decision in decide(requests, machine_state.running, machine, machine_state.now):
        if (job := jobs.get(decision.job)) is None:
            continue
        if isinstance(decision, Start):
            device = "+".join(labels[uuid] for uuid in decision.devices) or CPU
            starts[job.kind, device] += 1
        elif not hindrance:
            never = decision.code is ReasonCode.NEVER_FITS
            hindrance = "" if never else f"{job.name} {decision.reason}"
    blocked_job = next((jobs[ready.id] for ready in blocked if ready.id in jobs), None)
    if blocked_job is not None and not hindrance:
        hindrance = f"{blocked_job.name} waits for its GPU: {machine.absent}"
    hopeless = hopeless_jobs(compared_jobs, machine_state)
    hopeless |= hopeless_elsewhere(compared_jobs, backends)
    return FirstWave(starts=dict(starts), hindrance=hindrance, hopeless=hopeless)


def _in_turn(requests: Sequence[Waiting], machine_state: MachineState) -> list[Waiting]:
    """Return jobs in the order in which the scheduler would look at them."""
    running, now = machine_state.running, machine_state.now
    waiting_runs = {str(ready.account.run): ready.account for ready in machine_state.ready}
    newcomers = Newcomers()
    newcomers.entered(waiting_runs, running, now)
    own = {str(machine_state.account.run): machine_state.account}
    accounts = newcomers.entered(waiting_runs | own, running, now)
    return in_turn(arranged(requests, now), running, accounts, now)


def _line(
    compared_jobs: Sequence[ComparedJob], machine_state: MachineState
) -> tuple[dict[int, PlannedJob], list[ReadyJob]]:
    """Return the plan's jobs by number, and all that could start, the first first.

    A job that the queue does not know gets a negative number, which no job of the queue has.
    """
    again = {compared.number for compared in compared_jobs if compared.action is Action.RUN}
    jobs = {
        compared.number: compared.job for compared in compared_jobs if compared.number is not None
    }
    line = [
        ready for ready in machine_state.ready if ready.id not in again and HERE in ready.lane.on
    ]
    first = _first_of_each_lane(compared_jobs, machine_state.machine.cpus, machine_state.now)
    for index, job in enumerate(first):
        number = -1 - index
        jobs[number] = job
        rank = rank_of(machine_state.now, job.priority)
        line.append(_ready(job, machine_state, number, rank))
    line.sort(key=lambda ready: (ready.rank, ready.id if ready.id > 0 else _LAST - ready.id))
    return jobs, line


def hopeless_jobs(
    compared_jobs: Sequence[ComparedJob], machine_state: MachineState
) -> dict[str, int]:
    """Return why jobs of the plan can never start on this machine, and how many those are."""
    counts: Counter[str] = Counter()
    reasons: dict[tuple[object, ...], str] = {}
    for compared in compared_jobs:
        if compared.action is Action.CACHED or not runs_only_here(compared.job.terms):
            continue
        lane = _lane(compared.job, machine_state)
        if (key := (lane.resources, lane.signature)) not in reasons:
            job = _ready(compared.job, machine_state, 0, 0.0)
            reasons[key] = impossible(
                waiting(job, machine_state.usage(lane.signature)), machine_state.machine
            )
        if reasons[key]:
            counts[reasons[key]] += 1
    return dict(counts)


def hopeless_elsewhere(compared_jobs: Iterable[ComparedJob], backends: Backends) -> dict[str, int]:
    """Return why jobs of the plan can never start on the pilots that they ask for, and how many those are."""
    jobs = (compared.job for compared in compared_jobs if compared.action is not Action.CACHED)
    counts = Counter(impossible_there(job.resources, job.terms, backends) for job in jobs)
    return {why: number for why, number in counts.items() if why}


def _ready(job: PlannedJob, machine_state: MachineState, number: int, rank: float) -> ReadyJob:
    """Return a job of the plan as the queue would have it."""
    lane = _lane(job, machine_state)
    numbers = None if is_exact(job.signature) else numbers_of(job.argv)
    return ReadyJob(
        id=number,
        rank=rank,
        lane_id=0,
        lane=lane,
        numbers=numbers,
        priority=job.priority,
        account=machine_state.account,
    )


def _lane(job: PlannedJob, machine_state: MachineState) -> Lane:
    """Return the lane in which a job of the plan would wait."""
    resources = job.resources
    if not resources.may_need_gpu:
        return Lane(group=job.terms.group, resources=resources, environment=WorkerEnvironment())
    return Lane(
        group=job.terms.group,
        resources=resources,
        environment=WorkerEnvironment(),
        signature=job.signature,
        visible=machine_state.visible,
    )


def _first_of_each_lane(
    compared_jobs: Sequence[ComparedJob], most: int, now: float
) -> list[PlannedJob]:
    """Return which jobs the scheduler would look at: of those that ask for the same, the first."""
    ended = {compared.job.name for compared in compared_jobs if compared.action is Action.CACHED}
    lanes: Counter[tuple[Resources, str, str]] = Counter()
    jobs = []
    for compared in sorted(compared_jobs, key=lambda compared: -compared.job.priority):
        due = compared.job.terms.not_before is None or compared.job.terms.not_before <= now
        before = (*compared.job.needs, *compared.after_any)
        here = runs_here(compared.job.terms)
        if here and due and compared.action is Action.RUN and ended.issuperset(before):
            resources = compared.job.resources
            memory = compared.job.signature if resources.may_need_gpu else ""
            alike = (resources, memory, compared.job.terms.group)
            lanes[alike] += 1
            if lanes[alike] <= most:
                jobs.append(compared.job)
    return jobs


REMEMBERED = 2000  # jobs that ended last; more would take longer to read than they are worth


def read_machine_state(home: Home, store: Store | None, results: Path, now: float) -> MachineState:
    """Look at the machine as a scheduler does; nothing is written.

    Args:
        home: the queue's.
        store: the queue, where there is one.
        results: the folder in which results will lie; it need not be there yet.
        now: the time.
    """
    cpus = cores_for(home)
    claims = store.scheduling.claims() if store else []
    claims = [claim for claim in claims if not claim.pilot]
    usage = store.scheduling.usage if store else _no_usage
    ledger = Ledger(home, Ours())
    absent = ""
    try:
        seen = look_once(Nvml().snapshot)  # a driver that hangs can be interrupted
    except MachineError as error:
        seen, absent = (), str(error)
    if store:
        store.scheduling.know_machines(gpu.fingerprint for gpu in seen if gpu.total)
    ledger.enter(Sight(gpus=seen, at=time.monotonic()), claims)
    rules = read_configuration(os.environ).rules or Rules()
    machine = Machine(
        cpus=cpus,
        ram=memory.total(),
        ram_free=memory.available(),
        gpus=seen,
        absent=absent,
        limits=store.scheduling.limits() if store else {},
        rules=rules._replace(idle_s=0.0),  # without watching, past users of the GPUs are unknown
        foreign=ReservationBoard(reservations_folder(os.environ), home.folder).others(),
    )
    return MachineState(
        now=now,
        machine=machine,
        running=tuple(ledger.running(claims, usage)),
        ready=tuple(store.scheduling.ready(cpus)) if store else (),
        disk_free=_free_at(results),
        usage=usage,
        visible=visible_devices(owners_environment(os.environ)),
    )


def _no_usage(_: str) -> Usage:
    return NO_USAGE


def read_history(store: Store | None, kinds: Mapping[str, Kind], *, gpus: bool) -> History:
    """Return what was done before by jobs of these kinds."""
    past = store.read.done_lately(REMEMBERED) if store else []
    usage = store.scheduling.usage if store else _no_usage
    jobs = (past_job(*done) for done in past if done[0].kind in kinds)
    return History(jobs, kinds, gpus=gpus, usage=usage)


def _free_at(folder: Path) -> int | None:
    """Return the free bytes of the file system on which a folder is, or will be."""
    there = next((parent for parent in (folder, *folder.parents) if parent.exists()), folder)
    try:
        return shutil.disk_usage(there).free
    except OSError:
        return None
