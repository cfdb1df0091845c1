"""One GPU while a decision is made: what is free, what is reserved, and when there is room again.

The GPUs that a job may have: whether there is room on them, which is the best place, why there is none.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, islice
from math import inf
from typing import Any

from launcher.errors import counted
from launcher.gpu.resources import ALONE, JOBS, resource
from launcher.gpu.snapshot import ONE_PROCESS, PROHIBITED, GpuSnapshot
from launcher.scheduler.policy.co_location import (
    EXPECTED,
    NAMED,
    SATURATED,
    UNMEASURED_MOST,
    Load,
    admits,
    busy,
    jobs_in_words,
    why_not,
)
from launcher.scheduler.policy.model import Machine, Need, Running
from launcher.scheduler.policy.oom_policy import NEGLIGIBLE, QUIET_SHARE
from launcher.units import format_bytes, format_seconds

Turn = tuple[float, int]  # when a job ends, and where that is unknown, which of those started first
Beside = tuple[
    int, int, tuple[Load, ...]
]  # bytes, jobs of ours, and what those that stay do to a GPU
GUARD = 0.02  # part of a GPU's memory that stays free, so that what runs can grow a little
MOST_GUARD = 1 << 30  # bytes of it
MOST_YOUNG = 4  # jobs on a GPU of which nothing similar has been measured yet
YOUNG_S = 600.0  # one that has held no memory for so long keeps no other waiting
FIRST_S = 10.0  # so long the first one of similar jobs is waited for before a second one starts
_PLENTY = 1 << 30  # jobs; more than any GPU runs


def guard_of(total: int) -> int:
    """Return how many bytes of a GPU stay free, so that what runs can grow a little.

    Args:
        total: its memory.
    """
    return min(MOST_GUARD, round(GUARD * total))


class Card:
    """One GPU, with what is given away on it."""

    def __init__(self, gpu: GpuSnapshot, machine: Machine, turns: Mapping[int, Turn]) -> None:
        """Begin with what others use; ours is added with `give`.

        Args:
            gpu: as the driver sees it.
            machine: whose rules hold.
            turns: when jobs of ours end, by the identity of their `Running`; it is filled by the caller.
        """
        rules = machine.rules
        self.gpu = gpu
        self.others = gpu.used or 0  # what ours use of it is taken off as they are given
        self._owed: Counter[str] = Counter()  # bytes by the user for whose jobs they are reserved
        self.guests: Counter[str] = Counter()  # jobs by the user to whose launcher they belong
        alone = ""
        for reservation in machine.foreign:
            if reservation.device == gpu.uuid:
                self._owed[reservation.queue] += reservation.amount
                self.guests[reservation.user] += 0  # an older launcher does not tell how many
            elif reservation.device == resource(JOBS, gpu.uuid):
                self.guests[reservation.user] += reservation.amount
            elif reservation.device == resource(ALONE, gpu.uuid):
                alone = reservation.queue
        self.foreign = sum(self._owed.values())
        self.most = rules.most  # jobs of ours; None: as many as pays
        self._why_most = ""
        self.is_adaptive = rules.adaptive
        if self.is_adaptive and not gpu.reports_load:
            self.most = min(self.most or UNMEASURED_MOST, UNMEASURED_MOST)
            self._why_most = ", as its driver does not report the load per job"
        if gpu.compute_mode in ONE_PROCESS:
            self.most, self._why_most = 1, ", as its compute mode is exclusive"
        self.unknown = rules.unknown_bytes(gpu.total)  # for a job of which nothing is known
        self.guard = guard_of(gpu.total)
        load, processes = machine.foreign_load.get(gpu.uuid, (0.0, 0))
        young = max(0, self.guests.total() - processes)  # jobs of others that hold nothing yet
        # theirs are expected to do what those do that are measured; a step of 0.01 decides nothing
        expected = load / processes if processes else EXPECTED
        self.foreign_load = round(load + young * expected, 2)
        self.reserve = rules.reserve
        self.free = gpu.total - self.others - self.foreign - self.reserve
        self.is_ours = rules.devices is None or is_visible(gpu, rules.devices)
        self.shut = _shut(gpu, machine) or (f"is reserved exclusively by {alone}" if alone else "")
        self.ours: list[Running] = []
        self.loads: tuple[Load, ...] = ()  # what each of ours does to it
        self._amounts: dict[int, int] = {}  # bytes by the identity of each of ours
        self._young: list[Running] = []  # of ours, those with an estimate that are not measured yet
        self._first: dict[str, Running] = {}  # similar jobs → one that is waited for
        self.exclusive_jobs = 0  # of ours, how many share it with none of ours
        self._turns = turns
        self._said = ""

    @property
    def quiet(self) -> bool:
        """Whether others use little of it; what is left of the memory in use is theirs, once all of ours is given."""
        return self.others + self.foreign <= max(QUIET_SHARE * self.gpu.total, NEGLIGIBLE)

    @property
    def unused(self) -> int:
        """How many bytes are free here when nobody works on it.

        What the driver keeps of an idle GPU is never free. Little is seen of it beside jobs, whose
        memory is measured a moment later than that of the GPU.
        """
        idle = not self.ours and not self.foreign and not self.guests
        return self.gpu.total - (self.others if idle and self.others <= NEGLIGIBLE else 0)

    @property
    def without_ours(self) -> int:
        """How many bytes are free here once ours have ended, and with them others who use more than a little."""
        if self.gpu.fault or self.gpu.used is None:
            return 0
        return self.gpu.total - (self.others if self.quiet else 0)

    def load(self, job: Running) -> int:
        """Return what is counted here for a job of ours, in bytes."""
        return self._amounts[id(job)]

    def give(self, job: Running) -> None:
        """Give a job of ours its place here.

        Its reservation counts, or its use if that is more. An estimate grows only into memory that is free and
        reserved by nobody.
        """
        used = job.used.get(self.gpu.uuid, 0)
        taken = min(used, self.others)
        self.others -= taken
        self.free += taken
        reserved = job.reservation or 0
        if job.estimated:
            estimate = self.unknown if job.reservation is None else job.reservation
            reserved = min(estimate, max(0, self.free))
        self._amounts[id(job)] = max(reserved, used)
        self.free -= self._amounts[id(job)]
        self.ours.append(job)
        self._shrink_estimates()
        self.loads = (*self.loads, job.demand)
        self.exclusive_jobs += job.exclusive
        self._note_young()
        self._said = ""

    def _shrink_estimates(self) -> None:
        """Leave to others what they have reserved: an older estimate shrinks to what its job uses, if it must."""
        for job in self.ours if self.free < 0 else ():
            if job.estimated:
                slack = self._amounts[id(job)] - job.used.get(self.gpu.uuid, 0)
                given = max(0, min(slack, -self.free))
                self._amounts[id(job)] -= given
                self.free += given

    def take_back(self, job: Running) -> None:
        """Have a job's place back, and what it used."""
        self.ours = [running for running in self.ours if running is not job]
        self.loads = tuple(running.demand for running in self.ours)
        self.free += self._amounts.pop(id(job))
        self.exclusive_jobs -= job.exclusive
        self._note_young()
        self._said = ""

    def _note_young(self) -> None:
        self._young = [
            job for job in self.ours if job.young_s is not None and job.young_s < YOUNG_S
        ]
        self._first = {job.similar: job for job in self._young if (job.young_s or 0.0) < FIRST_S}

    def size(self, need: Need) -> int:
        """Return how many bytes a job takes here; one of which nothing is known gets a fixed part."""
        if need.vram_request is None:
            return 0 if need.exclusive else self.unknown
        return need.vram_request

    @property
    def is_low(self) -> bool:
        """Whether so little memory is free that nothing more starts: what runs may grow."""
        return self.gpu.total - (self.gpu.used or 0) < self.guard

    def takes(self, need: Need) -> bool:
        """Return whether a job can start here now."""
        fits = self._holds(need, self.free, self.loads, exclusive=self.exclusive_jobs)
        return fits and not self._is_unsettled(need)

    def _is_unsettled(self, need: Need) -> bool:
        """Return whether a job has to wait until what runs here has been measured."""
        if not self.ours:
            return False
        if self.is_low or (self.is_adaptive and self._is_saturated()):
            return True
        if not need.estimated or need.vram_request is not None:
            return False
        return need.similar in self._first or len(self._young) >= MOST_YOUNG

    def awaits_measurement(self, need: Need) -> bool:
        """Return whether a job could start here now, were what runs here measured."""
        fits = self._holds(need, self.free, self.loads, exclusive=self.exclusive_jobs)
        return fits and self._is_unsettled(need) and not self.is_low

    def _is_saturated(self) -> bool:
        """Return whether the GPU is busy all the time, and some of ours have not been measured beside that."""
        full = (self.gpu.utilisation or 0.0) >= SATURATED
        return full and not all(load.measured for load in self.loads)

    @property
    def busy(self) -> float:
        """For which share of the time it is busy, as far as it was measured and is expected, to two digits."""
        return round(busy(self.loads) + self.foreign_load, 2)

    def opens(self, need: Need) -> Turn | None:
        """Return when a job can start here at the earliest; None: not even when all ours have ended.

        That time is infinite where it depends on a job of unknown duration; then it is
        the turn of the last of them, so that a later job cannot put it off.
        """
        if self.takes(need) or self.awaits_measurement(need):  # which takes seconds
            return (-inf, 0)
        free, exclusive = self.free, self.exclusive_jobs
        ours = sorted(self.ours, key=self._turn)
        for gone, job in enumerate(ours, start=1):
            free, exclusive = free + self.load(job), exclusive - job.exclusive
            left = tuple(each.demand for each in ours[gone:])
            if self._holds(need, free, left, exclusive=exclusive):
                return self._turn(job)
        return None

    def _turn(self, job: Running) -> Turn:
        return self._turns[id(job)]

    def _holds(self, need: Need, free: int, beside: tuple[Load, ...], *, exclusive: int) -> bool:
        """Return whether a job can run here beside others of ours, of which so many share with nobody."""
        if self.shut or (need.excludes_others and self.guests):
            return False
        if need.into_reserve:
            free += self.reserve
        if need.estimated and beside:
            free -= self.guard
        if self.size(need) > free:
            return False
        if not beside:
            return self.quiet or not need.needs_quiet
        return not need.exclusive and not exclusive and self._has_time(need.load, beside)

    def _has_time(self, load: Load, beside: tuple[Load, ...]) -> bool:
        """Return whether a job may come to others: by their number, and by how busy they keep the GPU."""
        if self.most is not None and len(beside) >= self.most:
            return False
        if not self.is_adaptive:
            return True
        return admits(load, beside, self.foreign_load)

    def lacks_time(self, need: Need) -> bool:
        """Return whether a job could start here now if what runs kept the GPU less busy."""
        if self.shut or need.exclusive or self.exclusive_jobs or not self.ours:
            return False
        if self.most is not None and len(self.ours) >= self.most:
            return False
        free = self.free - (self.guard if need.estimated else 0)
        return self.size(need) <= free and not self._has_time(need.load, self.loads)

    def admits_beside(self, load: Load, beside: tuple[Load, ...]) -> bool:
        """Return whether a job pays beside others, which need not be those that run here now."""
        return not beside or self._has_time(load, beside)

    def beside(self, need: Need, at: Turn) -> Beside:
        """Return for what there is room beside a job that starts at a time, and what will be there still."""
        if need.exclusive:
            return 0, 0, ()
        gone = [job for job in self.ours if self._turn(job) <= at]
        left = self.free + sum(self.load(job) for job in gone)
        stay = tuple(job.demand for job in self.ours if self._turn(job) > at)
        slots = _PLENTY if self.most is None else self.most
        left -= need.estimated * self.guard  # it starts only if so much stays free beside it
        return left - self.size(need), slots - len(stay) - 1, stay

    def refusal(self, need: Need) -> str:
        """Return in numbers why a job cannot start here now."""
        name, gpu = self.gpu.label, self.gpu
        if self.shut:
            return f"{name} {self.shut}"
        if need.exclusive and self.ours:
            return f"{name} runs {_jobs(self.ours)}"
        if self.exclusive_jobs:
            return f"{name} runs {_jobs(self.ours)} exclusively"
        if need.excludes_others and self.guests:
            return f"{name} is used by {', '.join(self.guests)}"
        if need.needs_quiet and not self.quiet:
            taken = f"{name} has {format_bytes(self.others)} in use by other users"
            return in_words([taken, *self._foreign()])
        if self.most is not None and len(self.ours) >= self.most:
            limit = f"its limit is {counted(self.most, 'job')}{self._why_most}"
            return f"{name} runs {_jobs(self.ours)}, {limit}"
        if self.ours and self.is_low:
            free = format_bytes(max(0, gpu.total - (gpu.used or 0)))
            return f"{name} runs {_jobs(self.ours)} and has only {free} free"
        if self.ours and self.size(need) <= self.free - need.estimated * self.guard:
            if why := self._why_unsettled(need):
                return why
            if not self.takes(need):
                there = [(job.name or str(job.job), job.demand) for job in self.ours]
                return f"{name} {why_not(need.load, there, self.foreign_load)}"
        if not self._said:  # many jobs wait for the same GPU
            free = format_bytes(max(0, gpu.total - (gpu.used or 0)))
            self._said = f"{name} has {free} free{self._promised()}"
        return self._said

    def _why_unsettled(self, need: Need) -> str:
        """Return which jobs have to be measured before another one starts here; '' if there are none."""
        if not self._is_unsettled(need):
            return ""
        name = self.gpu.label
        if self._is_saturated():
            used = f"{self.gpu.utilisation or 0.0:.0%}".replace("%", " %")
            return f"{name} is {used} busy with {_jobs(self.ours)}"
        if first := self._first.get(need.similar):
            return f"{_jobs([first])}, the first similar job, is being measured on {name}"
        return f"{name} runs {_jobs(self._young)}, which are being measured"

    def _promised(self) -> str:
        """Return what of the free memory is reserved, and for whom."""
        parts = []
        pending = {job.job: self.load(job) - job.used.get(self.gpu.uuid, 0) for job in self.ours}
        if sum(pending.values()) > 0:
            owed = [job for job in self.ours if pending[job.job] > 0]
            parts.append(f"{format_bytes(sum(pending.values()))} is reserved for {_jobs(owed)}")
        if self.foreign:
            parts += self._foreign()
        reserve = (
            self.gpu.total - self.others - self.foreign - self.free - sum(map(self.load, self.ours))
        )
        if reserve > 0:
            parts.append(f"{format_bytes(reserve)} is reserved for other users")
        return f", of which {in_words(parts)}" if parts else ""

    def _foreign(self) -> list[str]:
        return [
            f"{format_bytes(amount)} is reserved by {queue}" for queue, amount in self._owed.items()
        ]


