"""Who goes first of several users: who has used less lately, or has waited long and has nothing.

Use decays, so what somebody used yesterday counts half. Of two schedulers that wait for the same, the one whose user
has used more leaves the place to the other; both know both numbers, so not both do. A colleague who has used more
is served when he has waited STARVING_S and has nothing of what he waits for.

Nobody who tells what is not so can hold us up for ever (`Courtesy`): there is room for him and he does not start
for UNUSED_S, or starts much less than there is room for, or what he needs was kept for him in vain for KEPT_S: then
he is not heeded for a while, twice as long each time, until he has started something.

What one decision leaves to colleagues: a place that they can take now, or one that they get when ours end.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from math import inf, isfinite
from typing import NamedTuple, Protocol

from launcher.gpu.colleague import OWN_HOME, Colleague, Lacking, Wish
from launcher.gpu.snapshot import JOBS, MEMORY, GpuSnapshot, is_cores
from launcher.job import CPU, Resources
from launcher.scheduler.policy.backfill import FirstJobReservation, reserve
from launcher.scheduler.policy.explanations import Lack, cores
from launcher.scheduler.policy.gpu_slot import Card, is_visible
from launcher.scheduler.policy.inventory import Inventory
from launcher.scheduler.policy.model import Decision, Machine, Need, Running, Wait, Waiting, need_of
from launcher.states import ReasonCode
from launcher.units import format_bytes, format_seconds

STARVING_S = 300.0
UNUSED_S = 10.0
KEPT_S = 300.0
LONGEST_S = 4 * 3600.0  # that something is kept for a colleague, and he is not heeded then
MOST = 8  # colleagues that are heeded at once
_HOUR_S = 3600.0


def in_turn(machine: Machine) -> list[Colleague]:
    """Return the colleagues before whom we yield, one of each user, who has used least first."""
    first: dict[str, Colleague] = {}
    for colleague in sorted(machine.colleagues, key=lambda each: (each.used(), -each.since)):
        if goes_first(colleague, machine):
            first.setdefault(colleague.user, colleague)
    return [*first.values()][:MOST]


def goes_first(colleague: Colleague, machine: Machine) -> bool:
    """Tell whether we leave a place to a colleague who can use it."""
    if not _is_sound(colleague):
        return False
    starves, used_less = (
        _is_starving(colleague, machine),
        colleague.used() < _ours(colleague, machine),
    )
    if machine.starves == colleague.lacks:  # else each would leave the place to the other
        return starves and used_less
    return starves or used_less


def yields(colleague: Colleague, machine: Machine) -> str:
    """Return why a job of ours leaves its place to a colleague."""
    wants = _wants(colleague)
    waits = f"leaves room for {colleague.user}, who waits {format_seconds(round(colleague.since))}"
    theirs, ours = colleague.used(), _ours(colleague, machine)
    if theirs < ours:
        return f"{waits} for {wants} and has used less ({_against(colleague, theirs, ours)}, half-life a day)"
    return f"{waits} for {wants} and has none"


def request_of(colleague: Colleague, machine: Machine) -> Waiting:
    """Return what a colleague waits for, as if it were a job of ours."""
    on_gpus = colleague.gpus if colleague.lacks == "gpu" and machine.gpus else 0
    vram = colleague.vram if on_gpus else None
    largest = max((gpu.total for gpu in machine.gpus), default=0)
    if vram is not None and vram + machine.rules.reserve > largest:
        vram = None  # it gets a card of its own, and decides itself what of it is enough
    return Waiting(
        job=-1,
        name=colleague.user,
        resources=_resources(on_gpus, colleague.cpus, colleague.ram, colleague.exclusive),
        vram_request=vram,
        visible=colleague.cards or None,
    )


def wish_of(
    waiting: Sequence[Waiting], decisions: Sequence[Decision], machine: Machine
) -> tuple[Wish | None, int]:
    """Return what others are told that we wait for, and the job: the first that finds no room; None: nothing."""
    for job, decision in zip(waiting, decisions, strict=True):
        if not isinstance(decision, Wait) or decision.lacks is None:
            continue
        need = need_of(job)
        cards = [gpu for gpu in machine.gpus if _may_have(gpu, need, machine)]
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
            lacks=decision.lacks,
            cards=tuple(gpu.uuid for gpu in cards) if len(cards) < len(machine.gpus) else (),
            count=sum(
                other.resources == job.resources and isinstance(decided, Wait)
                for other, decided in zip(waiting, decisions, strict=True)
            ),
        )
        return wish, job.job
    return None, 0


def _may_have(gpu: GpuSnapshot, need: Need, machine: Machine) -> bool:
    named = need.device in {"auto", "cuda", gpu.label, f"cuda:{gpu.index}", gpu.uuid}
    choices = (need.visible, machine.rules.devices)
    return named and all(choice is None or is_visible(gpu, choice) for choice in choices)


@lru_cache(maxsize=256)  # equal ones are one, by which an inventory knows them
def _resources(gpus: int, cpus: int, ram: int, exclusive: bool) -> Resources:
    return Resources(
        cpus=cpus,
        ram=ram or None,
        gpus=max(1, gpus),
        device="cuda" if gpus else CPU,
        exclusive=exclusive and bool(gpus),
    )


def _is_sound(colleague: Colleague) -> bool:
    numbers = (colleague.since, colleague.usage, colleague.core_usage, colleague.ram_usage)
    asked = (colleague.gpus, colleague.cpus, colleague.ram, colleague.vram or 0)
    return all(isfinite(number) and number >= 0 for number in (*numbers, *asked))


def _ours(colleague: Colleague, machine: Machine) -> float:
    """Return what our user has used of what a colleague lacks."""
    uses = {"gpu": machine.usage, "cores": machine.core_usage, "memory": machine.ram_usage}
    return uses[colleague.lacks]


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
    if any(_has(home, wish.lacks, machine) for home in homes):
        return None
    has = (
        {"gpu": len(run.devices), "cores": run.cpus, "memory": run.ram}[wish.lacks]
        for run in running
    )
    return None if any(has) else wish.lacks


def _is_starving(colleague: Colleague, machine: Machine) -> bool:
    return colleague.since >= STARVING_S and not _has(colleague.user, colleague.lacks, machine)


def _has(user: str, what: str, machine: Machine) -> int:
    """Return what other homes' schedulers have reserved for a user of GPUs (jobs), cores or memory."""
    return sum(
        promise.amount
        for promise in machine.foreign
        if promise.user == user
        and (
            (what == "gpu" and promise.device.startswith(f"{JOBS}:"))
            or (what == "cores" and is_cores(promise.device))
            or (what == "memory" and promise.device == MEMORY)
        )
    )


