"""The jobs that the scheduler would start at once if a plan were queued now, and the jobs that could never start.

Also the state of the machine and its queue, which a listing shows with its plan.
"""

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from launcher.experiments.planning.comparison import Action, ComparedJob, open_jobs
from launcher.experiments.planning.plan import PlannedJob
from launcher.queue.backends.eligibility import (
    runs_here,
    runs_only_here,
    why_impossible_on_backends,
)
from launcher.queue.backends.settings import LOCAL, Backends
from launcher.queue.gpu.gpus_file import read_known_attempts
from launcher.queue.gpu.monitor import GpuSample, OwnProcesses, query_gpus_once
from launcher.queue.gpu.nvml import Nvml
from launcher.queue.gpu.reservations import quiet_board
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.home.paths import Home
from launcher.queue.jobs.accounts import NO_ACCOUNT, FairShareAccount
from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.job import CPU, Spec
from launcher.queue.jobs.signatures import ignored_numbers, is_exact_signature
from launcher.queue.jobs.states import ReasonCode
from launcher.queue.scheduler.chosen_policy import read_policy
from launcher.queue.scheduler.gpus.gpu_ledger import GpuAccounting
from launcher.queue.scheduler.policy.decide import decide
from launcher.queue.scheduler.policy.disciplines import (
    DEFAULT_POLICY,
    SchedulingPolicy,
    order_by_policy,
)
from launcher.queue.scheduler.policy.inventory import Inventory, impossible_reason
from launcher.queue.scheduler.policy.model import Machine, Running, Start, Waiting, make_waiting
from launcher.queue.scheduler.policy.queue_lengths import QueueDelayEstimator, queue_length
from launcher.queue.scheduler.waiting_line import VtimeInitializer, order_by_fair_share
from launcher.queue.store.client import cores_for_jobs
from launcher.queue.store.lanes import Lane, rank_of, visible_devices
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import ReadyJob
from launcher.queue.store.usage import Usage, UsageLookup, no_usage
from launcher.queue.store.usage_records import program_of_signature
from launcher.system import memory
from launcher.system.config import read_table
from launcher.system.environment import owners_environment
from launcher.system.errors import MachineError
from launcher.system.files import Json
from launcher.system.gpu_sharing import SHARING

_AFTER_QUEUED = 1 << 62  # behind every job that is queued already


class MachineState(NamedTuple):
    """The machine and its queue at one instant."""

    now: float
    machine: Machine
    running: tuple[Running, ...] = ()  # attempts that are running
    ready: tuple[ReadyJob, ...] = ()  # jobs of the queue that could start
    disk_free: int | None = None  # bytes free in the results folder; None if unknown
    usage: UsageLookup = no_usage  # returns the known usage of a signature
    visible: tuple[str, ...] | None = None  # CUDA_VISIBLE_DEVICES, as the plan would be queued
    account: FairShareAccount = NO_ACCOUNT  # account of the plan's run
    discipline: SchedulingPolicy = DEFAULT_POLICY  # the policy that decides
    queue_s: float = 0.0  # length of the queue, as `queue_length` has it

    @property
    def free_cpus_and_ram(self) -> tuple[int, int]:
        """Cores, and bytes of main memory, that neither this queue nor another one has reserved."""
        left = Inventory(self.machine, self.running, explain=False)
        return max(0, left.cpus), max(0, min(left.ram, self.machine.ram_free))


class FirstWave(NamedTuple):
    """The jobs that would start at once if the plan were queued now."""

    starts: Mapping[tuple[str, str], int] = {}  # (kind, device) → jobs
    wait_reason: str = ""  # why the first job that does not start has to wait
    unsatisfiable: Mapping[str, int] = {}  # why jobs can never start → how many

    def to_json(self) -> dict[str, Json]:
        """Return the wave as JSON."""
        return {
            "starts": [
                {"kind": kind, "device": device, "jobs": number}
                for (kind, device), number in self.starts.items()
            ],
            "hindrance": self.wait_reason,
            "never": [{"why": why, "jobs": number} for why, number in self.unsatisfiable.items()],
        }


