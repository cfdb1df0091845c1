"""Which waiting job starts now, where, and why each other one still waits; a pure function of what is known.

Jobs come in the order of their rank. One that fits starts. The first that does not, and would if jobs of ours
ended, gets a reservation: the earliest time at which it can start, as far as it is known how long the others
take, and the place. A later job starts before it only where that is not delayed: it is expected to end in time,
or there is room for both. (This is EASY backfill: Lifka, "The ANL/IBM SP scheduling system", 1995; here with
memory of GPUs, GPUs, cores and main memory at once.)
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import inf

from launcher.gpu.resources import MEMORY, Promise, shares_cores
from launcher.job import Resources
from launcher.scheduler.backfill import Reservation
from launcher.scheduler.explanations import (
    Lack,
    Refusal,
    cores,
    kept_back,
    no_gpu,
    place_of,
    placed,
    ram_too_small,
    too_few,
    too_large,
)
from launcher.scheduler.gpu_pool import Pool
from launcher.scheduler.gpu_slot import Card, Need, Turn, is_visible, need_alone, need_of
from launcher.scheduler.model import Decision, Machine, Running, Start, Stop, Wait, Waiting
from launcher.states import ReasonCode
from launcher.units import format_bytes


def decide(
    waiting: Sequence[Waiting], running: Iterable[Running], machine: Machine, now: float = 0.0
) -> list[Decision]:
    """Return what happens to each waiting job, in their order (the most urgent first).

    Neither cores nor memory are promised twice, on the machine or on a GPU, a GPU never runs more of our jobs
    than the rules say, and a group never runs more jobs than its limit. One whose group is full, that this
    machine can never hold, or that waits for memory which others use, is in nobody's way.

    Args:
        waiting: the jobs.
        running: what is promised already, the oldest first.
        machine: what there is.
        now: seconds, on the clock of `Running.ends`.
    """
    return Room(machine, running).decide(waiting, now)


def evacuate(running: Iterable[Running], machine: Machine) -> list[Stop]:
    """Return the running jobs whose GPU has failed: they are ended, and run again elsewhere."""
    faults = {gpu.uuid: f"{gpu.label} {gpu.fault}" for gpu in machine.gpus if gpu.fault}
    return [
        Stop(job=one.job, reason=next(faults[uuid] for uuid in one.devices if uuid in faults))
        for one in running
        if faults.keys() & set(one.devices)
    ]


def never(one: Waiting, machine: Machine) -> str:
    """Return in words why a machine can never hold a job, though nobody else used it; '' where it can."""
    found = refusal(one, machine)
    return found.text if found else ""


def refusal(one: Waiting, machine: Machine) -> Refusal | None:
    """Return why a machine can never hold a job, though nobody else used it; None where it can."""
    return Room(machine).refusal(one)


def wants_gpu(resources: Resources, machine: Machine, visible: Sequence[str] | None = None) -> bool:
    """Tell whether a job works on GPUs here: it says so, or prefers them and may have one."""
    shown = None
    if visible is not None and resources.accelerated:
        shown = any(is_visible(gpu, visible) for gpu in machine.gpus)
    return resources.works_on_gpu(there=bool(machine.gpus), shown=shown)


NOBODY_KNOWS: Turn = (inf, 1 << 62)  # after all of ours


class Room:
    """What is left of a machine, kept while decisions are made one after the other."""

    def __init__(
        self, machine: Machine, running: Iterable[Running] = (), *, explain: bool = True
    ) -> None:
        """Take stock.

        Args:
            machine: what there is.
            running: what of it is promised already, the oldest first.
            explain: give reasons in numbers; without them a long queue is decided much faster.
        """
        self._machine, self._explain = machine, explain
        self._turns: dict[int, Turn] = {}
        self._cards = {gpu.uuid: Card(gpu, machine, self._turns) for gpu in machine.gpus}
        self._shared_cores, self._shared_ram = _shared(machine)
        self._cpus, self._ram = self._shared_cores.ours, self._shared_ram.ours
        self._unused_ram = machine.ram_free
        self._groups: Counter[str] = Counter()
        self._given = 0
        self._running: dict[int, Running] = {}  # by identity: it is one of ours that was given
        self._pools: dict[tuple[object, ...], Pool] = {}
        self._asked: dict[
            tuple[object, ...], tuple[Refusal | None, tuple[Need, ...], Resources]
        ] = {}
        self._refused: dict[Need, Lack | None] = {}  # since something changed last
        self._started: dict[int, Running] = {}  # by job: what decisions have started
        self._kept: Reservation | None = None
        for one in running:
            self.give(one)
        self._unused_ram = machine.ram_free
        for card in self._cards.values():
            card.settle()

    def give(self, one: Running) -> None:
        """Give a job its place."""
        self._running[id(one)] = one
        self._given += 1
        self._turns[id(one)] = (inf, self._given) if one.ends is None else (one.ends, 0)
        self._cpus -= one.cpus
        self._ram -= one.ram
        self._unused_ram -= one.ram
        self._groups[one.group] += 1
        for uuid in one.devices:
            if uuid in self._cards:  # else the machine has lost it
                self._cards[uuid].give(one)
        self._changed(one)

    def take_back(self, one: Running) -> None:
        """Have a job's place back: it has ended."""
        del self._running[id(one)], self._turns[id(one)]
        self._cpus += one.cpus
        self._ram += one.ram
        self._unused_ram += one.ram
        self._groups[one.group] -= 1
        for uuid in one.devices:
            if uuid in self._cards:
                self._cards[uuid].take_back(one)
        self._changed(one)

    def ended(self, job: int) -> None:
        """Have the place back of a job that a decision has started."""
        self.take_back(self._started.pop(job))

    def _changed(self, one: Running) -> None:
        self._refused.clear()
        for pool in self._pools.values():
            for uuid in one.devices:
                if uuid in self._cards:
                    pool.changed(self._cards[uuid])

    def decide(self, waiting: Sequence[Waiting], now: float) -> list[Decision]:
        """Return what happens to each waiting job; those that start have their place from then on."""
        self._kept = None
        return [self._decide(one, now) for one in waiting]

    def _decide(self, one: Waiting, now: float) -> Decision:
        never, needs = self._asks(one)
        if full := self._full(one.group):
            return Wait(job=one.job, reason=full, code=ReasonCode.GROUP_FULL)
        if never:
            return Wait(job=one.job, reason=never.text, code=never.code)
        cpus = min(one.resources.cpus, self._machine.cpus)
        lacks = self._lacks(one, cpus)
        need = next(iter(needs), None)
        if need is not None and not lacks:
            lacks = self._lacks_gpu(need)
            for other in needs[1:] if lacks else ():
                if not self._lacks_gpu(other):
                    need, lacks = other, None
        if not lacks:
            places, delay = self._allowed_now(one, need, cpus, now)
            if not delay:
                return self._start(one, need, places, cpus, now)
            return Wait(job=one.job, reason=delay, code=ReasonCode.WOULD_DELAY)
        if self._kept is None:
            self._kept = self._reserve(one, needs, cpus, now)
            when = "" if self._kept is None else self._kept.when(now)
            if self._kept is not None and when:
                room = f"room on {self._kept.where}{when}"
                both = f"{lacks.situation}; {room}" if lacks.situation else room
                lacks = Lack(lacks.need, both)
            if (self._kept is None or one.insists) and self._waits_for_others(one, cpus):
                behind = self._waits_for_ours(one, cpus)
                return Wait(
                    job=one.job,
                    reason=lacks.text,
                    data=lacks.data,
                    for_others=True,
                    behind_ours=behind,
                )
        return Wait(job=one.job, reason=lacks.text, data=lacks.data)

    def _start(
        self, one: Waiting, need: Need | None, places: Sequence[Card], cpus: int, now: float
    ) -> Start:
        given = Running(
            job=one.job,
            name=one.name,
            cpus=cpus,
            devices=tuple(card.gpu.uuid for card in sorted(places, key=place_of)),
            ram=one.resources.ram or 0,
            group=one.group,
            claim=_promised(one, need, places),
            lone=need is not None and need.lone,
            ends=None if one.seconds is None else now + one.seconds,
        )
        reason = placed(one, given, places) if self._explain else "fits"
        self.give(given)
        self._started[one.job] = given
        return Start(
            job=one.job,
            devices=given.devices,
            cpus=cpus,
            reason=reason,
            claim=given.claim,
            lone=given.lone,
        )

    # --- cores, main memory, groups

    def _left(self, group: str) -> int | None:
        """Return how many further jobs of a group may start; None: there is no limit."""
        limit = self._machine.limits.get(group) if group else None
        return None if limit is None else limit - self._groups[group]

    def _full(self, group: str) -> str:
        """Return why no further job of a group may start, '' where one may."""
        left = self._left(group)
        if left is None or left > 0:
            return ""
        return (
            f"group {group!r} runs {self._groups[group]} of at most {self._machine.limits[group]}"
        )

    def _lacks(self, one: Waiting, cpus: int) -> Lack | None:
        """Return which cores or how much main memory is missing, None when there is enough."""
        if cpus > self._cpus:
            free, most = max(self._cpus, 0), self._machine.cpus
            need = f"needs {cores(cpus)}, {free} of {most} free"
            shared = self._shared_cores
            theirs = min(shared.there, shared.promised)
            if not theirs:
                return Lack(need)
            whose = ", ".join(shared.theirs)
            return Lack(need, f"{theirs} of {shared.there} cores are promised to jobs of {whose}")
        ram = one.resources.ram
        if ram is None or (ram <= self._ram and ram <= self._unused_ram):
            return None
        free = max(0, min(self._ram, self._unused_ram))
        whose = "not promised to others" if self._ram <= free else "not in use"
        promises = (
            f"{format_bytes(amount)} are promised to jobs of {user}"
            for user, amount in self._shared_ram.theirs.items()
        )
        need = f"needs {format_bytes(ram)} of memory, {format_bytes(free)} are {whose}"
        return Lack(need, "; ".join(promises))

    # --- GPUs

    def _pool(self, need: Need) -> Pool:
        key = (need.device, need.visible, need.count > 1)
        if key not in self._pools:
            self._pools[key] = Pool(self._cards.values(), need)
        return self._pools[key]

    def _lacks_gpu(self, need: Need) -> Lack | None:
        """Return in numbers why there is no GPU for a job now, None where there is one."""
        if need not in self._refused:
            pool = self._pool(need)
            self._refused[need] = None if pool.has_room(need) else self._gpu_lack(need, pool)
        return self._refused[need]

    def _gpu_lack(self, need: Need, pool: Pool) -> Lack:
        if not self._explain:
            return Lack("has no room")
        what = "a GPU that it shares with no other job" if need.lone else "a GPU"
        if need.claim is not None:
            what = format_bytes(need.claim) + (" on a GPU of its own" if need.lone else "")
        if need.count > 1:
            what = f"{need.count} GPUs" + (f" with {what} each" if need.claim is not None else "")
        return Lack(f"needs {what}", pool.refusals(need))

    def refusal(self, one: Waiting) -> Refusal | None:
        """Return why the machine can never hold a job, None where it can."""
        return self._asks(one)[0]

    def _asks(self, one: Waiting) -> tuple[Refusal | None, tuple[Need, ...]]:
        """Return why the machine can never hold a job, and what it asks of GPUs: one of these, the first at best."""
        # a lane's jobs share their resources
        key = (id(one.resources), one.claim, one.enough, one.learned, one.visible)
        if key not in self._asked:
            wants = wants_gpu(one.resources, self._machine, one.visible)
            needs = self._needs(one) if wants else ()
            # the resources are kept with it: while they live no others have their id
            self._asked[key] = (self._find_never(one, needs), needs, one.resources)
        return self._asked[key][:2]

    def _needs(self, one: Waiting) -> tuple[Need, ...]:
        """Return with what of GPUs a job can start.

        What was learned and is more than the GPUs that it may have can give means: a GPU of its own. Only
        what its owner asked for, or what it lacked when it failed, can be too much for a machine.
        """
        need, alone = need_of(one), need_alone(one)
        if one.learned and not self._pool(need).could(need):
            return (replace(need, claim=None, lone=True),)
        return (need,) if alone is None else (need, alone)

    def _find_never(self, one: Waiting, needs: Sequence[Need]) -> Refusal | None:
        asked, machine = one.resources, self._machine
        if asked.ram is not None and asked.ram > machine.ram:
            return ram_too_small(asked.ram, machine)
        if not needs:
            return None
        if not machine.gpus:
            return no_gpu(machine)
        need = needs[0]
        pool = self._pool(need)
        if len(pool.cards) < need.count:
            return too_few(pool.cards, need, machine)
        if len(pool.ours) < need.count:
            return kept_back(pool.ours, need, machine)
        if pool.could(need) or need.claim is None:
            return None
        return too_large(need, pool, machine)

    # --- the first job that waits

    def _reserve(
        self, one: Waiting, needs: Sequence[Need], cpus: int, now: float
    ) -> Reservation | None:
        """Return the place that a job gets when enough of ours have ended; None: others must end, too."""
        ram, free_ram = one.resources.ram or 0, min(self._ram, self._unused_ram)
        turns = [
            self._turn_of(cpus, self._cpus, "cpus", now),
            self._turn_of(ram, free_ram, "ram", now),
        ]
        cards: list[Card] = []
        need = None
        for need in needs:
            chosen = [*islice(self._pool(need).openings(need), need.count)]
            if len(chosen) == need.count:
                turns.append(chosen[-1][0])
                cards = [card for _, card in chosen]
                break
        if needs and not cards:
            return None
        if one.insists and self._waits_for_others(one, cpus):
            turns = [NOBODY_KNOWS if turn is None else turn for turn in turns]
        known = [turn for turn in turns if turn is not None]
        if len(known) < len(turns):
            return None
        at = max(known)
        promised = self._cpus < self._machine.cpus or self._ram < self._machine.ram
        ours = self._running if promised else {}
        gone = [run for key, run in ours.items() if self._turns[key] <= at]
        return Reservation(
            job=one.name or str(one.job),
            group=one.group,
            at=at,
            where=", ".join(card.gpu.label for card in cards) or cores(cpus),
            cpus=self._cpus + sum(run.cpus for run in gone) - cpus,
            ram=max(0, free_ram + sum(run.ram for run in gone) - ram),
            beside={} if need is None else {card.gpu.uuid: card.beside(need, at) for card in cards},
        )

    def _waits_for_others(self, one: Waiting, cpus: int) -> bool:
        """Tell whether a job would have its cores and memory if other homes had promised nothing."""
        ours, ram = self._running.values(), one.resources.ram or 0
        own_cpus, own_ram = sum(run.cpus for run in ours), sum(run.ram for run in ours)
        lacks_cpus, lacks_ram = self._cpus + own_cpus < cpus, self._ram + own_ram < ram
        return (lacks_cpus or lacks_ram) and self._unused_ram + own_ram >= ram

    def _waits_for_ours(self, one: Waiting, cpus: int) -> bool:
        """Tell whether jobs of ours have of what it lacks."""
        lacks_cpus, lacks_ram = cpus > self._cpus, (one.resources.ram or 0) > self._ram
        return any(
            (lacks_cpus and run.cpus > 0) or (lacks_ram and run.ram > 0)
            for run in self._running.values()
        )

    def _turn_of(self, wanted: int, free: int, what: str, now: float) -> Turn | None:
        """Return when so many cores or bytes are free; None: not even when all ours have ended."""
        if wanted <= max(0, free):
            return now, 0
        for key, one in sorted(self._running.items(), key=lambda entry: self._turns[entry[0]]):
            free += getattr(one, what)
            if wanted <= free:
                return max(self._turns[key], (now, 0))
        return None

    def _allowed_now(
        self, one: Waiting, need: Need | None, cpus: int, now: float
    ) -> tuple[list[Card], str]:
        """Return the places for a job that could start, or why it must not: the first would wait longer."""
        kept = self._kept
        count = 0 if need is None else need.count
        places = iter(()) if need is None else self._pool(need).places(need)
        if kept is None:
            return [*islice(places, count)], ""
        # without the last place in its group the first one would be in nobody's way any more
        last = one.group == kept.group and self._left(one.group) == 1
        if not last and kept.ends_before(one, now):
            return [*islice(places, count)], ""
        allowed = None if last else kept.admit(one, places, need=need, cpus=cpus)
        if allowed is not None:
            return allowed, ""
        return [], f"would delay {kept.told(now)}" if self._explain else "would delay the first"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What other homes leave us of cores or main memory, and what of theirs is in our way."""

    there: int  # of which theirs are a part: our quota, or what the machine has
    ours: int
    theirs: Counter[str]  # user → how much

    @property
    def promised(self) -> int:
        return sum(self.theirs.values())


def _share(quota: int, there: int, promises: Iterable[Promise]) -> _Shared:
    """Return what is left: what all promise counts against the machine, and against a quota what shares it."""
    all_of_them, inside = Counter[str](), Counter[str]()
    for one in promises:
        all_of_them[one.user] += one.amount
        if one.inside:
            inside[one.user] += one.amount
    of_quota = _Shared(there=quota, ours=quota - sum(inside.values()), theirs=inside)
    of_all = _Shared(there=there, ours=there - sum(all_of_them.values()), theirs=all_of_them)
    return min(of_all, of_quota, key=lambda one: one.ours)


def _shared(machine: Machine) -> tuple[_Shared, _Shared]:
    """Return what is shared with other homes of the cores, and of main memory."""
    cores_of = [one for one in machine.foreign if shares_cores(one.device, machine.cores)]
    memory = [one for one in machine.foreign if one.device == MEMORY]
    return (
        _share(machine.cpus, machine.cores_there, cores_of),
        _share(machine.ram, machine.memory_there, memory),
    )


def _promised(one: Waiting, need: Need | None, places: Sequence[Card]) -> int | None:
    """Return what a job is promised on each of its GPUs: its claim, or what they have of it."""
    if need is None or need.claim is None or one.claim is None:
        return None
    if not need.into_reserve:
        return need.claim
    return min(one.claim, *(card.free + card.reserve for card in places))