def _wants(colleague: Colleague) -> str:
    if colleague.lacks == "cores":
        return cores(colleague.cpus)
    if colleague.lacks == "memory":
        return f"{format_bytes(colleague.ram)} of memory"
    return "1 GPU" if colleague.gpus <= 1 else f"{colleague.gpus} GPUs"


def _against(colleague: Colleague, theirs: float, ours: float) -> str:
    """Return two uses beside each other, in words."""
    if colleague.lacks == "memory":
        theirs, ours, what = theirs / (1 << 30), ours / (1 << 30), "GiB"
    else:
        what = "GPU" if colleague.lacks == "gpu" else "core"
    for size, unit in ((_HOUR_S, "hours"), (60.0, "minutes")):
        if ours >= size:
            return f"{theirs / size:.1f} against {ours / size:.1f} {what}-{unit}"
    return f"{theirs:.1f} against {ours:.1f} {what}-seconds"


@dataclass(slots=True)
class _Turn:
    has: int = 0  # what he had when we last looked
    seen: float = 0.0
    noted: float = 0.0  # when the last decision was
    unused: int = 0  # places that were left to him then, less those that he had
    room_since: float = inf  # since when there is room for him that he does not take
    wasted: float = 0.0  # s of places that he did not take, less those of places that he has
    kept_since: float = inf  # since when something of ours waits for his sake
    unheeded_until: float = -inf
    strikes: int = 0


