"""Whether jobs end sooner together on a card than one after the other: how long each takes beside others.

A job's rate beside others is 1 / its slowdown: alone it is 1. Jobs that take turns on a card end one after the
other at a sum of rates of 1; together they must do better than that, or each of them only ends later.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import isfinite
from typing import NamedTuple

UNKNOWN_SLOWDOWN = 1.3  # of each of two jobs of which nothing is known; of n: to the power of n - 1
UNKNOWN_SM = 0.65  # what two alike must use of a card to slow each other down like that
SWITCH = 0.05  # a further job costs so much of the card: its contexts and caches are changed
MOST_UNKNOWN = 2  # jobs on a card as long as it is not known what they use of it
MOST_COUNTED = 64  # others; of more no number is large enough, and none is needed
MOST_SLOWDOWN = 100.0  # more is no measurement but a job that hung
NAMED = 3  # jobs, or GPUs, that a reason names; the others are counted
_USES, _FACTORS = 100, 20  # steps of 1; jobs that differ by less are decided alike, and at once


class Load(NamedTuple):
    """What a job does to a card, and what others on the card do to it."""

    sm: float | None = None  # share of the time in which it uses the card alone, 0 to 1
    slowdown: float | None = None  # measured beside one other, at least 1


UNKNOWN_LOAD = Load()


def load_of(sm: object, slowdown: object) -> Load:
    """Return a load from what was stored or measured; what cannot be true counts as unknown."""
    use = sm if isinstance(sm, int | float) and 0 <= sm <= 1 else None
    factor = slowdown if isinstance(slowdown, int | float) and isfinite(slowdown) else None
    if factor is not None and not 0 < factor <= MOST_SLOWDOWN:
        factor = None
    return Load(
        None if use is None else round(use * _USES) / _USES,
        None if factor is None else round(max(1.0, factor) * _FACTORS) / _FACTORS,
    )


def rates(group: Sequence[Load]) -> list[float]:
    """Return how fast each of some jobs goes on while all of them are on one card; alone it is 1.

    What was measured counts first. Else jobs that together would use more than the whole card get of it in
    proportion to what they use alone. That is cautious: the driver counts the time in which a job has
    anything to do on the card, though it may occupy only a part of it.
    """
    more = min(len(group) - 1, MOST_COUNTED)
    if more <= 0:
        return [1.0] * len(group)
    use = sum([UNKNOWN_SM if sm is None else sm for sm, _ in group])
    crowded = 1 / (max(1.0, use) * (1 + SWITCH) ** more)
    unknown = 1 / UNKNOWN_SLOWDOWN**more
    return [
        max(1.0, slowdown) ** -more if slowdown is not None else unknown if sm is None else crowded
        for sm, slowdown in group
    ]


def pays(job: Load, others: Sequence[Load]) -> bool:
    """Tell whether a job and those on a card end sooner together than one after the other.

    Nobody may take longer than if all of them took equal turns, and those on the card must do less without it.
    """
    if not others:
        return True
    together = rates([job, *others])
    if min(together) * len(together) < 1:
        return False
    return sum(together) >= max(1.0, sum(rates(others)))


@lru_cache(maxsize=1 << 14)
def gain(job: Load, others: tuple[Load, ...]) -> float:
    """Return how much more is done on a card in a second with a job beside others than without it."""
    return sum(rates([job, *others])) - sum(rates(others))


@lru_cache(maxsize=1 << 14)
def admits(job: Load, others: tuple[Load, ...], most: int | None) -> bool:
    """Tell whether a job may come to others on a card.

    Args:
        job: what it does to the card.
        others: those of ours that are there.
        most: how many may be there by the owner's word; None: he left it to what is learned.
    """
    count = len(others) + 1
    if count == 1:
        return True
    if count > limit((job, *others), most):
        return False
    unknown = job == UNKNOWN_LOAD and others.count(UNKNOWN_LOAD) == len(others)
    return unknown or pays(job, others)


def limit(group: Sequence[Load], most: int | None) -> int:
    """Return how many jobs may be on a card with these: two, until it is known of all what they use of it."""
    if most is not None:
        return most
    return MOST_UNKNOWN if UNKNOWN_LOAD in group else 1 << 30


def jobs_in_words(names: Sequence[str]) -> str:
    """Return which jobs it is; of many the first ones are named, and the others counted."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ("job " if len(names) == 1 else "jobs ") + ", ".join(names[:NAMED]) + more


def why_not(job: Load, others: Sequence[tuple[str, Load]], most: int | None) -> str:
    """Return in words why a job does not come to others, which are given with their names."""
    loads = [load for _, load in others]
    whom = jobs_in_words([f"{name}{_use(load)}" for name, load in others])
    most_here = limit((job, *loads), most)
    if len(others) >= most_here:
        return f"{whom}: {most_here} at once, until it is known what each of them uses of it"
    slowest = 1 / min(rates([job, *loads]))
    beside, who = ("it", "both") if len(others) == 1 else ("them", "all")
    return f"{whom}: beside {beside} {who} would end later ({slowest:.1f} times as long each)"


def _use(load: Load) -> str:
    if load.sm is not None:
        return f" (uses {load.sm:.0%} of it)".replace("%", " %")
    return "" if load.slowdown is None else f" ({load.slowdown:.3g} times as long beside another)"
