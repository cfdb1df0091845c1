"""Schedules of random queues, compared with recorded ones. Each changed decision is shown as text.

`python -m tests.launcher.scheduler.policy.test_schedules --write` records them again after an intended change.
"""

import lzma
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.queue.gpu.resources import (
    EXCLUSIVE,
    JOBS,
    MEMORY,
    ForeignReservation,
    core_resource_name,
)
from launcher.queue.gpu.snapshot import GpuProcess, GpuSnapshot
from launcher.queue.jobs.accounts import (
    OWN_QUEUE_PREFIX,
    PeerScheduler,
    ResourceDemand,
    ResourceUsage,
)
from launcher.queue.jobs.job import Resources
from launcher.queue.jobs.states import MemoryKind, OomReport
from launcher.queue.scheduler.policy.backfill import ReservationAging
from launcher.queue.scheduler.policy.decide import MachineScheduler, decide
from launcher.queue.scheduler.policy.disciplines import POLICIES_BY_NAME, order_by_policy
from launcher.queue.scheduler.policy.fair_share import YieldPolicy, demand_of, starving_resource
from launcher.queue.scheduler.policy.inventory import impossible_reason, make_running
from launcher.queue.scheduler.policy.model import (
    Decision,
    Machine,
    Running,
    Start,
    Waiting,
    gpu_request_of,
    make_waiting,
)
from launcher.queue.scheduler.policy.oom_policy import OomContext, diagnose_oom
from launcher.queue.scheduler.policy.queue_lengths import QueueDelayEstimator, queue_length
from launcher.queue.scheduler.policy.watchdog import Watchdog
from launcher.queue.store.lanes import Lane
from launcher.queue.store.rows import ReadyJob
from launcher.queue.store.usage import NO_SIMILAR_USAGE, AttemptPeak, SimilarUsage, Usage
from launcher.system.gpu_sharing import SharingRules
from tests.build import GIB, PLAIN, a_gpu

FILE = Path(__file__).parents[3] / "data" / "schedules.xz"
WRITE = "python -m tests.launcher.scheduler.policy.test_schedules --write"
WORLDS = 240
STEPS_S = (0.0, 15.0, 30.0, 45.0, 300.0, 4000.0, 100_000.0)
BEGIN_S = 1_000_000.0
SIGNATURES = ("train 1", "command 1")