class Courtesy:
    """Which colleagues are heeded, over the decisions of one scheduler; all times are monotonic seconds."""

    def __init__(self) -> None:
        """Begin without colleagues."""
        self._turns: dict[str, _Turn] = {}
        self.complaints: list[str] = []  # a sentence for each who is not heeded any more

    def heeded(self, machine: Machine, now: float) -> Machine:
        """Return the machine with those colleagues only who are to be heeded now."""
        self._turns = {
            user: turn for user, turn in self._turns.items() if now - turn.seen <= 2 * LONGEST_S
        }
        heeded = []
        for colleague in machine.colleagues:
            turn = self._turns.setdefault(colleague.user, _Turn(noted=now))
            has, turn.seen = _has(colleague.user, colleague.lacks, machine), now
            if has > turn.has:  # he has started something
                turn.room_since, turn.kept_since, turn.strikes = inf, inf, 0
            turn.has = has
            if now >= turn.unheeded_until and _could(colleague, machine):
                heeded.append(colleague)
        return replace(machine, colleagues=tuple(heeded))

    def note(self, decisions: Iterable[Decision], now: float) -> None:
        """Take in for whom jobs of ours were held back."""
        held: dict[str, int] = {}  # user → how many places there are for him now
        for decision in decisions:
            if isinstance(decision, Wait) and decision.code is ReasonCode.YIELDS:
                places = decision.data.get("room")
                held[str(decision.data["user"])] = places if isinstance(places, int) else 0
        for user, turn in self._turns.items():
            turn.wasted = max(0.0, turn.wasted + (now - turn.noted) * turn.unused)
            rooms = held.get(user, 0)
            turn.noted, turn.unused = now, rooms - turn.has
            if user not in held:
                turn.room_since = inf
                continue
            turn.kept_since = min(turn.kept_since, now)
            turn.room_since = min(turn.room_since, now) if rooms else inf
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
                f"nothing is left to {user} for {format_seconds(round(longest))}: his scheduler waits and {why}"
            )


def _could(colleague: Colleague, machine: Machine) -> bool:
    """Tell whether the machine could ever give what a colleague waits for, as far as its size tells."""
    if not _is_sound(colleague):
        return False
    if colleague.lacks != "gpu" or not machine.gpus:
        return colleague.cpus <= machine.cores_there and colleague.ram <= machine.memory_there
    large = [gpu for gpu in machine.gpus if gpu.total >= (colleague.vram or 0)]
    return 1 <= colleague.gpus <= len(large)


class Planner(Protocol):
    """What is asked of the decision that is being made."""

    @property
    def inventory(self) -> Inventory:
        """What is left of the machine."""

    def missing(
        self, request: Waiting, needs: Sequence[Need], cpus: int
    ) -> tuple[Need | None, Lack | None]:
        """Return which need can be met now, or what is missing."""


class _Room(NamedTuple):
    colleague: Colleague
    place: Running  # counts as one of ours while it is decided