def first_wave(
    compared_jobs: Sequence[ComparedJob], machine_state: MachineState, backends: Backends
) -> FirstWave:
    """Return the jobs that the scheduler's policy would start here, in one order with the waiting jobs."""
    machine = machine_state.machine
    jobs, line = _waiting_line(compared_jobs, machine_state)
    blocked = [ready for ready in line if machine.absent and ready.lane.resources.may_need_gpu]
    requests = [
        make_waiting(
            ready, machine_state.usage(ready.lane.signature, ready.program)
        )._replace(  # a job that is not queued yet has no number that a person could know
            name=jobs[ready.id].name if ready.id < 0 else "",
        )
        for ready in line
        if ready not in blocked
    ]
    requests = _order_like_scheduler(requests, machine_state)
    labels = {gpu.uuid: gpu.label for gpu in machine.gpus}
    starts: Counter[tuple[str, str]] = Counter()
    hindrance = ""
    decisions = decide(
        requests, machine_state.running, machine, machine_state.now, machine_state.discipline
    )
    for decision in decisions:
        if (job := jobs.get(decision.job)) is None:
            continue
        if isinstance(decision, Start):
            device = "+".join(labels[uuid] for uuid in decision.devices) or CPU
            starts[job.kind, device] += 1
        elif not hindrance:
            never = decision.code is ReasonCode.NEVER_FITS
            hindrance = "" if never else f"{job.name} is {decision.reason}"
    blocked_job = next((jobs[ready.id] for ready in blocked if ready.id in jobs), None)
    if blocked_job is not None and not hindrance:
        hindrance = f"{blocked_job.name} is waiting for a GPU: none found ({machine.absent})"
    hopeless = unsatisfiable_jobs(compared_jobs, machine_state)
    hopeless |= unsatisfiable_on_pilots(compared_jobs, backends)
    return FirstWave(starts, hindrance, hopeless)


def would_start(job: Spec, lane: Lane, machine_state: MachineState) -> bool:
    """Return whether the scheduler would start a job here at once if it were queued now.

    Args:
        job: The job.
        lane: The lane in which it would wait.
        machine_state: The machine.
    """
    line = [ready for ready in machine_state.ready if LOCAL in ready.lane.on]
    if machine_state.machine.absent:
        line = [ready for ready in line if not ready.lane.resources.may_need_gpu]
    ready = _build_ready_job(job, machine_state, -1, rank_of(machine_state.now, job.priority))
    line.append(ready._replace(lane=lane))
    line.sort(key=lambda ready: ready.rank)  # the new job is the last of equal ones
    requests = [
        make_waiting(ready, machine_state.usage(ready.lane.signature, ready.program))
        for ready in line
    ]
    decisions = decide(
        _order_like_scheduler(requests, machine_state),
        machine_state.running,
        machine_state.machine,
        machine_state.now,
        machine_state.discipline,
    )
    return any(isinstance(each, Start) and each.job == -1 for each in decisions)


def _order_like_scheduler(
    requests: Sequence[Waiting], machine_state: MachineState
) -> list[Waiting]:
    """Return jobs in the order in which a scheduler that starts now would look at them."""
    running, now, discipline = machine_state.running, machine_state.now, machine_state.discipline
    lengths = QueueDelayEstimator()
    lengths.record(now, machine_state.queue_s)
    waiting_runs = {str(ready.account.run): ready.account for ready in machine_state.ready}
    newcomers = VtimeInitializer()
    newcomers.initialize(waiting_runs, running, now)
    own = {str(machine_state.account.run): machine_state.account}
    accounts = newcomers.initialize(waiting_runs | own, running, now)
    line = order_by_policy(lengths.set_patience(requests), now, discipline)
    return order_by_fair_share(line, running, accounts, now, discipline)


def _waiting_line(
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
        ready for ready in machine_state.ready if ready.id not in again and LOCAL in ready.lane.on
    ]
    for index, job in enumerate(_queue_heads(compared_jobs, machine_state), start=1):
        jobs[-index] = job
        rank = rank_of(machine_state.now, job.priority)
        line.append(_build_ready_job(job, machine_state, -index, rank))
    line.sort(
        key=lambda ready: (ready.rank, ready.id if ready.id > 0 else _AFTER_QUEUED - ready.id)
    )
    return jobs, line


def unsatisfiable_jobs(
    compared_jobs: Sequence[ComparedJob], machine_state: MachineState
) -> dict[str, int]:
    """Return why jobs of the plan can never start on this machine, and how many those are."""
    counts: Counter[str] = Counter()
    reasons: dict[Lane, str] = {}
    for compared in open_jobs(compared_jobs):
        if not runs_only_here(compared.job.terms):
            continue
        ready = _build_ready_job(compared.job, machine_state, 0, 0.0)
        if (lane := ready.lane) not in reasons:
            seen = make_waiting(ready, machine_state.usage(lane.signature, ready.program))
            reasons[lane] = impossible_reason(seen, machine_state.machine)
        counts.update([reasons[lane]] if reasons[lane] else [])
    return dict(counts)


def unsatisfiable_on_pilots(
    compared_jobs: Iterable[ComparedJob], backends: Backends
) -> dict[str, int]:
    """Return why jobs of the plan can never start on the pilots that they ask for, and how many those are."""
    jobs = (compared.job for compared in open_jobs(compared_jobs))
    counts = Counter(why_impossible_on_backends(job.resources, job.terms, backends) for job in jobs)
    return {why: number for why, number in counts.items() if why}


def _build_ready_job(
    job: PlannedJob | Spec, machine_state: MachineState, number: int, rank: float
) -> ReadyJob:
    """Return a job of the plan as the queue would have it."""
    return ReadyJob(
        id=number,
        rank=rank,
        lane_id=0,
        lane=_build_lane(job, machine_state),
        numbers=None if is_exact_signature(job.signature) else ignored_numbers(job.argv),
        program=program_of_signature(job.signature, job.argv),
        priority=job.priority,
        account=machine_state.account,
    )


