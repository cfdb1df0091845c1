"""Which waiting job starts now, where, and why each other one still waits; a pure function of its arguments.

Jobs are examined in the order of `disciplines.order_by_policy`. A job that fits starts. A
reservation goes to the first job that does not fit, whose patience has ended, and that would fit if
our jobs ended. It is the earliest time at which the job can start, as far as the durations of the
others are known, and the place. A later job starts before it only if it delays this start by at
most its slip. This holds if it is expected to end in time, or if there is room for both. (This is
EASY backfill of Lifka, "The ANL/IBM SP scheduling system", 1995, with memory of GPUs, GPUs, cores
and main memory at once. With patience it is the selective backfilling of Srinivasan, Kettimuthu,
Subramani and Sadayappan, JSSPP 2002.)
"""

from collections.abc import Iterable, Sequence
from math import inf

from launcher.queue.jobs.states import ReasonCode
from launcher.queue.scheduler.policy.backfill import (
    SHOWN_DELAY_S,
    FirstJobReservation,
    find_blockers,
    find_gpus_beside,
    reserve,
)
from launcher.queue.scheduler.policy.co_location import UNKNOWN_LOAD
from launcher.queue.scheduler.policy.disciplines import (
    DEFAULT_POLICY,
    ReservationPolicy,
    SchedulingPolicy,
    firm_since,
)
from launcher.queue.scheduler.policy.fair_share import PeerReservations, peers_by_usage
from launcher.queue.scheduler.policy.gpu_slot import GpuState
from launcher.queue.scheduler.policy.inventory import (
    WAITING_FOR,
    Inventory,
    Shortfall,
    make_running,
    placement_reason,
)
from launcher.queue.scheduler.policy.model import (
    UNKNOWN,
    Decision,
    GpuRequest,
    Machine,
    Running,
    Start,
    Wait,
    Waiting,
)
from launcher.queue.store.lanes import PRIORITY_POINT_S
from launcher.system.units import format_seconds


def decide(
    waiting_jobs: Sequence[Waiting],
    running_jobs: Iterable[Running],
    machine: Machine,
    now: float = 0.0,
    policy: SchedulingPolicy = DEFAULT_POLICY,
) -> list[Decision]:
    """Return the decision for each waiting job, in their order (the most urgent first).

    Neither cores nor memory are reserved twice, on the machine or on a GPU. A GPU never runs more
    of our jobs than the rules permit, and a group never runs more jobs than its limit. A job does
    not delay others if its group is full, if this machine can never hold it, or if it waits for
    memory that others use.

    Args:
        waiting_jobs: The waiting jobs.
        running_jobs: Running jobs with their reservations, the oldest first.
        machine: The resources.
        now: Seconds, on the clock of `Running.ends`.
        policy: The policy.
    """
    if not policy.uses_estimates:  # recorded durations and measured loads on GPUs
        waiting_jobs = [
            job._replace(seconds=None, forecast=UNKNOWN, load=UNKNOWN_LOAD) for job in waiting_jobs
        ]
        running_jobs = [
            run._replace(ends=None, forecast=UNKNOWN, load=UNKNOWN_LOAD) for run in running_jobs
        ]
    return MachineScheduler(machine, running_jobs, policy=policy).decide(waiting_jobs, now)


# seconds for which a GPU is drained for a job that fits beside few others; longer for an
# exclusive one that has waited longer
DRAIN_S = 60.0


HEAVY_LOAD = 0.5  # load of a job that fits beside few others


