"""The place that is kept for the first waiting job: when and where it is, what is left beside it, how long it is kept."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import inf

from launcher.scheduler.policy.co_location import UNKNOWN_LOAD, Load
from launcher.scheduler.policy.gpu_slot import Beside, Card, Turn
from launcher.scheduler.policy.inventory import Inventory, cores
from launcher.scheduler.policy.model import Decision, Need, Wait, Waiting
from launcher.units import format_seconds

PASSED_S = 300.0  # so long jobs of ours behind it start, so that nothing idles for its sake
SHOWN_S = 60.0  # a place that slips by less is not worth a word
NEVER_KNOWN: Turn = (inf, 1 << 62)  # after all of ours
KEPT_S = 300.0  # so long what is ours is kept for it, once all of it is free: others may leave soon


@dataclass(slots=True, kw_only=True)
class FirstJobReservation:
    """When and where the first waiting job starts; what is left beside it then shrinks as others come."""

    job: str  # its number, or its name
    group: str
    at: Turn
    slip: float = (
        0.0  # later jobs may be expected to end so many seconds after that; -inf: no guess counts
    )
    where: str  # in words
    cpus: int  # that are left at that time
    ram: int  # likewise, bytes
    beside: dict[str, Beside]  # UUID → what is left on its GPUs
    load: Load = UNKNOWN_LOAD  # what it does to them
    placeless: set[Need | None] = field(default_factory=set)  # needs for which nothing is left

    def when(self, now: float) -> str:
        """Return in words when there is room, with a space before them; '' where that is unknown."""
        if self.at[0] == inf:
            return ""
        wait_s = round(self.at[0] - now)
        when = f" in about {format_seconds(wait_s)}" if wait_s > 0 else " within a second"
        if self.slip < SHOWN_S:
            return when
        late = format_seconds(round(self.slip))
        return f"{when} or up to {late} later"

    def told(self, now: float) -> str:
        """Return whom a job would delay, in words."""
        return f"job {self.job}, which is first and will get {self.where}{self.when(now)}"

    def ends_before(self, job: Waiting, now: float) -> bool:
        """Tell whether a job that starts now is known to have ended at a time that is known itself."""
        firm = self.slip == -inf  # then only a time limit is known
        seconds = job.forecast.limit if firm else job.seconds
        if seconds is None or self.at[0] == inf:
            return False
        return now + seconds <= max(now, self.at[0]) + (0.0 if firm else self.slip)

    def admit(self, job: Waiting, places: Iterable[Card], need: Need | None, cpus: int) -> None:
        """Know that a job starts on these GPUs which may run on when the first one starts."""
        self.cpus -= cpus
        self.ram -= job.resources.ram or 0
        for card in places:
            if need is not None and card.gpu.uuid in self.beside:
                room, slots, loads = self.beside[card.gpu.uuid]
                room -= card.size(need)
                self.beside[card.gpu.uuid] = room, slots - 1, (*loads, need.load)

    def leaves(self, card: Card, need: Need | None) -> bool:
        """Tell whether a job on a GPU leaves the first one's place there as it is."""
        if need is None or card.gpu.uuid not in self.beside:
            return True
        room, slots, loads = self.beside[card.gpu.uuid]
        if need.exclusive or card.size(need) > room or slots <= 0:
            return False
        return card.admits_beside(self.load, (*loads, need.load))


def room_beside(
    kept: Sequence[FirstJobReservation],
    job: Waiting,
    places: Iterable[Card],
    need: Need | None,
    cpus: int,
) -> list[Card] | None:
    """Return on which GPUs a job may start beside those for whom places are kept; None: nowhere.

    Args:
        kept: those that the job puts off where it takes what is kept for them.
        job: it may run on when they start.
        places: GPUs that can take it now, the best first.
        need: what it asks of them.
        cpus: how many cores.
    """
    ram, count = job.resources.ram or 0, 0 if need is None else need.count
    if any(cpus > first.cpus or ram > first.ram for first in kept):
        return None
    left = (card for card in places if all(first.leaves(card, need) for first in kept))
    free = [*islice(left, count)]
    if len(free) == count:
        return free
    kept[-1].placeless.add(need)  # what is left only becomes less
    return None


