"""A scheduler's side of pilots over a real queue, real folders, and pilots in the test's hand."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from launcher.queue.backends.pilot_messages import AttemptFinished
from launcher.queue.backends.pilot_rules import Demand
from launcher.queue.backends.settings import Backends, BackendSettings
from launcher.queue.gpu.reservations import ReservationBoard
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import Spec, Terms
from launcher.queue.jobs.states import Outcome, Reason
from launcher.queue.scheduler import pilot_events
from launcher.queue.scheduler.admission import Admission
from launcher.queue.scheduler.cycle import ControlState, CycleResult, Reasons
from launcher.queue.scheduler.gpus.eviction import Eviction
from launcher.queue.scheduler.gpus.gpu_state import SchedulerGpus
from launcher.queue.scheduler.local_node import LocalNode
from launcher.queue.scheduler.local_partition import LocalPartition
from launcher.queue.scheduler.node import Candidate, Node
from launcher.queue.scheduler.nodes import Nodes
from launcher.queue.scheduler.partitions import Partitions
from launcher.queue.scheduler.pilot_events import PilotEvents
from launcher.queue.scheduler.policy.disciplines import DEFAULT_POLICY, SchedulingPolicy
from launcher.queue.scheduler.policy.model import Decision, Running, Start, Wait
from launcher.queue.scheduler.running_attempts import RunningAttempts
from launcher.queue.scheduler.start_jobs import LaunchBatch
from launcher.queue.store.claims import Claims
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import Claim, ReadyJob
from launcher.queue.store.usage import MeasuredUsage
from launcher.queue.workers.attempt_handles import AttemptHandle
from launcher.queue.workers.fork_server_pool import ForkServerPool
from launcher.queue.workers.start_pauses import StartBackoff
from tests.build import a_context, a_spec, enqueue
from tests.launcher.scheduler.remote.toy_cluster import HELLO, Pilot, ToyFleet

NOW = 1000.0


class RoomyNode(LocalNode):
    """This machine, on which the first jobs fit."""

    room = 0
    elsewhere: Sequence[Running] = ()  # attempts on other nodes at the newest decision

    def decide(
        self,
        candidates: Sequence[Candidate],
        own: Sequence[Running],
        others: Sequence[Running],
        *,
        limits: Mapping[str, int],
        now: float,
        policy: SchedulingPolicy,
    ) -> list[Decision]:
        """Start as many jobs as there is room for."""
        self.elsewhere = others
        return [
            Start(seen.job, devices=(), cpus=1, reason="fits")
            if number < self.room
            else Wait(job=seen.job, reason="waiting for room")
            for number, (_, seen) in enumerate(candidates)
        ]


class RecordedLaunches(LaunchBatch):
    """Starts nothing on this machine, and records what was to start there."""

    def __init__(self, home: Home, claims: Claims, clock: Callable[[], float]) -> None:
        super().__init__(home, claims, clock)
        self.started_here: list[int] = []

    def apply(self, ready: ReadyJob, decision: Decision | Reason, node: Node) -> Reason | None:
        if isinstance(decision, Start) and isinstance(node, RoomyNode):
            self.started_here.append(ready.id)
            return None
        return super().apply(ready, decision, node)


@dataclass
class DispatchHarness:
    """One scheduler's dispatch, turn by turn."""

    home: Home
    store: Store
    folder: Path
    fleet: ToyFleet = field(default_factory=ToyFleet)
    backends: Backends = field(
        default_factory=lambda: Backends(
            by_name={
                "box": BackendSettings(name="box", kind="local", cpus=2, gpus=1, pilots=2),
                "farm": BackendSettings(name="farm", kind="slurm", cpus=4),
            }
        )
    )
    limits: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Another scheduler begins."""
        self.attempts = RunningAttempts()
        self.outage = StartBackoff()
        self.pool = ForkServerPool(self.home, most_idle=1)
        gpus = self.gpus = SchedulerGpus(
            self.home,
            tuple[GpuSnapshot, ...],
            lambda: None,
            board=ReservationBoard(self.folder / "board", self.home.folder),
        )
        self.launches = RecordedLaunches(self.home, self.store.claims, lambda: NOW)
        self.local = RoomyNode(
            self.home,
            self.store,
            cpus=1,
            state=gpus,
            attempts=self.attempts,
            launches=self.launches,
            fork_servers=self.pool,
            start_backoff=self.outage,
        )
        pool = self.fleet.fleet
        self.pilot_events = PilotEvents(
            self.home, pool, lambda: NOW, self.attempts, self.launches.pending_claims
        )
        self.nodes = Nodes(
            self.home,
            self.local,
            pool,
            lambda: (*self.attempts.claims(), *self.launches.pending_claims()),
            self.store.usage_records.usage,
            self.pilot_events,
        )
        self.partitions = Partitions(
            self.home,
            self.store,
            local=LocalPartition(self.local, gpus),
            nodes=self.nodes,
            pilot_pool=pool,
            pilot_events=self.pilot_events,
            backends=lambda: self.backends,
            clock=lambda: NOW,
            attempts=self.attempts,
            specs=self.launches.specs,
        )
        self.admission = Admission(
            self.store,
            cpus=9,
            clock=lambda: NOW,
            gpus=gpus,
            launches=self.launches,
            nodes=self.nodes,
            partitions=self.partitions,
        )

    def pilot(
        self, token: str = "lp-1", *, backend: str = "box", single: bool = False, **hello: object
    ) -> Pilot:
        """Have a pilot that is up."""
        pilot = Pilot(self.folder, token, backend=backend, single=single)
        pilot.tell(HELLO._replace(**hello))  # type: ignore[arg-type]
        self.fleet.pilots.append(pilot.link())
        self.pilot_events.poll_messages()
        return pilot

    def queue(
        self,
        *on: str,
        jobs: int = 1,
        spec: Spec | None = None,
        visible: str | None = None,
        **terms: object,
    ) -> list[int]:
        """Queue jobs that may run on backends; `visible` is the CUDA_VISIBLE_DEVICES of their owner."""
        asked = Terms(on=on, **terms)  # type: ignore[arg-type]
        specs = [
            (spec or a_spec())._replace(name=f"command/{'-'.join(on)}{n}{len(terms)}", terms=asked)
            for n in range(jobs)
        ]
        environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
        return enqueue(self.store, *specs, context=a_context(environment=environment))

    def decide(
        self,
        *,
        here: int = 0,
        fails: bool = False,
        sends: bool = True,
        discipline: SchedulingPolicy = DEFAULT_POLICY,
    ) -> Reasons:
        """Decide as a scheduler does whose machine has room for so many jobs; nothing starts there.

        Args:
            here: how many start on this machine.
            fails: the transaction comes to nothing.
            sends: what is claimed is sent at once.
            discipline: the policy.
        """

        self.local.room = here
        requests = ControlState(group_limits=self.limits, policy=discipline)
        reasons: Reasons = {}
        with contextlib.suppress(ZeroDivisionError), self.store.database.writing():
            reasons = self.admission.decide(requests, CycleResult())
            assert 1 / (not fails)
        if fails:
            self.launches.rollback()
            self.store.database.invalidate_caches()
        self.launches.commit()
        for watch in self.launches.launch_committed() if sends else ():
            self.attempts.add(watch.claim, watch)
        return reasons

    def waiting_reason(self, *, here: int = 0) -> str:
        """Decide; return why what waits does so."""
        (reason,) = filter(None, self.decide(here=here).values())
        return reason.text

    def requested_pilots(self) -> tuple[Mapping[str, Demand], Mapping[str, int]]:
        """Request pilots. Return the demand and the attempts per pilot that the pilot pool receives."""
        self.partitions.request_pilots(ControlState(), CycleResult())
        return self.fleet.turns[-1]

    def poll_gpus(self) -> Mapping[int, Eviction]:
        """Poll the pilots and their GPUs. Return the jobs to evict."""
        self.pilot_events.poll_messages()
        evictions: dict[int, Eviction] = {}
        for pilot in self.nodes.list_pilots():
            evictions |= pilot.poll(CycleResult())
        return evictions

    def measured_usage(self, claim: Claim) -> MeasuredUsage:
        """The measurements of an attempt on a pilot."""
        return self.nodes.host_of(claim).measured_usage(claim)

    def poll_ends(self) -> list[tuple[int, Outcome | AttemptHandle]]:
        """Poll the pilots. Return the events of attempts."""
        self.pilot_events.poll_messages()
        return [(claim.job, news) for claim, _, news in self.attempts.poll_events(set())]

    def end(self, pilot: Pilot, attempt: str, outcome: Outcome | None) -> None:
        pilot.tell(AttemptFinished(attempt=attempt, outcome=outcome))


@pytest.fixture
def dispatch_harness(
    home: Home, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DispatchHarness]:
    monkeypatch.setattr(pilot_events, "ORPHAN_POLL_S", 0.0)
    harness = DispatchHarness(home, store, tmp_path / "pilots")
    yield harness
    harness.pool.close()