def _build_lane(job: PlannedJob | Spec, machine_state: MachineState) -> Lane:
    """Return the lane in which a job of the plan would wait."""
    on_gpu = job.resources.may_need_gpu
    return Lane(
        group=job.terms.group,
        resources=job.resources,
        environment=WorkerEnvironment(),
        signature=job.signature if on_gpu else "",
        visible=machine_state.visible if on_gpu else None,
    )


def ready_jobs(compared_jobs: Sequence[ComparedJob]) -> Iterator[PlannedJob]:
    """Give the jobs that have to run and wait for no other."""
    ended = {compared.job.name for compared in compared_jobs if compared.action is Action.CACHED}
    for compared in compared_jobs:
        needs = (*compared.job.needs, *compared.after_any)
        if compared.action is Action.RUN and ended.issuperset(needs):
            yield compared.job


def _queue_heads(
    compared_jobs: Sequence[ComparedJob], machine_state: MachineState
) -> Iterator[PlannedJob]:
    """Give the jobs of the plan at which the scheduler would look: of those that ask for the same, the first."""
    lanes: Counter[Lane] = Counter()
    for job in sorted(ready_jobs(compared_jobs), key=lambda job: -job.priority):
        terms = job.terms
        due = terms.not_before is None or terms.not_before <= machine_state.now
        if due and runs_here(terms):
            lanes[lane := _build_lane(job, machine_state)] += 1
            if lanes[lane] <= machine_state.machine.cpus:
                yield job


def read_machine_state(
    home: Home,
    store: Store | None,
    results: Path,
    now: float,
    discipline: SchedulingPolicy | None = None,
    *,
    reads_gpus: bool = True,
) -> MachineState:
    """Look at the machine as a scheduler does; nothing is written.

    Args:
        home: the queue's.
        store: the queue, if there is one.
        results: the folder to which results will be written; it need not exist yet.
        now: the time.
        discipline: the scheduling policy, or None for the policy of the queue.
        reads_gpus: read the GPUs, which takes time.
    """
    cpus = cores_for_jobs(home)
    claims = store.claims.open_claims() if store else []
    claims = [claim for claim in claims if not claim.pilot]
    recorded = store.usage_records.usage if store else no_usage
    ledger = GpuAccounting(home, OwnProcesses())
    seen: tuple[GpuSnapshot, ...] = ()
    absent = "not read"
    try:
        if reads_gpus:  # a driver that hangs can be interrupted
            seen, absent = query_gpus_once(Nvml().snapshot), ""
    except MachineError as error:
        absent = str(error)
    if store:
        store.usage_records.set_local_machines(gpu.fingerprint for gpu in seen if gpu.total)
    ledger.adopt(read_known_attempts(home), time.monotonic())
    ledger.record_sample(GpuSample(gpus=seen, at=time.monotonic()), claims)
    rules = read_table(SHARING, os.environ)

    def usage(signature: str, program: str = "", machine: str = "") -> Usage:
        known = recorded(signature, program, machine)
        return ledger.usage_tracker.add_running_usage(known, signature, program)

    machine = Machine(
        cpus=cpus,
        ram=memory.usable_bytes(),
        ram_free=memory.available_bytes(),
        gpus=tuple(replace(gpu, reports_load=gpu.uuid not in ledger.unmeasured) for gpu in seen),
        absent=absent,
        limits=store.ready_jobs.slots_by_group() if store else {},
        rules=rules._replace(idle_s=0.0),  # without watching, past users of the GPUs are unknown
        foreign_load=ledger.foreign_load,
        foreign=quiet_board(home.folder).foreign_reservations(),
    )
    running = tuple(ledger.usage_tracker.running_jobs(claims, usage))
    ready = tuple(store.ready_jobs.read_ready(cpus)) if store else ()
    heads = {
        each.lane_id: make_waiting(each, usage(each.lane.signature, each.program)) for each in ready
    }
    counts = store.ready_jobs.waiting_by_lane() if store else {}
    lanes = [(heads[lane], count) for lane, count in counts.items() if lane in heads]
    return MachineState(
        now=now,
        machine=machine,
        running=running,
        ready=ready,
        disk_free=_free_bytes_at(results),
        usage=usage,
        visible=visible_devices(owners_environment(os.environ)),
        discipline=read_policy(home) if discipline is None else discipline,
        queue_s=queue_length(lanes, running, machine, now),
    )


def _free_bytes_at(folder: Path) -> int | None:
    """Return the free bytes of the file system on which a folder is, or will be."""
    there = next((parent for parent in (folder, *folder.parents) if parent.exists()), folder)
    try:
        return shutil.disk_usage(there).free
    except OSError:
        return None
