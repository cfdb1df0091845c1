"""Order of several users: less recent usage first, or a long wait without any resource.

Usage decays: that of yesterday counts half. If two schedulers wait for the same resource, the one
whose user has used more yields to the other. Both read both numbers, so they never both yield. A
peer user with more usage is served after waiting STARVING_S without any of the requested resource.

False data of a peer cannot block us forever (`YieldPolicy`). A peer is ignored if it starts no job
for UNUSED_S despite room, or if it starts much less than fits. The same holds if resources were
held for it for HOLD_S and it could not start. It is then ignored for a while, twice as long each
time, until it has started a job.

One decision yields two kinds of places to peers: one that they can take now, or one that they get
when our jobs end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf

from launcher.queue.gpu.resources import CORES, JOBS, MEMORY
from launcher.queue.jobs.accounts import (
    OWN_QUEUE_PREFIX,
    PeerScheduler,
    ResourceDemand,
    ResourceKind,
    ResourceUsage,
)
from launcher.queue.jobs.job import CPU, Resources
from launcher.queue.jobs.states import ReasonCode
from launcher.queue.scheduler.policy.backfill import FirstJobReservation, find_gpus_beside, reserve
from launcher.queue.scheduler.policy.gpu_slot import is_visible, matches_device
from launcher.queue.scheduler.policy.inventory import (
    WAITING_FOR,
    Inventory,
    Shortfall,
    format_cores,
    make_running,
)
from launcher.queue.scheduler.policy.model import (
    Decision,
    GpuRequest,
    Machine,
    Running,
    Wait,
    Waiting,
    gpu_request_of,
)
from launcher.system.units import exponential_backoff_s, format_bytes, format_seconds

STARVING_S = 300.0
UNUSED_S = 10.0
HOLD_S = 300.0
# seconds; longest time for which resources are held for a peer, or for which it is ignored after that
LONGEST_HOLD_S = 4 * 3600.0
MOST_PEERS = 8  # peers that are considered at once
_SPANS = ((3600.0, "hours"), (60.0, "minutes"))
_RESERVED_AS: dict[ResourceKind, str] = {"gpu": JOBS, "cores": CORES, "memory": MEMORY}


def peers_by_usage(machine: Machine) -> list[PeerScheduler]:
    """Return the peers to which we yield, one per user, the lowest usage first."""
    first: dict[str, PeerScheduler] = {}
    for peer in sorted(machine.peers, key=lambda each: (each.used_amount, -each.waited_s)):
        if has_precedence(peer, machine):
            first.setdefault(peer.user, peer)
    return [*first.values()][:MOST_PEERS]


def has_precedence(peer: PeerScheduler, machine: Machine) -> bool:
    """Whether we yield a place to a peer that can use it."""
    used_less = peer.used_amount < machine.use.amount_of(peer.lacking_resource)
    starves = peer.waited_s >= STARVING_S and not _reserved_amount(
        peer.user, peer.lacking_resource, machine
    )
    if (
        machine.starving_resource == peer.lacking_resource
    ):  # otherwise each queue would leave the place to the other
        return starves and used_less
    return starves or used_less


def yield_reason(peer: PeerScheduler, machine: Machine) -> str:
    """Return why a job of ours yields to a peer."""
    wish, theirs, ours = peer.demand, peer.used_amount, machine.use.amount_of(peer.lacking_resource)
    wants = {
        "gpu": "1 GPU" if wish.gpus <= 1 else f"{wish.gpus} GPUs",
        "cores": format_cores(wish.cpus),
        "memory": f"{format_bytes(wish.ram)} of main memory",
    }[peer.lacking_resource]
    waited = format_seconds(round(peer.waited_s))
    who = f"user {peer.user}, who"
    if peer.user.startswith(OWN_QUEUE_PREFIX):
        who = f"{peer.user}, which"
    waits = f"{WAITING_FOR}{who} has waited {waited} for {wants}"
    if theirs >= ours:
        return f"{waits} and uses none now"
    per, what = {"gpu": (1, "GPU"), "cores": (1, "core"), "memory": (1 << 30, "GiB")}[wish.lacks]
    size, unit = next((span for span in _SPANS if ours / per >= span[0]), (1.0, "seconds"))
    less, more = (f"{used / per / size:.1f}" for used in (theirs, ours))
    return f"{waits} and has used less lately ({less} {what}-{unit}, you {more})"


def peer_request(peer: PeerScheduler, machine: Machine) -> Waiting:
    """Return the request of a peer as if it were a job of ours."""
    wish = peer.demand
    on_gpus = wish.gpus if wish.lacks == "gpu" and machine.gpus else 0
    vram = wish.vram if on_gpus else None
    largest = max((gpu.total for gpu in machine.gpus), default=0)
    whole = vram is not None and vram + machine.rules.reserve > largest
    if whole:
        # the peer's job gets a GPU of its own, and the peer's scheduler decides whether that is enough
        vram = None
    return Waiting(
        job=-1,
        name=peer.user,
        resources=Resources(
            cpus=wish.cpus,
            ram=wish.ram or None,
            gpus=max(1, on_gpus),
            device="cuda" if on_gpus else CPU,
            exclusive=(wish.exclusive or whole) and bool(on_gpus),
        ),
        vram=vram,
        estimated=vram is None and not whole,
        visible=wish.cards or None,
    )


def demand_of(
    waiting_jobs: Sequence[Waiting], decisions: Sequence[Decision], machine: Machine
) -> tuple[ResourceDemand | None, int]:
    """Return the published request and its job: the first one without room. None if there is none."""
    waits = [
        (job, decision.lacking_resource)
        for job, decision in zip(waiting_jobs, decisions, strict=True)
        if isinstance(decision, Wait)
    ]
    for job, lacks in waits:
        if lacks is None:
            continue
        need = gpu_request_of(job)
        shown = [names for names in (need.visible, machine.rules.devices) if names is not None]
        cards = [
            gpu
            for gpu in machine.gpus
            if matches_device(gpu, need.device) and all(is_visible(gpu, names) for names in shown)
        ]
        on_gpus = job.resources.works_on_gpu(machine_has_gpu=bool(cards))
        vram = job.vram if on_gpus else None
        if vram is not None:  # including the memory that must stay free
            vram = min(vram + machine.rules.reserve, max((gpu.total for gpu in cards), default=0))
        wish = ResourceDemand(
            since=0.0,
            gpus=need.count if on_gpus else 0,
            vram=vram,
            cpus=min(job.resources.cpus, machine.cpus),
            ram=job.resources.ram or 0,
            exclusive=job.resources.exclusive,
            lacks=lacks,
            cards=tuple(gpu.uuid for gpu in cards) if len(cards) < len(machine.gpus) else (),
            count=sum(other.resources == job.resources for other, _ in waits),
        )
        return wish, job.job
    return None, 0


def starving_resource(
    demand: ResourceDemand | None, running_jobs: Iterable[Running], machine: Machine, now: float
) -> ResourceKind | None:
    """Return the resource that others yield to us after a long wait without any of it, None if there is none.

    Args:
        demand: Our request.
        running_jobs: Our jobs.
        machine: With the reservations of other queues, including those of our user.
        now: On the clock of `ResourceDemand.since`.
    """
    if demand is None or now - demand.since < STARVING_S:
        return None
    homes = {
        promise.user for promise in machine.foreign if promise.user.startswith(OWN_QUEUE_PREFIX)
    }
    ours = (
        ResourceUsage(len(run.devices), run.cpus, run.ram).amount_of(demand.lacks)
        for run in running_jobs
    )
    has = any(ours) or any(_reserved_amount(home, demand.lacks, machine) for home in homes)
    return None if has else demand.lacks


def _reserved_amount(user: str, resource: ResourceKind, machine: Machine) -> int:
    """Return what other queues have reserved for a user of GPUs (jobs), cores or memory."""
    return sum(
        promise.amount
        for promise in machine.foreign
        if promise.user == user and promise.device.partition(":")[0] == _RESERVED_AS[resource]
    )


@dataclass(slots=True)
class _PeerRecord:
    reserved: int = 0  # GPUs (jobs), cores or bytes that the user had at the last reading
    places: int = 0  # jobs like the waiting one for which that is enough
    seen_at: float = 0.0
    noted_at: float = 0.0  # when the last decision was
    unused_places: int = 0  # places that were yielded then, minus those in use
    room_since: float = inf  # time since which there is room that the peer does not use
    wasted_s: float = 0.0  # seconds of unused places, minus those of places in use
    held_since: float = inf  # time since which a job of ours waits for the peer
    ignored_until: float = -inf
    strikes: int = 0


class YieldPolicy:
    """The peers that are considered, over the decisions of one scheduler. All times are monotonic seconds.

    A user is evaluated for each resource separately, because two queues of one user may lack
    different resources. If bytes were compared with cores, each decision would look as if the user
    had started a job.
    """

    def __init__(self) -> None:
        """Start without peers."""
        self._records: dict[tuple[str, ResourceKind], _PeerRecord] = {}  # by user and resource
        self.complaints: list[str] = []  # a sentence for each peer that is now ignored

    def with_eligible_peers(self, machine: Machine, now: float) -> Machine:
        """Return the machine with only those peers that are considered now."""
        self._records = {
            key: turn
            for key, turn in self._records.items()
            if now - turn.seen_at <= 2 * LONGEST_HOLD_S
        }
        considered = []
        for peer in machine.peers:
            turn = self._records.setdefault(
                (peer.user, peer.lacking_resource), _PeerRecord(noted_at=now)
            )
            has, turn.seen_at = (
                _reserved_amount(peer.user, peer.lacking_resource, machine),
                now,
            )
            if has > turn.reserved:  # the peer has started a job
                turn.room_since, turn.held_since, turn.strikes = inf, inf, 0
            turn.reserved, turn.places = has, has // _demanded_amount(peer.demand)
            if now >= turn.ignored_until and _can_ever_fit(peer.demand, machine):
                considered.append(peer)
        return machine._replace(peers=tuple(considered))

    def record_decisions(self, decisions: Iterable[Decision], now: float) -> None:
        """Record the peers for which jobs of ours were held back."""
        held = {  # user and resource → how many places there are for them now
            (decision.data["user"], decision.data["lacks"]): decision.data["room"]
            for decision in decisions
            if isinstance(decision, Wait) and decision.code is ReasonCode.YIELDS
        }
        for (user, lacks), turn in self._records.items():
            room = held.get((user, lacks))
            rooms = room if isinstance(room, int) else 0
            turn.wasted_s = max(0.0, turn.wasted_s + (now - turn.noted_at) * turn.unused_places)
            turn.noted_at, turn.unused_places = now, rooms - turn.places
            turn.room_since = min(turn.room_since, now) if rooms else inf
            if room is None:
                continue
            turn.held_since = min(turn.held_since, now)
            longest = exponential_backoff_s(HOLD_S, turn.strikes, LONGEST_HOLD_S)
            idle = now - turn.room_since >= UNUSED_S
            if idle or turn.wasted_s >= 2 * UNUSED_S * max(1, rooms):
                why = "does not start although there is room"
            elif now - turn.held_since >= longest:
                why = f"could not start for {format_seconds(round(longest))}"
            else:
                continue
            turn.ignored_until, turn.strikes = now + longest, turn.strikes + 1
            turn.room_since, turn.held_since, turn.wasted_s = inf, inf, 0.0
            self.complaints.append(
                f"user {user} gets no precedence for {format_seconds(round(longest))}: the scheduler of {user} waits and {why}"
            )


def _demanded_amount(demand: ResourceDemand) -> int:
    """Return the GPUs, cores or bytes that one waiting job needs, at least 1."""
    return max(1, {"gpu": demand.gpus, "cores": demand.cpus, "memory": demand.ram}[demand.lacks])


def _can_ever_fit(demand: ResourceDemand, machine: Machine) -> bool:
    """Whether the size of the machine could ever satisfy a peer's request."""
    if demand.lacks != "gpu" or not machine.gpus:
        return demand.cpus <= machine.total_cores and demand.ram <= machine.total_ram
    return 1 <= demand.gpus <= sum(gpu.total >= (demand.vram or 0) for gpu in machine.gpus)