def is_named(gpu: GpuSnapshot, device: str) -> bool:
    """Tell whether a job that asks for a device may have a GPU."""
    return device in {"auto", "cuda", gpu.label, f"cuda:{gpu.index}", gpu.uuid}


def is_visible(gpu: GpuSnapshot, visible: Sequence[str]) -> bool:
    """Tell whether CUDA_VISIBLE_DEVICES names a GPU: by its number in PCI order, or by how its UUID begins."""
    for name in visible:
        if name.isdecimal():
            if int(name) == gpu.index:
                return True
        elif name.startswith(("GPU-", "MIG-")):
            if gpu.uuid.startswith(name):
                return True
        else:
            return False  # as CUDA does: what follows something unknown, such as -1, is not seen
    return False


def _shut(gpu: GpuSnapshot, machine: Machine) -> str:
    """Return why nothing may start on a GPU, whatever it asks for; '' where something may."""
    rules = machine.rules
    if gpu.fault:
        return gpu.fault
    if gpu.used is None or not gpu.total:
        return "; ".join(("does not report its used memory", *gpu.warnings))
    if not 0 <= gpu.used <= gpu.total:
        return f"reports an impossible usage ({gpu.used} of {gpu.total} bytes)"
    if rules.reserve >= gpu.total:
        kept, total = format_bytes(rules.reserve), format_bytes(gpu.total)
        return f"has {total}, and [sharing] reserve in config.toml is {kept}"
    if gpu.compute_mode == PROHIBITED:
        return "accepts no programs, as its compute mode is prohibited"
    if rules.devices is not None and not is_visible(gpu, rules.devices):
        return "is not in [sharing] devices of config.toml"
    idle_s = machine.idle.get(gpu.uuid, 0.0)
    if idle_s < rules.idle_s:
        return (
            f"has been unused by others for {format_seconds(round(idle_s))} "
            f"of the required {format_seconds(rules.idle_s)}"
        )
    return ""


