"""What no schedule can beat: a time before which all jobs cannot have ended.

Valid in a world where jobs share cards, for any order and any placing. It is the largest of:

- The longest chain: no job ends sooner than when it was submitted, and all that it needs ended,
  plus its own duration, as no job runs faster than alone.
- The work: whatever becomes ready at a time t or later has to be done by the cards after t. Of n
  jobs on a card each advances by 1 / slowdown ** (n - 1) seconds in a second, so a card does at most
  n / slowdown ** (n - 1) seconds of work in one, for the best n. A job whose memory leaves
  no room for so many neighbours, were they the smallest of all, counts at the rate of its own
  best company. Where at most two share a card, it is worked out exactly how much of the work
  can be done in pairs: two that take more than half of a card never meet, and each of these
  needs a smaller one that fits beside it.
- The widths, likewise: jobs on several cards need them at once, see below. Jobs of nearly
  all cards have the machine as if it were a single card.
- The places: jobs that are more than these run one after the other, see below.
- The same for the larger cards of a mixed machine alone, and what fits on no smaller one.
- The work and the widths when all ends at a time T: a job that becomes ready at r and takes p seconds
  alone has T - r for it, of which it can spend so little in company that it does at most
  (T - r - p) / (slowdown - 1) seconds of its work there. The rest occupies whole cards. T is no bound for
  long where that leaves enough of them: the bound is the T at which it just does.

Left out, so that the bound is lower than need be: a job cannot be its own neighbour, one that has company on
a single one of its cards is slowed on all, and a running job cannot be cut to fill a gap.

Bounds that count the widths of jobs on several cards: a job of g cards which runs beside n - 1 others on the
most crowded of them takes a share of g / (n cards) of the machine: of the jobs on a card each has at least as
many neighbours as there are, so that the shares of all that runs at an instant add up to 1 at most. A function
f from 0..1 to 0..1 is dual feasible if no numbers that add up to 1 at most have values that add up to more than
1. So a job whose work takes p seconds alone costs at least p times the smallest slowdown ** (n - 1) * f(g / (n
cards)), and all costs together are no more than the seconds of the schedule, for each such f. (Fekete and
Schepers, "New classes of fast lower bounds for bin packing problems", 2001; Carlier, Clautiaux and Moukrim,
"New reduction procedures and lower bounds for the two-dimensional bin packing problem", 2007; Martello and
Toth's bound is the first of the families.) Shares are whole numbers of 1 / capacity here, so that nothing is
rounded.

Two more:

- Of jobs with more than most / (most + 1) of the cards each, no more than `most` run at once, and those that do
  share at least one card, all of them: the shares of n add up to more than (n - 1) cards' worth. For them
  the machine is a single card.
- A card has `most` places, one of which holds a job for as long as it runs. If jobs take more than
  q * most * cards places, some place holds q + 1 of them one after the other.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from math import lcm
from typing import NamedTuple

from launcher.simulate.trace import TraceJob

Class = tuple[
    int, int
]  # GPUs, and how many jobs share a card with such a job at most, itself included
_WIDTHS = 24  # widths from which functions are made; each gives valid ones
_FLOORS = range(1, 6)
_LAYERS = 64  # jobs one after the other in a place


class Costs:
    """What a second of work of each class of jobs costs, by several dual feasible functions."""

    def __init__(self, classes: Iterable[Class], *, cards: int, slowdown: float) -> None:
        """Work out the costs.

        Args:
            classes: of all the jobs.
            cards: how many there are.
            slowdown: how much longer each of two jobs on a card takes.
        """
        kinds = sorted(set(classes))
        parts = lcm(*range(1, max((crowd for _, crowd in kinds), default=1) + 1))
        capacity = cards * parts
        sizes = {gpus * parts // crowd for gpus, most in kinds for crowd in {1, most}}
        self._rows: list[tuple[Mapping[Class, float], Mapping[Class, float]]] = []
        for weigh, whole in _functions(sizes, capacity):
            alone = {(gpus, most): weigh(gpus * parts) / whole for gpus, most in kinds}
            company = {
                (gpus, most): min(
                    slowdown ** (crowd - 1) * weigh(gpus * parts // crowd) / whole
                    for crowd in range(1, most + 1)
                )
                for gpus, most in kinds
            }
            # a function that counts nothing for more than its width is no better than the sum of the work
            if any(
                alone[gpus, most] > gpus / cards
                or company[gpus, most] > gpus / cards * _best_rate(slowdown, most)
                for gpus, most in kinds
            ):
                self._rows.append((alone, company))

    def seconds(self, work: Mapping[Class, float], company: Mapping[Class, float]) -> float:
        """Return how long work takes at least, of which so much can be done beside other jobs.

        Args:
            work: seconds that the jobs of a class take alone, added up.
            company: how many of these can be done on shared cards.
        """
        return max(
            (
                sum(
                    alone[kind] * (seconds - company[kind]) + shared[kind] * company[kind]
                    for kind, seconds in work.items()
                )
                for alone, shared in self._rows
            ),
            default=0.0,
        )


def _best_rate(slowdown: float, most: int) -> float:
    return min(slowdown ** (crowd - 1) / crowd for crowd in range(1, most + 1))


def _functions(sizes: Iterable[int], capacity: int) -> Iterator[tuple[Callable[[int], int], int]]:
    """Give dual feasible functions of whole numbers, each with its value of the capacity."""
    ends = {min(size, capacity - size) for size in sizes} | {capacity // 2}
    useful = sorted((end for end in ends if end > 0), reverse=True)[:_WIDTHS]
    for end in useful:
        yield partial(_cut, end, capacity), capacity
        yield partial(_stepped, end, capacity), 2 * (capacity // end)
    for parts in _FLOORS:
        yield partial(_floored, parts, capacity), parts * capacity


def _cut(end: int, capacity: int, size: int) -> int:
    """Count what leaves less than `end` as all, and what is less than that as nothing."""
    if size > capacity - end:
        return capacity
    return size if size >= end else 0


def _stepped(step: int, capacity: int, size: int) -> int:
    """Count by whole steps; of more than half what is missing for all."""
    if 2 * size > capacity:
        return 2 * (capacity // step - (capacity - size) // step)
    return capacity // step if 2 * size == capacity else 2 * (size // step)


def _floored(parts: int, capacity: int, size: int) -> int:
    """Count by whole (parts + 1)ths, unless it is exactly some of them."""
    whole, rest = divmod((parts + 1) * size, capacity)
    return whole * capacity if rest else parts * size


def lords(jobs: Sequence[TraceJob], cards: int, most: int) -> list[TraceJob]:
    """Return the jobs so wide that a machine is a single card for them."""
    return [job for job in jobs if job.gpus * (most + 1) > most * cards]


def one_after_another(
    jobs: Sequence[TraceJob], ready: Mapping[int, float], *, cards: int, largest: int, most: int
) -> float:
    """Return when the last of the jobs that share a place ends at the earliest.

    Args:
        jobs: with GPUs.
        ready: when each can start at the earliest.
        cards: how many there are.
        largest: bytes of the largest one.
        most: how many jobs share a card at most.
    """
    bound = 0.0
    longest_first = sorted(jobs, key=lambda job: -job.seconds)
    for places in range(1, most + 1):
        # of jobs with more than a (places + 1)th of the card no more than `places` share it
        kept = longest_first
        if places < most:
            kept = [job for job in kept if (job.vram or 0) * (places + 1) > largest]
        bound = max(bound, _layers(kept, ready, cards * places))
    return bound


def _layers(longest_first: Sequence[TraceJob], ready: Mapping[int, float], places: int) -> float:
    bound, layer, taken, first = 0.0, 0, 0, float("inf")
    for at, job in enumerate(longest_first):
        taken += job.gpus
        first = min(first, ready[job.index])
        if taken > layer * places:
            layer = (taken - 1) // places
            if layer > _LAYERS:
                break
            held = longest_first[max(0, at - layer) : at + 1]
            bound = max(bound, first + sum(other.seconds for other in held))
            layer += 1
    return bound


_LOOKS = 400  # times t that are tried; each gives a valid bound
_HALVINGS = 30
_ROUNDING = 1e-9  # of sums
_SIZES = 128  # of memory that are told apart; between them a job counts as the smaller one

_Work = dict[tuple[int, int], float]  # seconds that jobs take alone, by GPUs and bytes of memory


class _World(NamedTuple):
    """Cards of which each could be the largest one."""

    cards: int
    largest: int  # bytes
    slowdown: float
    most: int


def lower_bound(
    jobs: Sequence[TraceJob], totals: Sequence[int], *, slowdown: float, most: int
) -> float:
    """Return the seconds from the first submission that any schedule takes at least.

    Args:
        jobs: what is replayed; what is needed comes before what needs it.
        totals: the bytes of each card.
        slowdown: how much longer each of two jobs on a card takes.
        most: how many jobs share a card at most.
    """
    ready = _earliest(jobs)
    bound = max((ready[job.index] + job.seconds for job in jobs), default=0.0)
    smaller = -1
    for size in sorted(set(totals)):
        cards = [total for total in totals if total >= size]
        only_here = [job for job in jobs if job.gpus and (job.vram or 0) > smaller]
        world = _World(cards=len(cards), largest=max(cards), slowdown=slowdown, most=most)
        if only_here:
            bound = max(bound, _on_cards(only_here, ready, world, bound))
        # of jobs that each need nearly all of the cards no more run at once than on one card
        alike = lords(only_here, len(cards), most)
        if alike and len(cards) > 1:
            single = _World(cards=1, largest=max(cards), slowdown=slowdown, most=most)
            narrow = [replace(job, gpus=1) for job in alike]
            bound = max(bound, _on_cards(narrow, ready, single, bound))
        smaller = size
    return bound


def _on_cards(
    jobs: Sequence[TraceJob], ready: Mapping[int, float], world: _World, bound: float
) -> float:
    """Return the largest bound for jobs with GPUs that fit on these cards alone."""
    tally = _Tally(jobs, world)
    for at, work in _from_then_on(jobs, ready, tally):
        bound = max(bound, at + tally.seconds(work, work))
    places = one_after_another(
        jobs, ready, cards=world.cards, largest=world.largest, most=world.most
    )
    return _with_haste(jobs, ready, tally, max(bound, places))


def _with_haste(
    jobs: Sequence[TraceJob], ready: Mapping[int, float], tally: "_Tally", bound: float
) -> float:
    """Return a bound that also counts how little time long jobs have for company."""
    slowdown = tally.world.slowdown
    work: _Work = {}
    for job in jobs:
        tally.add(work, job, job.seconds)
    if slowdown <= 1 or tally.world.most == 1:
        return bound  # then company costs no time, or there is none

    def too_soon(end: float) -> bool:
        company = dict.fromkeys(work, 0.0)
        for job in jobs:
            free = max(0.0, end - ready[job.index] - job.seconds) / (slowdown - 1)
            tally.add(company, job, min(job.seconds, free))
        return tally.seconds(work, company) > end * (1 + _ROUNDING)

    if not too_soon(bound):
        return bound
    late = 2 * bound
    while too_soon(late):
        late *= 2
    for _ in range(_HALVINGS):
        middle = (bound + late) / 2
        bound, late = (middle, late) if too_soon(middle) else (bound, middle)
    return bound


def _earliest(jobs: Sequence[TraceJob]) -> dict[int, float]:
    """Return when each job can start at the earliest."""
    ready: dict[int, float] = {}
    ends: dict[int, float] = {}
    for job in jobs:
        ready[job.index] = max([job.submitted, *(ends[need] for need in job.needs)])
        ends[job.index] = ready[job.index] + job.seconds
    return ready


def _from_then_on(
    jobs: Sequence[TraceJob], ready: Mapping[int, float], tally: "_Tally"
) -> Iterator[tuple[float, _Work]]:
    """Give times, and the work of all that cannot start before."""
    late_first = sorted(jobs, key=lambda job: ready[job.index], reverse=True)
    stride = max(1, len(late_first) // _LOOKS)
    work: _Work = {}
    for place, job in enumerate(late_first, 1):
        tally.add(work, job, job.seconds)
        if place == len(late_first) or (
            place % stride == 0 and ready[late_first[place].index] < ready[job.index]
        ):
            yield ready[job.index], work


class _Tally:
    """For how long cards are busy at least until work is done."""

    def __init__(self, jobs: Sequence[TraceJob], world: _World) -> None:
        """Learn which jobs there are."""
        self.world = world
        amounts = sorted({job.vram or 0 for job in jobs})
        self._steps = amounts[:: max(1, -(-len(amounts) // _SIZES))]
        smallest = amounts[0]
        self._crowds = {vram: self._crowd(vram, smallest) for vram in self._steps}
        kinds = {(job.gpus, self._crowds[self._step(job.vram or 0)]) for job in jobs}
        self._costs = Costs(kinds, cards=world.cards, slowdown=world.slowdown)

    def add(self, work: _Work, job: TraceJob, seconds: float) -> None:
        """Count so many seconds of a job."""
        key = (job.gpus, self._step(job.vram or 0))
        work[key] = work.get(key, 0.0) + seconds

    def seconds(self, work: _Work, company: _Work) -> float:
        """Return how long work takes at least, of which so much can be done beside other jobs."""
        busy = self._card_seconds(work, company) / self.world.cards
        return max(busy, self._costs.seconds(self._by_class(work), self._by_class(company)))

    def _step(self, vram: int) -> int:
        """Return what a job's memory counts as: no more than it is."""
        return self._steps[bisect_right(self._steps, vram) - 1]

    def _crowd(self, vram: int, smallest: int) -> int:
        """Return how many jobs share a card with one at most, itself included."""
        world = self.world
        return max(
            1, min(world.most, 1 + (world.largest - vram) // smallest if smallest else world.most)
        )

    def _by_class(self, work: _Work) -> dict[tuple[int, int], float]:
        classes: dict[tuple[int, int], float] = {}
        for (gpus, vram), seconds in work.items():
            kind = (gpus, self._crowds[vram])
            classes[kind] = classes.get(kind, 0.0) + seconds
        return classes

    def _card_seconds(self, work: _Work, company: _Work) -> float:
        world = self.world
        busy = sum(gpus * seconds for (gpus, _), seconds in work.items())
        together: dict[int, float] = {}
        for (gpus, vram), seconds in company.items():
            together[vram] = together.get(vram, 0.0) + gpus * seconds
        if world.most == 2:
            return busy - max(0.0, 1 - world.slowdown / 2) * _paired(together, world.largest)
        for vram, seconds in together.items():
            crowds = range(1, self._crowds[vram] + 1)
            best = max(crowd / world.slowdown ** (crowd - 1) for crowd in crowds)
            busy -= seconds * (1 - 1 / best)
        return busy


def _paired(work: Mapping[int, float], largest: int) -> float:
    """Return how much of the work can be done two by two.

    What takes at most half of the card fits beside anything like it. Of the rest, the larger one
    has fewer to choose from, and all of these are there for the next one, too: so the largest
    choose first.
    """
    small = sorted(vram for vram in work if 2 * vram <= largest)
    sums = [0.0, *accumulate(work[vram] for vram in small)]
    taken = 0.0
    for vram in sorted(work.keys() - {*small}, reverse=True):
        fitting = sums[bisect_right(small, largest - vram)]
        taken += min(work[vram], fitting - taken)
    return taken + sums[-1]