class PeerReservations:
    """The places that are yielded to peers while our jobs are decided."""

    def __init__(
        self, inventory: Inventory, peers: Iterable[PeerScheduler], now: float = 0.0
    ) -> None:
        """Reserve a place for each peer to which we yield. `release` removes the places."""
        self._inventory, self._now = inventory, now
        self._peers = {each.user: each for each in peers}
        # These places count as ours during the decision, under the names of their users: places that are free now,
        # and the one of a peer that gets it when our jobs end.
        self._free_places: list[Running] = []
        self._future_reservations: list[FirstJobReservation] = []
        self._shortfalls: dict[tuple[object, ...], Shortfall | None] = {}
        for peer in self._peers.values():
            self._reserve_for(peer)

    def _reserve_for(self, peer: PeerScheduler) -> None:
        inventory, now = self._inventory, self._now
        request = peer_request(peer, inventory.machine)
        never, needs = inventory.resource_options(request)
        cpus = min(request.resources.cpus, inventory.machine.cpus)
        for taken in range(0 if never else peer.demand.count):
            need, lacks = inventory.find_shortfall(request, needs, cpus)
            if lacks is not None:
                later = None if taken else reserve(inventory, request, needs, cpus, now)
                self._future_reservations += [] if later is None else [later]
                return
            places = [*islice(inventory.free_gpus(need), 0 if need is None else need.count)]
            room = make_running(request, need, places, cpus, now)
            inventory.add_job(room)
            self._free_places.append(room)

    def release(self) -> None:
        """Remove the yielded places. A peer that starts there publishes its own reservation."""
        for room in self._free_places:
            self._inventory.remove_job(room)

    def check_job(
        self,
        request: Waiting,
        needs: Sequence[GpuRequest],
        need: GpuRequest | None,
        lacks: Shortfall | None,
        cpus: int,
    ) -> tuple[Shortfall | None, Wait | None]:
        """Return what a job lacks even without reservations for others, and the wait that these cause.

        Args:
            request: the job.
            needs: GPUs that the job requests.
            need: part of the needs that can be met now.
            lacks: resources that the job lacks now.
            cpus: number of cores that the job gets.
        """
        rooms = [room.name for room in self._free_places] if lacks else []
        if rooms:
            lacks = self._shortfall_without_peers(request, needs, cpus)
        user = "" if lacks else rooms[0] if rooms else self._delayed_peer(request, need, cpus)
        if not user:
            return lacks, None
        return lacks, Wait(
            job=request.job,
            reason=yield_reason(self._peers[user], self._inventory.machine),
            code=ReasonCode.YIELDS,
            data={
                "user": user,
                "room": rooms.count(user),
                "lacks": self._peers[user].lacking_resource,
            },
        )

    def _shortfall_without_peers(
        self, request: Waiting, needs: Sequence[GpuRequest], cpus: int
    ) -> Shortfall | None:
        """Return what a job would lack if nothing were left to others.

        That is found out once for jobs that are alike: when others of ours start it only becomes more.
        """
        key = (request.resources, *needs)
        if key not in self._shortfalls:
            self.release()
            _, self._shortfalls[key] = self._inventory.find_shortfall(request, needs, cpus)
            for room in self._free_places:
                self._inventory.add_job(room)
        return self._shortfalls[key]

    def _delayed_peer(self, request: Waiting, need: GpuRequest | None, cpus: int) -> str:
        """Return the peer with room that a job delays, '' if there is none."""
        kept = self.conflicting_reservations(request)
        places = self._inventory.free_gpus(need)
        room = find_gpus_beside(kept, request, places, need, cpus) if kept else []
        return kept[0].job if room is None else ""

    def conflicting_reservations(self, request: Waiting) -> list[FirstJobReservation]:
        """Return the future places of peers that a job would occupy after the end of our jobs."""
        return [
            later
            for later in self._future_reservations
            if not later.ends_before(request, self._now)
        ]