def in_words(parts: Sequence[str]) -> str:
    """Join parts of a sentence with commas, the last one with "and"."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def _jobs(ours: Sequence[Running]) -> str:
    return jobs_in_words([job.name or str(job.job) for job in ours])


class Pool:
    """The GPUs among which jobs of the same `device` and visibility choose.

    They are kept in order while jobs come and go: the caller that gives a place on one, or takes it back,
    tells so with `changed`.
    """

    def __init__(self, cards: Iterable[Card], need: Need) -> None:
        """Choose the GPUs that fit a need by name, by its owner's choice, and as parts of a group."""
        cards = tuple(cards)
        named = [card for card in cards if is_named(card.gpu, need.device)]
        if need.numbered and any(card.gpu.mig is not None for card in cards):
            named = []  # the driver's number of a GPU need not be CUDA's then
        if need.visible is not None:
            named = [card for card in named if is_visible(card.gpu, need.visible)]
        if (
            need.count > 1
        ):  # CUDA gives a process one instance of a divided card, and nothing beside
            named = [card for card in named if card.gpu.mig is None]
        self.cards = tuple(named)
        self.ours = [card for card in named if card.is_ours]  # as config.toml says
        sized = [card for card in self.ours if card.gpu.total]
        # bytes of each: in all, while nobody works there, and once ours have ended
        self.totals = [card.gpu.total for card in sized]
        self.unused = [card.unused for card in sized]
        self.without_ours = [card.without_ours for card in self.ours]
        # one that has failed and never reported its size gives no hope beside others that did
        silent = [card for card in self.ours if not card.gpu.total]
        self._guessed = len([card for card in silent if not (card.gpu.fault and sized)])
        self._place = {card.gpu.uuid: at for at, card in enumerate(self.cards)}
        self._best = _Ranking(_emptiness)
        # what of memory was refused to a load on so many GPUs, since one of ours ended last
        self._refused: dict[tuple[Load, int, bool, str], int] = {}
        self._known = False  # of some the load is known: then GPUs differ
        self._likely = _Ranking(_likelihood)
        self._opening: tuple[Need, _Ranking] | None = None
        self.reserve = self.cards[0].reserve if self.cards else 0
        for card in self.cards:
            self.changed(card)

    def changed(self, card: Card, *, freed: bool = True) -> None:
        """Put a GPU where it belongs now; `freed`: there may be more room than before."""
        at = self._place.get(card.gpu.uuid)
        if at is None:
            return
        for ranking in (self._best, self._likely):
            ranking.put(at, card)
        if freed:
            self._refused.clear()
        self._known = self._known or any(load.sm is not None for load in card.loads)
        if self._opening is not None:
            self._opening[1].put(at, card)

    def has_room(self, need: Need) -> bool:
        """Tell whether as many GPUs as a job needs can take it now."""
        key = need.load, need.count, need.estimated, need.similar
        request = need.vram_request or 0
        refused = None if need.exclusive else self._refused.get(key)
        if refused is not None and request >= refused:
            return False  # a GPU that takes on more jobs becomes no better for it
        able = self._able(need) if need.exclusive else self._able_beside(need)
        fits = len([*islice(able, need.count)]) == need.count
        if not fits and not need.exclusive:
            self._refused[key] = request
        return fits

    def places(self, need: Need) -> Iterator[Card]:
        """Give the GPUs that can take a job now, the best first.

        That is the emptiest, of those the smallest, of those the one with the most free memory; for a job
        whose memory use is unknown, the one with the most free memory.
        """
        able = self._able(need)
        if need.vram_request is None:
            able = iter(sorted(able, key=lambda card: (-card.free, self._place[card.gpu.uuid])))
        yield from _idlest_first(able) if self._known else able

    def _able_beside(self, need: Need) -> Iterator[Card]:
        """Give the GPUs that can take a job beside ours, those with the most free memory first."""
        request = need.vram_request or 0
        for shut, free, at in self._likely.entries:
            if shut or -free < request:
                return
            if self.cards[at].takes(need):
                yield self.cards[at]

    def _able(self, need: Need) -> Iterator[Card]:
        """Give the GPUs that can take a job now, those on which fewest of ours run first."""
        for *_, at in self._best.entries:
            if need.exclusive and self.cards[at].ours:
                return
            if self.cards[at].takes(need):
                yield self.cards[at]

    def lacks_time(self, need: Need) -> bool:
        """Return whether a job could start now if what runs kept the GPUs less busy."""
        return any(card.lacks_time(need) for card in self.cards)

    def awaits_measurement(self, need: Need) -> bool:
        """Return whether a job waits for nothing but that what runs is measured."""
        return any(card.awaits_measurement(need) for card in self.cards)

    def openings(self, need: Need) -> Iterator[tuple[Turn, Card]]:
        """Give the GPUs that can take a job when enough of ours have ended, and when: the first ones first."""
        if self._opening is None or self._opening[0] != need:
            ranking = _Ranking(partial(_opening, need))
            for at, card in enumerate(self.cards):
                ranking.put(at, card)
            self._opening = (need, ranking)
        for time, _, at in self._opening[1].entries:
            yield time, self.cards[at]

    def hold(self, sizes: Iterable[int], need: Need) -> bool:
        """Tell whether enough GPUs could take a job if they had so many bytes, and those of unknown size enough."""
        return self.enough(sizes, need) + self._guessed >= need.count

    def enough(self, sizes: Iterable[int], need: Need) -> int:
        """Return how many GPUs could take a job if they had so many bytes."""
        wanted = self._memory(need)
        return sum(size >= wanted for size in sizes)

    def _memory(self, need: Need) -> int:
        """Return how many bytes a need takes of a GPU, with what is kept for others where it leaves that."""
        return (need.vram_request or 0) + (0 if need.into_reserve else self.reserve)

    def refusals(self, need: Need) -> str:
        """Return why none of the GPUs can be had, in numbers; the likeliest are named."""
        first = sorted(entry[-1] for entry in self._likely.entries[:NAMED])
        refusals = "; ".join(self.cards[at].refusal(need) for at in first)
        more = len(self.cards) - len(first)
        return f"{refusals}; and {counted(more, 'more GPU')}" if more else refusals


