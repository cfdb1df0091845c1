"""All partitions of one scheduler: this machine and the backends, and the number of pilots that each backend should have."""

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from launcher.queue.backends.pilot_pool import PilotPool
from launcher.queue.backends.pilot_rules import Demand
from launcher.queue.backends.settings import Backends, BackendSettings
from launcher.queue.backends.waiting_reasons import one_line
from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import entry_context, read_context, uses_job_folder
from launcher.queue.scheduler.attempt_specs import AttemptSpecs
from launcher.queue.scheduler.cycle import ControlState, CycleResult
from launcher.queue.scheduler.nodes import Nodes
from launcher.queue.scheduler.partition import Partition
from launcher.queue.scheduler.pilot_demand import WaitingLane, pilot_demands
from launcher.queue.scheduler.pilot_events import PilotEvents
from launcher.queue.scheduler.pilot_node import PilotNode
from launcher.queue.scheduler.pilot_partition import PilotPartition
from launcher.queue.scheduler.pilot_seat import PilotSeat
from launcher.queue.scheduler.running_attempts import RunningAttempts
from launcher.queue.store.claims import ClaimPlacement
from launcher.queue.store.lanes import LOCAL_ONLY
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import ReadyJob
from launcher.system.errors import UsageError
from launcher.system.stored_fields import Unreadable, parse_record
from launcher.system.wakeup_pipe import WakeupPipe

COUNT_S = 0.5  # seconds between two counts of what waits
MOST_PATHS = 8  # lanes whose paths a new pilot is to check
UNKNOWN = "config.toml does not contain [backends.{}]. Add this table or cancel the job"
NOT_UNDERSTOOD = "config.toml has an error: {}"