def reserve(
    inventory: Inventory, request: Waiting, needs: Sequence[Need], cpus: int, now: float
) -> FirstJobReservation | None:
    """Return the place that a job gets when enough of ours have ended; None: others must end, too."""
    ram = request.resources.ram or 0
    free_ram = min(inventory.ram, inventory.unused_ram)
    turns = [
        _turn_of(inventory, cpus, inventory.cpus, "cpus", now),
        _turn_of(inventory, ram, free_ram, "ram", now),
    ]
    need, cards = None, list[Card]()
    places = list[tuple[Turn, Need, list[Card]]]()
    for each in needs:
        chosen = [*islice(inventory.pool(each).openings(each), each.count)]
        if len(chosen) == each.count:
            places.append((chosen[-1][0], each, [card for _, card in chosen]))
    if needs and not places:
        return None
    if places:  # of equally early ones that of the need that comes first
        opening, need, cards = min(places, key=lambda place: place[0])
        turns.append(opening)
    if request.insists and in_the_way(inventory, request, cpus)[0]:
        turns = [NEVER_KNOWN if turn is None else turn for turn in turns]
    times = [turn for turn in turns if turn is not None]
    if len(times) < len(turns):
        return None
    at = max(times)
    machine = inventory.machine
    promised = inventory.cpus < machine.cpus or inventory.ram < machine.ram
    ours = inventory.running if promised else {}
    gone = [run for key, run in ours.items() if inventory.turns[key] <= at]
    # who may be passed on no guess keeps what is free of his GPUs, whoever is expected to leave them
    known = at if request.slip > -inf else (-inf, 0)
    return FirstJobReservation(
        job=request.name or str(request.job),
        group=request.group,
        at=at,
        slip=request.slip,
        where=", ".join(card.gpu.label for card in cards) or cores(cpus),
        cpus=inventory.cpus + sum(run.cpus for run in gone) - cpus,
        ram=max(0, free_ram + sum(run.ram for run in gone) - ram),
        load=request.demand,
        beside={} if need is None else {card.gpu.uuid: card.beside(need, known) for card in cards},
    )


def in_the_way(inventory: Inventory, request: Waiting, cpus: int) -> tuple[bool, bool]:
    """Tell whether others' reservations keep cores or memory from a job, and whether jobs of ours have of these, too."""
    ram, ours = request.resources.ram or 0, inventory.running.values()
    own_cpus, own_ram = sum(run.cpus for run in ours), sum(run.ram for run in ours)
    lacks = inventory.cpus + own_cpus < cpus or inventory.ram + own_ram < ram
    others = lacks and inventory.unused_ram + own_ram >= ram
    mine = (cpus > inventory.cpus and own_cpus > 0) or (ram > inventory.ram and own_ram > 0)
    return others, mine


def _turn_of(inventory: Inventory, wanted: int, free: int, what: str, now: float) -> Turn | None:
    """Return when so many cores or bytes are free; None: not even when all ours have ended."""
    if wanted <= max(0, free):
        return now, 0
    turns = inventory.turns
    for key, run in sorted(inventory.running.items(), key=lambda entry: turns[entry[0]]):
        free += getattr(run, what)
        if wanted <= free:
            return max(turns[key], (now, 0))
    return None


class Insistence:
    """Which jobs have waited for others so long that ours behind them must not pass them now.

    It is unknown when others leave. Were nothing kept, a large job would be passed for ever; were all kept until
    others leave, cores would idle for ever. So it goes by turns: first the others of ours pass, then they do not
    until all that runs and is in the way has ended and another KEPT_S have gone by, and so on. All times are
    monotonic seconds.
    """

    def __init__(self) -> None:
        """Begin without jobs."""
        self._turns: dict[int, tuple[float, bool]] = {}  # since when it is so, whether it is kept

    def entered(self, waiting: Iterable[Waiting], now: float) -> list[Waiting]:
        """Return jobs with the word for which of them what is ours is kept now."""
        jobs = list(waiting)
        there = {job.job for job in jobs}
        self._turns = {job: turn for job, turn in self._turns.items() if job in there}
        return [job._replace(insists=True) if self._keeps(job.job, now) else job for job in jobs]

    def note(self, decisions: Iterable[Decision], now: float) -> None:
        """Take in who waits for others, and whether something of ours is in its way as well."""
        for decision in decisions:
            if not isinstance(decision, Wait) or not decision.for_others:
                continue
            _, kept = self._turns.setdefault(decision.job, (now, False))
            if kept and decision.behind_ours:
                self._turns[decision.job] = now, kept  # it has not had what is ours yet

    def _keeps(self, job: int, now: float) -> bool:
        if job not in self._turns:
            return False
        since, kept = self._turns[job]
        if now - since >= (KEPT_S if kept else PASSED_S):
            kept = not kept
            self._turns[job] = now, kept
        return kept