class MachineScheduler:
    """Decisions about one machine, each on what those before it have left."""

    def __init__(
        self,
        machine: Machine,
        running_jobs: Iterable[Running] = (),
        *,
        policy: SchedulingPolicy = DEFAULT_POLICY,
        explain: bool = True,
    ) -> None:
        """Take stock; see `Inventory`."""
        if not policy.shares_gpus:
            machine = machine._replace(rules=machine.rules._replace(max_per_gpu=1))
        self.inventory = Inventory(machine, running_jobs, explain=explain)
        self._reserves_for = policy.reserves_for
        self._blocked_reason = ""  # reason of the first job, if no other may start before it
        self._has_hinted = (
            False  # the first job that does not fit has its expected start in its reason
        )
        # requests for which no GPU is kept free in this decision
        self._undrained: set[GpuRequest] = set()
        self._started: dict[int, Running] = {}  # job → started job
        self._reservation: FirstJobReservation | None = None
        # resources yielded to peer users during this decision
        self._peer_reservations = PeerReservations(self.inventory, ())

    def decide(self, waiting_jobs: Sequence[Waiting], now: float) -> list[Decision]:
        """Return what happens to each waiting job; what starts counts as running from then on."""
        self._reservation, self._blocked_reason, self._has_hinted = None, "", False
        self._undrained.clear()
        self.inventory.advance(now)
        self._peer_reservations = PeerReservations(
            self.inventory, peers_by_usage(self.inventory.machine), now
        )
        decisions = [self._decide(request, now) for request in waiting_jobs]
        self._peer_reservations.release()
        return decisions

    def release_job(self, job: int) -> None:
        """Count what a job took that a decision has started as free."""
        self.inventory.remove_job(self._started.pop(job))

    def record_usage(self, job: int, used_bytes: int) -> int:
        """Count the usage of a job that was started with an estimate, and return how much it can have.

        Args:
            job: Number of the job.
            used_bytes: Bytes on each of its GPUs.

        Returns:
            Bytes on the fullest of its GPUs that are not counted for others there.
        """
        run = self._started[job]
        self.inventory.remove_job(run)
        room = self.inventory.free_on(run.devices)
        known = run._replace(vram=min(used_bytes, max(0, room)), unmeasured_s=None)
        self._started[job] = known
        self.inventory.add_job(known)
        return room

    def remaining_gpu_seconds(self, now: float) -> float:
        """Return the remaining GPU-seconds of all running jobs. Jobs without a forecast run as long again."""
        left_s = 0.0
        for key, run in self.inventory.running.items():
            end, began = self.inventory.end_times[key][0], now if run.since is None else run.since
            left_s += len(run.devices) * max(0.0, now - began if end == inf else end - now)
        return left_s

    def _decide(self, request: Waiting, now: float) -> Decision:
        never, needs = self.inventory.resource_options(request)
        if full := self.inventory.group_full_reason(request.group):
            return Wait(job=request.job, reason=full, code=ReasonCode.GROUP_FULL)
        if never:
            return Wait(job=request.job, reason=never.text, code=never.code)
        if self._blocked_reason:
            return Wait(job=request.job, reason=self._blocked_reason, code=ReasonCode.WOULD_DELAY)
        cpus = min(request.resources.cpus, self.inventory.machine.cpus)
        need, lacks = self.inventory.find_shortfall(request, needs, cpus)
        if self.inventory.machine.peers:
            lacks, yields = self._peer_reservations.check_job(request, needs, need, lacks, cpus)
            if yields is not None:
                self._block_later_jobs(request)
                return yields
        if not lacks:
            places, delay = self._find_gpus(request, need, cpus, now)
            if not delay:
                return self._start_job(request, need, places, cpus, now)
            return Wait(job=request.job, reason=delay, code=ReasonCode.WOULD_DELAY)
        if self._reserves_for is ReservationPolicy.ALL:
            self._block_later_jobs(request)
        elif self._reservation is None:
            return self._wait_with_reservation(request, needs, cpus, lacks, now)
        return _wait(request, lacks)

    def _block_later_jobs(self, request: Waiting) -> None:
        """Prevent later jobs from starting before a waiting one, if the policy requires that."""
        if self._reserves_for is ReservationPolicy.ALL:
            name = request.name or str(request.job)
            self._blocked_reason = f"{WAITING_FOR}job {name} (first come, first served)"

    def _wait_with_reservation(
        self, request: Waiting, needs: Sequence[GpuRequest], cpus: int, lacks: Shortfall, now: float
    ) -> Wait:
        """Return why a job waits that does not fit; keep a place for the job if a reservation is due."""
        overdue = self._reserves_for is ReservationPolicy.OVERDUE and request.backfill_until <= now
        due = request.holds_reservation or (
            (overdue or self._reserves_for is ReservationPolicy.FIRST)
            and not request.reserved_elsewhere
        )
        drains = self._reserves_for is ReservationPolicy.OVERDUE and self._needs_drain(
            request, needs
        )
        hints = self.inventory.explain and not self._has_hinted and lacks.resource is not None
        if due or drains or hints:
            place = reserve(self.inventory, request, needs, cpus, now)
            self._has_hinted = True
            if drains and place is not None and not request.reserved_elsewhere:
                drain_s = place.starts_at[0] - now
                came = request.since + request.priority * PRIORITY_POINT_S
                waited_s = now - came if request.resources.exclusive else 0.0
                due = due or drain_s <= max(DRAIN_S, waited_s)
                if not due:  # no reservation is due for jobs that need the same, either
                    self._undrained.update(needs)
                if drain_s <= DRAIN_S:  # expected ends are too uncertain for so short a time
                    firm = request._replace(max_delay_s=-inf)
                    place = reserve(self.inventory, firm, needs, cpus, now)
            when = "" if place is None else place.describe_time(now)
            if place is not None and when and lacks.resource is not None:
                have = "have room" if place.room_beside else "be free"
                told = [lacks.situation, f"{place.where} will {have}{when}"]
                patience_s, firm_s = request.backfill_until - now, firm_since(request) - now
                if not due and 0 < patience_s < inf and patience_s > place.starts_at[0] - now:
                    told.append("other jobs may start first")
                elif not due and 0 < patience_s < inf:
                    later = format_seconds(round(patience_s))
                    told.append(
                        f"reserved for this job in {later}, other jobs may start first until then"
                    )
                if due and place.max_delay_s >= SHOWN_DELAY_S and firm_s > 0:
                    told.append(f"no other job may delay it after {format_seconds(round(firm_s))}")
                lacks = lacks._replace(situation="; ".join(filter(None, told)))
            self._reservation = place if due else None
            if place is None or request.holds_reservation:
                for_others, behind_ours = find_blockers(self.inventory, request, cpus)
                if for_others:
                    return _wait(request, lacks)._replace(
                        blocked_by_others=True, blocked_by_own=behind_ours
                    )
        kept = self._reservation
        return _wait(request, lacks)._replace(
            reserved_from=None if kept is None else kept.starts_at[0]
        )

    def _needs_drain(self, request: Waiting, needs: Sequence[GpuRequest]) -> bool:
        """Return whether a sequence of smaller jobs on a GPU would delay a job forever.

        This holds if it shares its GPUs with no other job, or if its load lets it fit beside few
        others.
        """
        if not needs or needs[0] in self._undrained:
            return False
        if request.exclusive:
            return True
        is_heavy = (request.load.sm or 0.0) > HEAVY_LOAD
        return is_heavy and self.inventory.pool(needs[0]).lacks_gpu_time(needs[0])

    def _start_job(
        self,
        request: Waiting,
        need: GpuRequest | None,
        places: Sequence[GpuState],
        cpus: int,
        now: float,
    ) -> Start:
        run = make_running(request, need, places, cpus, now)
        reason = placement_reason(request, run, places) if self.inventory.explain else "fits"
        self.inventory.add_job(run)
        self._started[request.job] = run
        return Start(
            job=request.job,
            devices=run.devices,
            cpus=cpus,
            reason=reason,
            vram=None if run.estimated else run.vram,
            exclusive=run.exclusive,
            estimate=run.vram if run.estimated else None,
        )

    def _find_gpus(
        self, request: Waiting, need: GpuRequest | None, cpus: int, now: float
    ) -> tuple[list[GpuState], str]:
        """Return the places for a job that could start, or why it must not: the first would wait longer."""
        first, kept, last = (
            self._reservation,
            self._peer_reservations.conflicting_reservations(request),
            False,
        )
        if first is not None:
            # without the last place in its group the first job would be in no job's way any more
            last = (
                request.group == first.group
                and self.inventory.remaining_in_group(request.group) == 1
            )
            if last or not first.ends_before(request, now):
                kept.append(first)
                last = last or need in first.unplaceable
        open_cards = self.inventory.free_gpus(need)
        places = None if last else find_gpus_beside(kept, request, open_cards, need, cpus)
        if places is None:
            told = kept[-1].describe(now) if self.inventory.explain else "the first job"
            return [], f"{WAITING_FOR}{told}"
        for place in kept:
            place.add_job(request, places, need, cpus)
        return places, ""


def _wait(request: Waiting, lacks: Shortfall) -> Wait:
    return Wait(
        job=request.job, reason=lacks.text, data=lacks.data, lacking_resource=lacks.resource
    )