class Partitions:
    """The partitions of one queue. Without backends and pilots there is only this machine."""

    def __init__(
        self,
        home: Home,
        store: Store,
        *,
        local: Partition,
        nodes: Nodes,
        pilot_pool: PilotPool,
        pilot_events: PilotEvents,
        backends: Callable[[], Backends],
        clock: Callable[[], float],
        attempts: RunningAttempts,
        specs: AttemptSpecs,
    ) -> None:
        """Start without any demand for pilots.

        Args:
            home: The queue folder.
            store: The store of the queue.
            local: This machine.
            nodes: This machine and the pilots.
            pilot_pool: The existing pilots.
            pilot_events: Polls the pilots.
            backends: Returns the configured backends. May raise UsageError: no backend is known
                then.
            clock: Seconds since 1970.
            attempts: All running attempts.
            specs: Makes the specifications of attempts.
        """
        self._home, self._nodes, self._local = home, nodes, local
        self._store, self._pilot_pool, self._clock = store, pilot_pool, clock
        self._pilot_events, self._backends = pilot_events, backends
        self._attempts, self._specs = attempts, specs
        # lane → the first job that waits elsewhere, too
        self._waiting_heads: dict[int, ReadyJob] = {}
        # monotonic time of the last count; lanes that were counted
        self._counted_at, self._counted = 0.0, set[int]()
        self._demands: Mapping[str, Demand] = {}
        self._limits: Mapping[str, int] = {}

    def list_partitions(self, ready: Iterable[ReadyJob]) -> list[Partition]:
        """Return this machine, and the partitions that jobs name."""
        names = dict.fromkeys(name for job in ready for name in job.lane.on)
        return [self._partition(name) for name in {self._local.name: None} | names]

    def sort(
        self, partitions: Sequence[Partition], preferred_names: Iterable[str]
    ) -> list[Partition]:
        """Return partitions in the order in which they are asked.

        Args:
            partitions: The partitions.
            preferred_names: Names of those that are asked first.
        """
        if len(partitions) < 2:
            return [*partitions]
        by_name = {partition.name: partition for partition in partitions}
        configured, _ = self._configured_backends()
        order = dict.fromkeys((*preferred_names, *configured, self._local.name, *by_name))
        return [by_name[name] for name in order if name in by_name]

    def _partition(self, name: str) -> Partition:
        if name == self._local.name:
            return self._local
        named, trouble = self._configured_backends()
        return PilotPartition(
            name,
            named.get(name) or trouble or UNKNOWN.format(name),
            self._serving_pilots(named.get(name)),
            unserved_reason=self._pilot_pool.reasons_by_backend().get(name, ""),
            count_again=self._count_again,
        )

    def sleep_and_poll(
        self, sleeper: WakeupPipe, descriptors: Collection[int], timeout_s: float
    ) -> bool:
        """Sleep, and poll pilots meanwhile; see `WakeupPipe.poll_until`."""
        until = time.monotonic() + min(timeout_s, self._pilot_pool.next_cycle_s())
        while True:
            left_s = max(0.0, until - time.monotonic())
            poll_s = self._pilot_events.poll_s
            woken = sleeper.poll_until(descriptors, min(left_s, poll_s))
            if sleeper.ready_descriptors or left_s <= poll_s or self._pilot_events.poll_messages():
                return woken and (bool(sleeper.ready_descriptors) or left_s <= poll_s)

    @property
    def slots(self) -> int:
        """How many jobs run on pilots at once, at most."""
        return sum(
            link.registration.cpus
            for link in self._pilot_pool.links
            if link.registration and link.is_serving
        )

    def _configured_backends(self) -> tuple[Mapping[str, BackendSettings], str]:
        """Return the configured backends, and why none is known, if that is so."""
        try:
            return self._backends().by_name, ""
        except UsageError as error:
            return {}, NOT_UNDERSTOOD.format(one_line(str(error)))

    def _serving_pilots(self, settings: BackendSettings | None) -> list[PilotNode]:
        """Return the pilots of a backend that take jobs, with what starts attempts there."""
        if settings is None:
            return []
        serving = {link.token for link in self._pilot_pool.links if link.is_serving}
        nodes = [
            node
            for node in self._nodes.list_pilots()
            if node.link.token in serving and node.link.spec.backend == settings.name
        ]
        for node in nodes:
            seat = PilotSeat(
                home=self._home,
                link=node.link,
                settings=settings,
                specs=self._specs,
                clock=self._clock,
            )
            node.set_seat(seat)
        return nodes

    # --- how many pilots there should be

    def set_waiting(self, waiting_jobs: Sequence[ReadyJob], limits: Mapping[str, int]) -> None:
        """Set the jobs that wait after a decision.

        Args:
            waiting_jobs: The first job of a lane stands for the lane.
            limits: Limits of groups.
        """
        elsewhere = [job for job in reversed(waiting_jobs) if job.lane.on != LOCAL_ONLY]
        self._waiting_heads = {job.lane_id: job for job in elsewhere}
        self._limits = limits

    def _count_again(self) -> None:
        self._counted_at = 0.0

    def request_pilots(self, control: ControlState, result: CycleResult) -> None:
        """Request as many pilots as the waiting jobs need, and none if the queue is stopped.

        Args:
            control: Requests of users.
            result: Receives the time of the next cycle.
        """
        if control.stop:
            self._pilot_pool.drain(now=control.stop_now)
            self._waiting_heads = {}
        wait_s = self._counted_at + COUNT_S - time.monotonic()
        if wait_s <= 0 or self._waiting_heads.keys() != self._counted:
            self._counted_at, self._counted = time.monotonic(), {*self._waiting_heads}
            self._demands = self._count_demand() if self._waiting_heads else {}
        elif self._waiting_heads:
            result.wake_within(wait_s)
        self._pilot_pool.run_cycle(self._demands, self._nodes.attempts_by_pilot())

    def _count_demand(self) -> Mapping[str, Demand]:
        counts, (backends, _) = (
            self._store.ready_jobs.waiting_by_lane(),
            self._configured_backends(),
        )
        heads = [(head, counts.get(lane, 0)) for lane, head in self._waiting_heads.items()]
        waiting = [
            self._waiting_lane(head, jobs, with_paths=number < MOST_PATHS)
            for number, (head, jobs) in enumerate(heads)
            if jobs
        ]
        return pilot_demands(waiting, backends, self._remaining_in_groups())

    def _remaining_in_groups(self) -> dict[str, int]:
        if not self._limits:
            return {}
        running = Counter(claim.spec.terms.group for claim in self._attempts.claims())
        return {group: most - running[group] for group, most in self._limits.items()}

    def _waiting_lane(self, head: ReadyJob, jobs: int, *, with_paths: bool) -> WaitingLane:
        """Return the jobs of a lane, with the paths that a node must have, if paths are checked."""
        plain = WaitingLane(lane=head.lane, jobs=jobs)
        nowhere = ClaimPlacement(device="cpu", cpus=0, boot="", pid=0, start_ticks=0)
        claim = self._store.claims.next_claim(head, nowhere, self._clock()) if with_paths else None
        if claim is None:
            return plain
        try:
            context = read_context(parse_record(claim.context_text, "its surroundings"))
            context = entry_context(claim.spec, context)
        except Unreadable:
            return plain
        if not claim.spec.entry:
            paths = (context.folder, *([claim.spec.root] if uses_job_folder(claim.spec) else ()))
            return plain._replace(paths=tuple(filter(os.path.isabs, paths)))
        return plain._replace(paths=(claim.spec.root,), interpreter=context.interpreter)
