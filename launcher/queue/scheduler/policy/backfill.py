"""The reservation of the first waiting job: its time and place, the room beside it, and its duration."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import inf

from launcher.queue.scheduler.policy.co_location import UNKNOWN_LOAD, GpuLoad
from launcher.queue.scheduler.policy.gpu_slot import EndTime, GpuState, RoomBeside
from launcher.queue.scheduler.policy.inventory import Inventory, format_cores
from launcher.queue.scheduler.policy.model import Decision, GpuRequest, Running, Wait, Waiting
from launcher.system.units import format_seconds

BACKFILL_S = (
    300.0  # seconds for which later jobs of ours start, so that no resource idles for a waiting job
)
SHOWN_DELAY_S = 60.0  # seconds; a shorter delay is not reported
UNKNOWN_END: EndTime = (inf, 1 << 62)  # later than all ends of our jobs
HOLD_S = 300.0  # seconds for which our free resources are reserved for a job that waits for others


@dataclass(slots=True, kw_only=True)
class FirstJobReservation:
    """Time and place of the first waiting job's start. The remaining room shrinks as other jobs start."""

    job: str  # the job's number, or its name
    group: str
    starts_at: EndTime
    max_delay_s: float = (
        # seconds by which expected ends of later jobs may pass that time; -inf: no estimate counts
        0.0
    )
    where: str  # in words
    cpus: int  # cores that are left at that time
    ram: int  # main memory that remains, bytes
    room_beside: dict[str, RoomBeside]  # UUID → what is left on the job's GPUs
    load: GpuLoad = UNKNOWN_LOAD  # load of the job on its GPUs
    # needs for which nothing is left
    unplaceable: set[GpuRequest | None] = field(default_factory=set)

    def describe_time(self, now: float) -> str:
        """Return in words when there is room, with a space before them; '' if that is unknown."""
        if self.starts_at[0] == inf:
            return ""
        wait_s = round(self.starts_at[0] - now)
        when = f" in about {format_seconds(wait_s)}" if wait_s > 0 else " within a second"
        if self.max_delay_s < SHOWN_DELAY_S:
            return when
        late = format_seconds(round(self.max_delay_s))
        return f"{when} or up to {late} later"

    def describe(self, now: float) -> str:
        """Return in words which job would be delayed."""
        return f"job {self.job}, which is first and will get {self.where}{self.describe_time(now)}"

    def ends_before(self, job: Waiting, now: float) -> bool:
        """Whether a job that starts now is known to have ended at a time that is known itself."""
        firm = self.max_delay_s == -inf  # whether only time limits count
        seconds = job.forecast.limit if firm else job.seconds
        if seconds is None or self.starts_at[0] == inf:
            return False
        return now + seconds <= max(now, self.starts_at[0]) + (0.0 if firm else self.max_delay_s)

    def add_job(
        self, job: Waiting, gpus: Sequence[GpuState], need: GpuRequest | None, cpus: int
    ) -> None:
        """Know that a job starts on these GPUs which may run on when the first one starts."""
        self.cpus -= cpus
        self.ram -= _ram_request(job, need, gpus)
        for card in gpus:
            if need is not None and card.gpu.uuid in self.room_beside:
                room, slots, loads = self.room_beside[card.gpu.uuid]
                room -= card.request_bytes(need)
                self.room_beside[card.gpu.uuid] = room, slots - 1, (*loads, need.load)

    def leaves_room(self, card: GpuState, need: GpuRequest | None) -> bool:
        """Whether a job on a GPU leaves the reservation of the first one there unchanged."""
        if need is None or card.gpu.uuid not in self.room_beside:
            return True
        room, slots, loads = self.room_beside[card.gpu.uuid]
        if need.exclusive or card.request_bytes(need) > room or slots <= 0:
            return False
        return card.can_share_with(self.load, (*loads, need.load))


def find_gpus_beside(
    reservations: Sequence[FirstJobReservation],
    job: Waiting,
    gpus: Iterable[GpuState],
    need: GpuRequest | None,
    cpus: int,
) -> list[GpuState] | None:
    """Return the GPUs on which a job may start despite reservations, None if there are none.

    Args:
        reservations: Those that the job delays if it uses reserved resources.
        job: It may run at the time when the reserved jobs start.
        gpus: GPUs that can take it now, the best first.
        need: Its request per GPU.
        cpus: Number of cores.
    """
    count = 0 if need is None else need.count
    if any(cpus > first.cpus for first in reservations):
        return None
    left = (card for card in gpus if all(first.leaves_room(card, need) for first in reservations))
    free = [*islice(left, count)]
    if len(free) < count:
        reservations[-1].unplaceable.add(need)  # the remaining room only shrinks
        return None
    ram = _ram_request(job, need, free)
    return None if any(ram > first.ram for first in reservations) else free


def _ram_request(job: Waiting, need: GpuRequest | None, gpus: Iterable[GpuState]) -> int:
    """Return the bytes of main memory that a job needs, including those that are memory of its GPUs."""
    ram = job.resources.ram or 0
    if need is None:
        return ram
    return ram + sum(card.request_bytes(need) - ram for card in gpus if card.gpu.shares_host_memory)