class _Ranking:
    """GPUs in order of a key; None keeps one out."""

    def __init__(self, key: Callable[[Card], tuple[Any, ...] | None]) -> None:
        self._key = key
        self._own: dict[int, tuple[Any, ...]] = {}
        self.entries: list[tuple[Any, ...]] = []  # the key, then the GPU's place in the pool

    def put(self, at: int, card: Card) -> None:
        key = self._key(card)
        before = self._own.pop(at, None)
        if before is not None:
            del self.entries[bisect_left(self.entries, before)]
        if key is not None:
            self._own[at] = entry = (*key, at)
            insort(self.entries, entry)


def _emptiness(card: Card) -> tuple[float, ...] | None:
    if card.shut or card.exclusive_jobs:
        return None
    if card.most is not None and len(card.ours) >= card.most:
        return None
    return len(card.ours), card.gpu.total, -card.free


def _idlest_first(cards: Iterable[Card]) -> Iterator[Card]:
    """Give GPUs in their order; of those with as many of our jobs, the least busy first."""
    for _, alike in groupby(cards, lambda card: len(card.ours)):
        yield from sorted(alike, key=lambda card: card.busy)


def _likelihood(card: Card) -> tuple[float, ...]:
    return bool(card.shut), -card.free


def _opening(need: Need, card: Card) -> tuple[Any, ...] | None:
    at = card.opens(need)
    return None if at is None else (at, -card.free)
