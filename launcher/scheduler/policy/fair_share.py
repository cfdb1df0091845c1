"""Who goes first of several users: who has used less lately, or has waited long and has nothing.

Use decays, so what somebody used yesterday counts half. Of two schedulers that wait for the same, the one whose user
has used more leaves the place to the other; both know both numbers, so not both do. A colleague who has used more
is served when he has waited STARVING_S and has nothing of what he waits for.

Nobody who tells what is not so can hold us up for ever (`Courtesy`): there is room for him and he does not start
for UNUSED_S, or starts much less than there is room for, or what he needs was kept for him in vain for KEPT_S: then
he is not heeded for a while, twice as long each time, until he has started something.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf, isfinite

from launcher.gpu.colleague import OWN_HOME, Colleague, Lacking, Wish
from launcher.gpu.resources import JOBS, MEMORY, is_cores
from launcher.gpu.snapshot import GpuSnapshot
from launcher.job import CPU, Resources
from launcher.scheduler.policy.explanations import cores
from launcher.scheduler.policy.gpu_need import Need, need_of
from launcher.scheduler.policy.gpu_slot import is_visible
from launcher.scheduler.policy.model import Decision, Machine, Running, Wait, Waiting
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