def reserve(
    inventory: Inventory, request: Waiting, needs: Sequence[GpuRequest], cpus: int, now: float
) -> FirstJobReservation | None:
    """Return the reservation of a job when enough of our jobs have ended, None if others must end too."""
    turns = [_end_time_of(inventory, cpus, inventory.cpus, lambda run: run.cpus, now)]
    need, cards = None, list[GpuState]()
    places = list[tuple[EndTime, GpuRequest, list[GpuState]]]()
    for each in needs:
        chosen = [*islice(inventory.pool(each).openings(each), each.count)]
        if len(chosen) == each.count:
            places.append((chosen[-1][0], each, [card for _, card in chosen]))
    if needs and not places:
        return None
    if places:  # the place of the first need wins among equally early ones
        opening, need, cards = min(places, key=lambda place: place[0])
        turns.append(opening)
    ram, free_ram = _ram_request(request, need, cards), inventory.ram
    if request.resources.ram is not None:
        free_ram = min(free_ram, inventory.unused_ram)
    turns.append(_end_time_of(inventory, ram, free_ram, inventory.ram_of, now))
    if request.holds_reservation and find_blockers(inventory, request, cpus)[0]:
        turns = [UNKNOWN_END if turn is None else turn for turn in turns]
    times = [turn for turn in turns if turn is not None]
    if len(times) < len(turns):
        return None
    at = max(times)
    machine = inventory.machine
    promised = inventory.cpus < machine.cpus or inventory.ram < machine.ram
    ours = inventory.running if promised else {}
    gone = [run for key, run in ours.items() if inventory.end_times[key] <= at]
    # a job that must not be delayed by estimates keeps the free part of its GPUs, even if running
    # jobs are expected to leave
    known = at if request.max_delay_s > -inf else (-inf, 0)
    return FirstJobReservation(
        job=request.name or str(request.job),
        group=request.group,
        starts_at=at,
        max_delay_s=request.max_delay_s,
        where=", ".join(card.gpu.label_for(request.resources.device) for card in cards)
        or format_cores(cpus),
        cpus=inventory.cpus + sum(run.cpus for run in gone) - cpus,
        ram=max(0, free_ram + sum(map(inventory.ram_of, gone)) - ram),
        load=request.load,
        room_beside={}
        if need is None
        else {card.gpu.uuid: card.remaining_room(need, known) for card in cards},
    )


def find_blockers(inventory: Inventory, request: Waiting, cpus: int) -> tuple[bool, bool]:
    """Return whether others' reservations block cores or memory for a job, and whether our jobs use some of these too."""
    ram, ours = request.resources.ram or 0, inventory.running.values()
    own_cpus, own_ram = sum(run.cpus for run in ours), sum(map(inventory.ram_of, ours))
    lacks = inventory.cpus + own_cpus < cpus or inventory.ram + own_ram < ram
    others = lacks and inventory.unused_ram + own_ram >= ram
    mine = (cpus > inventory.cpus and own_cpus > 0) or (ram > inventory.ram and own_ram > 0)
    return others, mine


def _end_time_of(
    inventory: Inventory,
    needed_amount: int,
    free: int,
    amount_of: Callable[[Running], int],
    now: float,
) -> EndTime | None:
    """Return when this many cores or bytes are free, None if not even after all our jobs have ended."""
    if needed_amount <= max(0, free):
        return now, 0
    turns = inventory.end_times
    for key, run in sorted(inventory.running.items(), key=lambda entry: turns[entry[0]]):
        free += amount_of(run)
        if needed_amount <= free:
            return max(turns[key], (now, 0))
    return None


class ReservationAging:
    """Jobs whose wait for other users is so long that our later jobs must not pass them now.

    It is unknown when others release their resources. Without a reservation, a large job would be
    passed forever. With a permanent one, cores could idle forever. The two phases therefore
    alternate. First, our other jobs pass. Then they do not pass until all running jobs in the way
    have ended and another HOLD_S have elapsed. All times are monotonic seconds.
    """

    def __init__(self) -> None:
        """Begin without jobs."""
        # since when the phase lasts, whether resources are kept
        self._phases: dict[int, tuple[float, bool]] = {}

    def with_held_reservations(self, waiting_jobs: Iterable[Waiting], now: float) -> list[Waiting]:
        """Return the jobs; those for which resources of ours are kept now hold a reservation."""
        jobs = list(waiting_jobs)
        there = {job.job for job in jobs}
        self._phases = {job: turn for job, turn in self._phases.items() if job in there}
        return [
            job._replace(holds_reservation=True) if self._is_holding(job.job, now) else job
            for job in jobs
        ]

    def record_decisions(self, decisions: Iterable[Decision], now: float) -> None:
        """Record the jobs that wait for others, and whether a job of ours is in the way, too."""
        for decision in decisions:
            if not isinstance(decision, Wait) or not decision.blocked_by_others:
                continue
            _, kept = self._phases.setdefault(decision.job, (now, False))
            if kept and decision.blocked_by_own:
                self._phases[decision.job] = now, kept  # the job has not had our resources yet

    def _is_holding(self, job: int, now: float) -> bool:
        if job not in self._phases:
            return False
        since, kept = self._phases[job]
        if now - since >= (HOLD_S if kept else BACKFILL_S):
            kept = not kept
            self._phases[job] = now, kept
        return kept