class World:
    """A random machine with a queue and the memory of its scheduler."""

    def __init__(self, number: int) -> None:
        self.rng = random.Random(number)
        self.policy = POLICIES_BY_NAME["launcher"]
        if number % 4 == 3:
            self.policy = [*POLICIES_BY_NAME.values()][number // 4 % len(POLICIES_BY_NAME)]
        self.now = BEGIN_S
        self.machine = self.a_machine()
        self.true_s: dict[int, float] = {}
        self.line = [self.a_job(number) for number in range(1, self.rng.randrange(4, 14))]
        self.running: list[Running] = []
        self.lengths, self.aging = QueueDelayEstimator(), ReservationAging()
        self.watchdog, self.yields = Watchdog(), YieldPolicy()
        self.demand: ResourceDemand | None = None
        self.told: dict[int, str] = {}

    def maybe(self, share: float) -> bool:
        """Return whether something is so, in this share of cases."""
        return self.rng.random() < share

    def bytes_up_to(self, gib: int) -> int:
        """Return an amount of memory in steps of half a GiB."""
        return self.rng.randrange(2 * gib + 1) * GIB // 2

    def a_card(self, index: int) -> GpuSnapshot:
        """A GPU, perhaps with processes of others, or with a fault."""
        total = self.rng.choice([8, 16, 24])
        used = self.rng.choice([0, 0, 0, 0, 0.5, 1, 4])
        processes = (GpuProcess(pid=7, used=round(used * GIB), user="ada"),) if used else ()
        gpu = a_gpu(index, total=total, used=used, processes=None if self.maybe(0.2) else processes)
        gpu = replace(gpu, utilisation=self.rng.choice([None, 0.0, 0.0, 0.05, 0.97]))
        match self.rng.randrange(20):
            case 0:
                return replace(gpu, fault="it fell off the bus")
            case 1:
                return replace(gpu, used=None)
            case 2:
                return replace(gpu, mig=self.rng.randrange(2), uuid=f"MIG-{index}")
            case 3:
                return replace(gpu, reports_load=False)
            case 4:
                return replace(gpu, compute_mode=self.rng.choice([1, 2, 3]))
            case 5:
                return replace(gpu, shares_host_memory=True)
        return gpu

    def a_machine(self) -> Machine:
        """A machine with rules, reservations of others and limits of groups."""
        rng = self.rng
        cards = tuple(map(self.a_card, range(rng.choice([0, 1, 1, 2, 2, 2, 2, 2, 3, 4]))))
        cpus, ram = rng.choice([3, 8, 16]), rng.choice([12, 48]) * GIB
        names = [gpu.uuid for gpu in cards]
        resources = [*names, *(f"{kind}:{name}" for name in names for kind in (JOBS, EXCLUSIVE))]
        resources += [MEMORY, core_resource_name(0xFF)]
        foreign = tuple(
            ForeignReservation(
                user=rng.choice(["ada", "bob", f"{OWN_QUEUE_PREFIX}me"]),
                device=name,
                amount=self.bytes_up_to(3) if name in {*names, MEMORY} else rng.randrange(1, 3),
                inside=self.maybe(0.5),
                folder=rng.choice(["", "/q"]),
            )
            for name in resources
            if self.maybe(0.08)
        )
        return Machine(
            cpus=cpus,
            cores=0xFF,
            ram=ram,
            installed_ram=64 * GIB,
            ram_free=ram - self.bytes_up_to(4),
            gpus=cards,
            limits={"few": 1, "some": 2},
            rules=SharingRules(
                reserve=rng.choice([0, 0, GIB]),
                max_per_gpu=rng.choice([None, None, None, 1, 2]),
                adaptive=not self.maybe(0.15),
                idle_s=rng.choice([0.0, 0.0, 60.0]),
                devices=rng.choice([*[None] * 7, ("0", "1")]),
            ),
            foreign=foreign,
            idle={name: rng.choice([10.0, 100.0]) for name in names},
            foreign_load={name: (0.3, 1) for name in names if self.maybe(0.2)},
            peers=tuple(self.a_peer(user) for user in ("ada", "bob") if self.maybe(0.12)),
            use=ResourceUsage(9e4, 9e5, 9e4 * GIB),
        )

    def a_peer(self, user: str) -> PeerScheduler:
        """A scheduler of another user that waits."""
        demand = ResourceDemand(
            since=0.0,
            gpus=self.rng.randrange(3),
            vram=self.rng.choice([None, 4 * GIB, 12 * GIB]),
            cpus=self.rng.randrange(1, 4),
            ram=self.bytes_up_to(4),
            exclusive=self.maybe(0.2),
            lacks=self.rng.choice(["gpu", "gpu", "cores", "memory"]),
            count=self.rng.randrange(1, 3),
        )
        usage = ResourceUsage(
            *(amount * GIB ** (at == 2) for at, amount in enumerate((7e3, 9e9, 2e4)))
        )
        return PeerScheduler(user, self.rng.choice([20.0, 4000.0]), demand, usage)

    def a_usage(self) -> Usage:
        """Return measurements of similar jobs."""
        rng, peaks = self.rng, [self.bytes_up_to(12) + GIB for _ in range(6)]
        runs = [
            AttemptPeak(rng.choice(peaks), (rng.choice("1259"), rng.choice("04"))) for _ in peaks
        ]
        similar = SimilarUsage(tuple(peaks[: rng.randrange(5)]), tuple(peaks[: rng.randrange(3)]))
        return Usage(
            seconds=tuple(rng.choice([20.0, 400.0, 5000.0]) for _ in range(rng.randrange(4))),
            peaks=tuple(peaks[: rng.choice([0, 0, 1, 3])]),
            sm=rng.choice([None, None, 0.2, 0.55, 0.95]),
            slowdown=rng.choice([None, None, None, 1.05, 1.2]),
            other_gpu_note=rng.choice(["", "on another GPU (A10)"]),
            attempt_peaks=tuple(runs[: rng.randrange(7)]),
            similar=similar if self.maybe(0.5) else NO_SIMILAR_USAGE,
        )

    def a_job(self, number: int) -> Waiting:
        """Return a waiting job of which something is known."""
        rng = self.rng
        on_gpu = self.maybe(0.8)
        self.true_s[number] = rng.choice([10.0, 350.0, 3000.0, 200_000.0])
        lane = Lane(
            group=rng.choice(["", "", "", "few", "some"]),
            resources=Resources(
                cpus=rng.choice([*[1] * 8, 2, 2, 4, 17]),
                vram=rng.choice([None, None, *map(self.bytes_up_to, (8, 8, 16, 26))]),
                device=rng.choice([*["cuda"] * 6, "auto", "auto", "cuda:1"]) if on_gpu else "cpu",
                accelerated=True,
                gpus=rng.choice([*[1] * 8, 2, 2, 3]) if on_gpu else 1,
                ram=rng.choice([*[None] * 5, self.bytes_up_to(8), self.bytes_up_to(20)]),
                exclusive=self.maybe(0.15),
            ),
            environment=PLAIN,
            signature=rng.choice(SIGNATURES) if on_gpu else "",
            visible=rng.choice([*[None] * 12, ("0",), ("1", "0"), ()]),
            least_vram=rng.choice([*[0] * 6, self.bytes_up_to(9)]),
            made_exclusive=self.maybe(0.08),
            limit=rng.choice([None, None, 600.0, 90_000.0]),
        )
        ready = ReadyJob(
            id=number,
            rank=BEGIN_S - rng.choice([0.0, 60.0, 5000.0, 90_000.0, 9e6]),
            lane_id=number,
            lane=lane,
            numbers=rng.choice([None, ("5", "0"), ("3", "4")]),
            program=rng.choice(["", "a", "b"]),
            priority=rng.choice([0, 0, 0, 1, -1]),
        )
        job = make_waiting(ready, self.a_usage())
        load = job.load._replace(measured=self.maybe(0.5), steps=self.maybe(0.2))
        name, elsewhere = rng.choice(["", f"train/{number}"]), self.maybe(0.05)
        return job._replace(name=name, load=load, reserved_elsewhere=elsewhere)

    def an_oom(self) -> str:
        """The verdict on a job that ran out of memory."""
        amounts = [
            self.rng.choice([None, self.bytes_up_to(9), self.bytes_up_to(24)]) for _ in "123456"
        ]
        total = self.rng.choice([None, 24 * GIB])
        where: MemoryKind = "ram" if self.maybe(0.2) else "gpu"
        cap = amounts[2] if self.maybe(0.3) else None
        report = OomReport(where, amounts[0], amounts[1], cap, amounts[3], total)
        others = self.rng.choice([None, 0, GIB, 2 * GIB, 10 * GIB])
        ram = self.rng.choice([None, *amounts[:2]])
        context = OomContext(amounts[4], total, others, amounts[5], GIB * self.maybe(0.2), ram)
        return repr(diagnose_oom(report, context))

    def first(self) -> Iterator[str]:
        """Yield answers that depend on no other cycle."""
        for job in self.line:
            yield f"{_describe(job)}; {impossible_reason(job, self.machine)}"
        yield from (self.an_oom() for _ in range(8))
        scheduler = MachineScheduler(self.machine, policy=self.policy, explain=False)
        yield repr(scheduler.decide(self.line, self.now))
        yield f"busy for {scheduler.remaining_gpu_seconds(self.now + 100.0):.1f} GPU-seconds"
        for run in [*scheduler.inventory.running.values()]:
            if self.maybe(0.4):
                scheduler.release_job(run.job)
            elif run.estimated:
                yield f"room {scheduler.record_usage(run.job, self.bytes_up_to(8))}"
        yield repr(scheduler.decide(self.line, self.now + 50.0))

    def step(self, pause_s: float) -> Iterator[str]:
        """Let time pass, decide, and yield the new decisions."""
        self.now += pause_s
        self.running = [self.seen(run) for run in self.running if self.is_there(run)]
        machine = self.yields.with_eligible_peers(self.machine, self.now)
        starving = starving_resource(self.demand, self.running, machine, self.now)
        machine = machine._replace(starving_resource=starving)
        if self.lengths.is_due(self.now):
            alike = [(job, 1) for job in self.line]
            self.lengths.record(self.now, queue_length(alike, self.running, machine, self.now))
        line = order_by_policy(self.lengths.set_patience(self.line), self.now, self.policy)
        line = self.aging.with_held_reservations(line, self.now)
        decisions = decide(line, self.running, machine, self.now, self.policy)
        self.aging.record_decisions(decisions, self.now)
        verdict = self.watchdog.review(line, decisions, self.running, machine, self.now)
        self.yields.record_decisions(verdict.decisions, self.now)
        yield f"at {self.now - BEGIN_S:g}: queue {self.lengths.length_at(self.now):.1f} s"
        yield from (*verdict.messages, *self.yields.complaints)
        self.yields.complaints.clear()
        demand, wanting = demand_of(line, verdict.decisions, machine)
        self.demand = None if demand is None else demand._replace(since=BEGIN_S)
        yield f"job {wanting}: {demand}, starving: {starving}, {self.watchdog.is_watching}"
        for job, decision in zip(line, verdict.decisions, strict=True):
            text = _describe(decision)
            if self.told.get(job.job) != text:
                self.told[job.job] = text
                yield text
            if isinstance(decision, Start):
                self.start(job, decision)

    def start(self, job: Waiting, decision: Start) -> None:
        """Move a job from the queue to the machine."""
        need = gpu_request_of(job) if decision.devices else None
        run = make_running(job, need, [], decision.cpus, self.now)
        self.line = [other for other in self.line if other.job != job.job]
        amount = decision.estimate if decision.vram is None else decision.vram
        self.running.append(
            run._replace(devices=decision.devices, vram=amount, exclusive=decision.exclusive)
        )

    def is_there(self, run: Running) -> bool:
        """Return whether a job has not ended."""
        return self.now - (run.since or 0.0) < self.true_s[run.job]

    def seen(self, run: Running) -> Running:
        """Return a job as its scheduler sees it now: some are measured after a while."""
        age_s = self.now - (run.since or 0.0)
        if run.unmeasured_s is None or (run.job % 2 and age_s >= 30.0):
            used = dict.fromkeys(run.devices, (run.vram or GIB) * 3 // 4)
            return run._replace(unmeasured_s=None, used=used, load=run.load._replace(measured=True))
        return run._replace(unmeasured_s=age_s)


def _describe(job: Decision | Waiting) -> str:
    """Return the values that are not the usual ones."""
    usual = type(job)._field_defaults
    values = {
        name: value
        for name, value in job._asdict().items()
        if usual.get(name, job) != value and name not in {"data", "job", "resources"}
    }
    return f"{job.job}: {type(job).__name__} {values}"


def _schedule(number: int) -> list[str]:
    world = World(number)
    return [*world.first(), *(line for pause_s in STEPS_S for line in world.step(pause_s))]


def _recorded() -> list[str]:
    return lzma.decompress(FILE.read_bytes()).decode().split("\n\n")


@pytest.mark.parametrize("first", range(0, WORLDS, 40))
def test_schedules_are_the_recorded_ones(first: int) -> None:
    recorded = _recorded()
    for number in range(first, first + 40):
        assert _schedule(number) == recorded[number].splitlines(), f"world {number}; {WRITE}"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(f"usage: {WRITE}")
    text = "\n\n".join("\n".join(_schedule(number)) for number in range(WORLDS))
    FILE.write_bytes(lzma.compress(text.encode()))