class Yielding:
    """The places that are left to colleagues while our jobs are decided."""

    def __init__(self, planner: Planner, now: float) -> None:
        """Give each colleague before whom we yield his place; `end` takes them back."""
        self._planner, self._now = planner, now
        self._rooms: list[_Room] = []
        self._later: list[tuple[Colleague, FirstJobReservation]] = []
        self._known: dict[tuple[object, ...], Lack | None] = {}
        machine = planner.inventory.machine
        for colleague in in_turn(machine):
            self._leave_to(colleague, request_of(colleague, machine))

    def _leave_to(self, colleague: Colleague, request: Waiting) -> None:
        inventory = self._planner.inventory
        never, needs = inventory.asks(request)
        if never:
            return
        cpus = min(request.resources.cpus, inventory.machine.cpus)
        need, lacks = self._planner.missing(request, needs, cpus)
        if lacks:
            later = reserve(inventory, request, needs, cpus, self._now)
            if later is not None:
                self._later.append((colleague, later))
        for _ in range(colleague.count):
            if lacks:
                return
            self._take_room(colleague, request, need, cpus)
            need, lacks = self._planner.missing(request, needs, cpus)

    def _take_room(
        self, colleague: Colleague, request: Waiting, need: Need | None, cpus: int
    ) -> None:
        inventory = self._planner.inventory
        cards = [] if need is None else [*islice(inventory.pool(need).places(need), need.count)]
        place = Running(
            job=-1,
            name=colleague.user,
            cpus=cpus,
            devices=tuple(card.gpu.uuid for card in cards),
            ram=request.resources.ram or 0,
            reservation=None if need is None else need.vram_request,
            exclusive=need is not None and need.exclusive,
        )
        inventory.give(place)
        self._rooms.append(_Room(colleague, place))

    def end(self) -> None:
        """Take back what was left: who starts there tells of it himself."""
        for room in self._rooms:
            self._planner.inventory.take_back(room.place)
        self._rooms.clear()

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
        if lacks and self._rooms:
            lacks = self._lacks_without_us(request, needs, cpus)
            return lacks, None if lacks else self._wait(request)
        delayed = None if lacks else self._delayed(request, need, cpus)
        return lacks, None if delayed is None else self._wait(request, delayed)

    def _lacks_without_us(self, request: Waiting, needs: Sequence[Need], cpus: int) -> Lack | None:
        """Return what a job would lack if nothing were left to others.

        That is found out once for jobs that are alike: when others of ours start it only becomes more.
        """
        key = (request.resources, request.vram_request, request.enough, request.visible)
        if key not in self._known:
            inventory = self._planner.inventory
            for room in self._rooms:
                inventory.take_back(room.place)
            _, self._known[key] = self._planner.missing(request, needs, cpus)
            for room in self._rooms:
                inventory.give(room.place)
        return self._known[key]

    def beside(
        self, places: Iterator[Card], request: Waiting, need: Need | None, cpus: int
    ) -> Iterator[Card]:
        """Give those GPUs on which a job puts off no colleague who gets a place when ours end."""
        kept = [later for _, later in self._in_the_way(request)]
        if any(cpus > later.cpus or (request.resources.ram or 0) > later.ram for later in kept):
            return iter(())
        return (card for card in places if all(later.leaves(card, need) for later in kept))

    def _delayed(self, request: Waiting, need: Need | None, cpus: int) -> Colleague | None:
        """Return whom a job delays that would have room, None where it delays nobody."""
        if not self._later:
            return None
        count = 0 if need is None else need.count
        pool = iter(()) if need is None else self._planner.inventory.pool(need).places(need)
        kept = self._in_the_way(request)
        lacks_cores = any(
            cpus > later.cpus or (request.resources.ram or 0) > later.ram for _, later in kept
        )
        free = [*islice(self.beside(pool, request, need, cpus), count)]
        return kept[0][0] if kept and (lacks_cores or len(free) < count) else None

    def take(self, request: Waiting, places: Sequence[Card], need: Need | None, cpus: int) -> None:
        """Know that a job starts beside those who get their places later."""
        for _, later in self._in_the_way(request):
            later.admit(request, places, need=need, cpus=cpus)

    def _in_the_way(self, request: Waiting) -> list[tuple[Colleague, FirstJobReservation]]:
        return [entry for entry in self._later if not entry[1].ends_before(request, self._now)]

    def _wait(self, request: Waiting, colleague: Colleague | None = None) -> Wait:
        """Return that a job leaves its place to a colleague; None: to who could take it now."""
        whose = self._rooms[0].colleague if colleague is None else colleague
        rooms = sum(room.colleague is whose for room in self._rooms) if colleague is None else 0
        return Wait(
            job=request.job,
            reason=yields(whose, self._planner.inventory.machine),
            code=ReasonCode.YIELDS,
            data={"user": whose.user, "room": rooms},
        )
