"""Who goes first of several users: who has used less lately, or has waited long and has nothing.

Use decays, so what somebody used yesterday counts half. Of two schedulers that wait for the same, the one whose user
has used more leaves the place to the other; both know both numbers, so not both do. A colleague who has used more
is served when he has waited STARVING_S and has nothing of what he waits for.

Nobody who tells what is not so can hold us up for ever (`Courtesy`): there is room for him and he does not start
for UNUSED_S, or starts much less than there is room for, or what he needs was kept for him in vain for KEPT_S: then
he is not heeded for a while, twice as long each time, until he has started something.

What one decision leaves to colleagues: a place that they can take now, or one that they get when ours end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf

from launcher.accounts import OWN_HOME, Colleague, Lacking, Use, Wish
from launcher.gpu.resources import CORES, JOBS, MEMORY
from launcher.job import CPU, Resources
from launcher.scheduler.policy.backfill import FirstJobReservation, reserve, room_beside
from launcher.scheduler.policy.gpu_slot import is_named, is_visible
from launcher.scheduler.policy.inventory import WAITING, Inventory, Lack, cores, place_for
from launcher.scheduler.policy.model import Decision, Machine, Need, Running, Wait, Waiting, need_of
from launcher.states import ReasonCode
from launcher.units import format_bytes, format_seconds

STARVING_S = 300.0
UNUSED_S = 10.0
KEPT_S = 300.0
LONGEST_S = 4 * 3600.0  # that something is kept for a colleague, and he is not heeded then
MOST = 8  # colleagues that are heeded at once
_SPANS = ((3600.0, "hours"), (60.0, "minutes"))
_RESERVED_AS: dict[Lacking, str] = {"gpu": JOBS, "cores": CORES, "memory": MEMORY}


def in_turn(machine: Machine) -> list[Colleague]:
    """Return the colleagues before whom we yield, one of each user, who has used least first."""
    first: dict[str, Colleague] = {}
    for colleague in sorted(machine.colleagues, key=lambda each: (each.used, -each.waited_s)):
        if goes_first(colleague, machine):
            first.setdefault(colleague.user, colleague)
    return [*first.values()][:MOST]


def goes_first(colleague: Colleague, machine: Machine) -> bool:
    """Tell whether we leave a place to a colleague who can use it."""
    used_less = colleague.used < machine.use.of(colleague.lacks)
    starves = colleague.waited_s >= STARVING_S and not _has(
        colleague.user, colleague.lacks, machine
    )
    if machine.starves == colleague.lacks:  # else each would leave the place to the other
        return starves and used_less
    return starves or used_less


def yields(colleague: Colleague, machine: Machine) -> str:
    """Return why a job of ours leaves its place to a colleague."""
    wish, theirs, ours = colleague.wish, colleague.used, machine.use.of(colleague.lacks)
    wants = {
        "gpu": "1 GPU" if wish.gpus <= 1 else f"{wish.gpus} GPUs",
        "cores": cores(wish.cpus),
        "memory": f"{format_bytes(wish.ram)} of main memory",
    }[colleague.lacks]
    waited = format_seconds(round(colleague.waited_s))
    who = f"user {colleague.user}, who"
    if colleague.user.startswith(OWN_HOME):
        who = f"{colleague.user}, which"
    waits = f"{WAITING}{who} has waited {waited} for {wants}"
    if theirs >= ours:
        return f"{waits} and uses none now"
    per, what = {"gpu": (1, "GPU"), "cores": (1, "core"), "memory": (1 << 30, "GiB")}[wish.lacks]
    size, unit = next((span for span in _SPANS if ours / per >= span[0]), (1.0, "seconds"))
    less, more = (f"{used / per / size:.1f}" for used in (theirs, ours))
    return f"{waits} and has used less lately ({less} {what}-{unit}, you {more})"


def request_of(colleague: Colleague, machine: Machine) -> Waiting:
    """Return what a colleague waits for, as if it were a job of ours."""
    wish = colleague.wish
    on_gpus = wish.gpus if wish.lacks == "gpu" and machine.gpus else 0
    vram = wish.vram if on_gpus else None
    largest = max((gpu.total for gpu in machine.gpus), default=0)
    whole = vram is not None and vram + machine.rules.reserve > largest
    if whole:
        vram = None  # it gets a card of its own, and decides itself what of it is enough
    return Waiting(
        job=-1,
        name=colleague.user,
        resources=Resources(
            cpus=wish.cpus,
            ram=wish.ram or None,
            gpus=max(1, on_gpus),
            device="cuda" if on_gpus else CPU,
            exclusive=(wish.exclusive or whole) and bool(on_gpus),
        ),
        vram_request=vram,
        estimated=vram is None and not whole,
        visible=wish.cards or None,
    )


def wish_of(
    waiting: Sequence[Waiting], decisions: Sequence[Decision], machine: Machine
) -> tuple[Wish | None, int]:
    """Return what others are told that we wait for, and the job: the first that finds no room; None: nothing."""
    waits = [
        (job, decision.lacks)
        for job, decision in zip(waiting, decisions, strict=True)
        if isinstance(decision, Wait)
    ]
    for job, lacks in waits:
        if lacks is None:
            continue
        need = need_of(job)
        shown = [names for names in (need.visible, machine.rules.devices) if names is not None]
        cards = [
            gpu
            for gpu in machine.gpus
            if is_named(gpu, need.device) and all(is_visible(gpu, names) for names in shown)
        ]
        on_gpus = job.resources.works_on_gpu(there=bool(cards))
        vram = job.vram_request if on_gpus else None
        if vram is not None:  # with what must be left free beside it
            vram = min(vram + machine.rules.reserve, max((gpu.total for gpu in cards), default=0))
        wish = Wish(
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


def starves_of(
    wish: Wish | None, running: Iterable[Running], machine: Machine, now: float
) -> Lacking | None:
    """Return what we wait for so long, with nothing of it, that others leave it to us; None: nothing.

    Args:
        wish: what we wait for.
        running: our jobs.
        machine: with what other homes have reserved, of our user, too.
        now: on the clock of `Wish.since`.
    """
    if wish is None or now - wish.since < STARVING_S:
        return None
    homes = {promise.user for promise in machine.foreign if promise.user.startswith(OWN_HOME)}
    ours = (Use(len(run.devices), run.cpus, run.ram).of(wish.lacks) for run in running)
    has = any(ours) or any(_has(home, wish.lacks, machine) for home in homes)
    return None if has else wish.lacks


def _has(user: str, what: Lacking, machine: Machine) -> int:
    """Return what other homes' schedulers have reserved for a user of GPUs (jobs), cores or memory."""
    return sum(
        promise.amount
        for promise in machine.foreign
        if promise.user == user and promise.device.partition(":")[0] == _RESERVED_AS[what]
    )


