"""What jobs on several cards cost a machine: bounds that count their widths, not only their work.

A job of g cards which runs beside n - 1 others on the most crowded of them takes a share of g / (n cards)
of the machine: of the jobs on a card each has at least as many neighbours as there are, so that the shares of
all that runs at an instant add up to 1 at most. A function f from 0..1 to 0..1 is dual feasible if no
numbers that add up to 1 at most have values that add up to more than 1. So a job whose work takes p seconds
alone costs at least p times the smallest slowdown ** (n - 1) * f(g / (n cards)), and all costs together
are no more than the seconds of the schedule, for each such f. (Fekete and Schepers, "New classes of fast lower
bounds for bin packing problems", 2001; Carlier, Clautiaux and Moukrim, "New reduction procedures and
lower bounds for the two-dimensional bin packing problem", 2007; Martello and Toth's bound is the first
of the families.) Shares are whole numbers of 1 / capacity here, so that nothing is rounded.

Two more:

- Of jobs with more than most / (most + 1) of the cards each, no more than `most` run at once, and those that do
  share at least one card, all of them: the shares of n add up to more than (n - 1) cards' worth. For them
  the machine is a single card.
- A card has `most` places, one of which holds a job for as long as it runs. If jobs take more than
  q * most * cards places, some place holds q + 1 of them one after the other.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from math import lcm

from launcher.simulate.trace import TraceJob

Class = tuple[
    int, int
]  # GPUs, and how many jobs share a card with such a job at most, itself included
_SIZES = 24  # widths from which functions are made; each gives valid ones
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
    useful = sorted((end for end in ends if end > 0), reverse=True)[:_SIZES]
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