@dataclass(slots=True)
class _Turn:
    has: int = 0  # GPUs (jobs), cores or bytes that the user had at the last look
    places: int = 0  # jobs like the waiting one for which that is enough
    seen: float = 0.0
    noted: float = 0.0  # when the last decision was
    unused: int = 0  # places that were left to him then, less those that he had
    room_since: float = inf  # since when there is room for him that he does not take
    wasted: float = 0.0  # s of places that he did not take, less those of places that he has
    kept_since: float = inf  # since when something of ours waits for his sake
    unheeded_until: float = -inf
    strikes: int = 0


class Courtesy:
    """Which colleagues are heeded, over the decisions of one scheduler; all times are monotonic seconds.

    A user is judged for each resource by itself: two queues of one user may lack different resources. If bytes were
    compared with cores, each decision would look as if the user had started a job.
    """

    def __init__(self) -> None:
        """Begin without colleagues."""
        self._turns: dict[tuple[str, Lacking], _Turn] = {}  # by user and resource
        self.complaints: list[str] = []  # a sentence for each who is not heeded any more

    def heeded(self, machine: Machine, now: float) -> Machine:
        """Return the machine with those colleagues only who are to be heeded now."""
        self._turns = {
            key: turn for key, turn in self._turns.items() if now - turn.seen <= 2 * LONGEST_S
        }
        heeded = []
        for colleague in machine.colleagues:
            turn = self._turns.setdefault((colleague.user, colleague.lacks), _Turn(noted=now))
            has, turn.seen = _has(colleague.user, colleague.lacks, machine), now
            if has > turn.has:  # he has started something
                turn.room_since, turn.kept_since, turn.strikes = inf, inf, 0
            turn.has, turn.places = has, has // _size(colleague.wish)
            if now >= turn.unheeded_until and _could(colleague.wish, machine):
                heeded.append(colleague)
        return machine._replace(colleagues=tuple(heeded))

    def note(self, decisions: Iterable[Decision], now: float) -> None:
        """Take in for whom jobs of ours were held back."""
        held = {  # user and resource → how many places there are for them now
            (decision.data["user"], decision.data["lacks"]): decision.data["room"]
            for decision in decisions
            if isinstance(decision, Wait) and decision.code is ReasonCode.YIELDS
        }
        for (user, lacks), turn in self._turns.items():
            room = held.get((user, lacks))
            rooms = room if isinstance(room, int) else 0
            turn.wasted = max(0.0, turn.wasted + (now - turn.noted) * turn.unused)
            turn.noted, turn.unused = now, rooms - turn.places
            turn.room_since = min(turn.room_since, now) if rooms else inf
            if room is None:
                continue
            turn.kept_since = min(turn.kept_since, now)
            longest = min(LONGEST_S, KEPT_S * 2.0**turn.strikes)
            idle = now - turn.room_since >= UNUSED_S
            if idle or turn.wasted >= 2 * UNUSED_S * max(1, rooms):
                why = "does not start although there is room"
            elif now - turn.kept_since >= longest:
                why = f"could not start for {format_seconds(round(longest))}"
            else:
                continue
            turn.unheeded_until, turn.strikes = now + longest, min(turn.strikes + 1, 16)
            turn.room_since, turn.kept_since, turn.wasted = inf, inf, 0.0
            self.complaints.append(
                f"user {user} gets no precedence for {format_seconds(round(longest))}: the scheduler of {user} waits and {why}"
            )


def _size(wish: Wish) -> int:
    """Return the GPUs, cores or bytes that one waiting job needs, at least 1."""
    return max(1, {"gpu": wish.gpus, "cores": wish.cpus, "memory": wish.ram}[wish.lacks])


def _could(wish: Wish, machine: Machine) -> bool:
    """Tell whether the machine could ever give what a colleague waits for, as far as its size tells."""
    if wish.lacks != "gpu" or not machine.gpus:
        return wish.cpus <= machine.cores_there and wish.ram <= machine.memory_there
    return 1 <= wish.gpus <= sum(gpu.total >= (wish.vram or 0) for gpu in machine.gpus)


class Yielding:
    """The places that are left to colleagues while our jobs are decided."""

    def __init__(
        self, inventory: Inventory, colleagues: Iterable[Colleague], now: float = 0.0
    ) -> None:
        """Give each colleague before whom we yield his place; `end` takes them back."""
        self._inventory, self._now = inventory, now
        self._first = {each.user: each for each in colleagues}
        # these count as ours while it is decided, under their users' names: places that are there now, and that of
        # who gets one when ours end
        self._rooms: list[Running] = []
        self._later: list[FirstJobReservation] = []
        self._known: dict[tuple[object, ...], Lack | None] = {}
        for colleague in self._first.values():
            self._leave_to(colleague)

    def _leave_to(self, colleague: Colleague) -> None:
        inventory, now = self._inventory, self._now
        request = request_of(colleague, inventory.machine)
        never, needs = inventory.asks(request)
        cpus = min(request.resources.cpus, inventory.machine.cpus)
        for taken in range(0 if never else colleague.wish.count):
            need, lacks = inventory.missing(request, needs, cpus)
            if lacks is not None:
                later = None if taken else reserve(inventory, request, needs, cpus, now)
                self._later += [] if later is None else [later]
                return
            places = [*islice(inventory.places(need), 0 if need is None else need.count)]
            room = place_for(request, need, places, cpus, now)
            inventory.give(room)
            self._rooms.append(room)

    def end(self) -> None:
        """Take back what was left: who starts there tells of it himself."""
        for room in self._rooms:
            self._inventory.take_back(room)

    def judge(
        self,
        request: Waiting,
        needs: Sequence[Need],
        need: Need | None,
        lacks: Lack | None,
        cpus: int,
    ) -> tuple[Lack | None, Wait | None]:
        """Return what a job lacks whatever is left to others, and whether it waits for their sake.

        Args:
            request: the job.
            needs: what it asks of GPUs.
            need: of these, what can be met now.
            lacks: what it lacks now.
            cpus: how many cores it gets.
        """
        rooms = [room.name for room in self._rooms] if lacks else []
        if rooms:
            lacks = self._lacks_without_us(request, needs, cpus)
        user = "" if lacks else rooms[0] if rooms else self._delayed(request, need, cpus)
        if not user:
            return lacks, None
        return lacks, Wait(
            job=request.job,
            reason=yields(self._first[user], self._inventory.machine),
            code=ReasonCode.YIELDS,
            data={"user": user, "room": rooms.count(user), "lacks": self._first[user].lacks},
        )

    def _lacks_without_us(self, request: Waiting, needs: Sequence[Need], cpus: int) -> Lack | None:
        """Return what a job would lack if nothing were left to others.

        That is found out once for jobs that are alike: when others of ours start it only becomes more.
        """
        key = (request.resources, *needs)
        if key not in self._known:
            self.end()
            _, self._known[key] = self._inventory.missing(request, needs, cpus)
            for room in self._rooms:
                self._inventory.give(room)
        return self._known[key]

    def _delayed(self, request: Waiting, need: Need | None, cpus: int) -> str:
        """Return whom a job delays that would have room, '' where it delays nobody."""
        kept = self.in_the_way(request)
        places = self._inventory.places(need)
        room = room_beside(kept, request, places, need, cpus) if kept else []
        return kept[0].job if room is None else ""

    def in_the_way(self, request: Waiting) -> list[FirstJobReservation]:
        """Return the places of colleagues, to come when ours end, that a job would take for longer."""
        return [later for later in self._later if not later.ends_before(request, self._now)]
