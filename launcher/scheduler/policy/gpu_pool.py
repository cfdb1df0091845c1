"""The GPUs that a job may have: whether there is room on them, which is the best place, why there is none."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby
from typing import Any

from launcher.gpu.snapshot import GpuSnapshot
from launcher.scheduler.policy.co_location import Load
from launcher.scheduler.policy.gpu_need import Need
from launcher.scheduler.policy.gpu_slot import Card, Turn, is_visible

NAMED = 3  # GPUs that a reason names; the others are counted


class Pool:
    """The GPUs among which jobs of the same `device` and visibility choose.

    They are kept in order while jobs come and go: the caller that gives a place on one, or takes it back,
    tells so with `changed`.
    """

    def __init__(self, cards: Iterable[Card], need: Need) -> None:
        """Choose the GPUs that fit a need by name, by its owner's choice, and as parts of a group."""
        named = [card for card in cards if _is_named(card.gpu, need.device)]
        if need.visible is not None:
            named = [card for card in named if is_visible(card.gpu, need.visible)]
        if (
            need.count > 1
        ):  # CUDA gives a process one instance of a divided card, and nothing beside
            named = [card for card in named if card.gpu.mig is None]
        self.cards = tuple(named)
        self.ours = [card for card in named if card.is_ours]  # as config.toml says
        sizes = [card.most_free for card in self.ours if card.most_free is not None]
        self._totals = sorted(sizes, reverse=True)
        self._unused = [card.unused for card in self.ours if card.unused is not None]
        self._without_ours = [card.without_ours for card in self.ours]
        # one that has failed and never reported its size gives no hope beside others that did
        silent = [card for card in self.ours if card.most_free is None]
        self._guessed = len([card for card in silent if not (card.gpu.fault and sizes)])
        self._place = {card.gpu.uuid: at for at, card in enumerate(self.cards)}
        self._best = _Ranking(_emptiness)
        self._roomy = _Ranking(_room_beside)
        # what of memory was refused to a load on so many GPUs, since one of ours ended last
        self._refused: dict[tuple[Load, int], int] = {}
        self._known: set[int] = set()  # where it is known what ours do to the GPU
        self._lonely = _Ranking(_room_alone)
        self._unshared = _Ranking(_room_unshared)
        self._named = _Ranking(_likelihood)
        self._opening: tuple[Need, _Ranking] | None = None
        self._reserve = self.cards[0].reserve if self.cards else 0
        for card in self.cards:
            self.changed(card)

    def changed(self, card: Card, *, freed: bool = True) -> None:
        """Put a GPU where it belongs now; `freed`: there may be more room than before."""
        at = self._place.get(card.gpu.uuid)
        if at is None:
            return
        for ranking in (self._best, self._roomy, self._lonely, self._unshared, self._named):
            ranking.put(at, card)
        if freed:
            self._refused.clear()
        if any(load.known for load in card.loads):
            self._known.add(at)
        else:
            self._known.discard(at)
        if self._opening is not None:
            self._opening[1].put(at, card)

    def has_room(self, need: Need) -> bool:
        """Tell whether as many GPUs as a job needs can take it now."""
        if not need.exclusive:
            return self._has_room_beside(need)
        frees = (self._unshared if need.excludes_others else self._lonely).entries
        if len(frees) < need.count:
            return False
        if need.vram_request is None:
            return True
        free: int = -frees[need.count - 1][0]
        return free + self._reserve >= _memory(need, self._reserve)

    def _has_room_beside(self, need: Need) -> bool:
        """Tell whether as many GPUs as a job needs can take it beside ours that run there, if any."""
        entries, request, count = self._roomy.entries, need.vram_request or 0, need.count
        if len(entries) < count or -entries[count - 1][0] < request:
            return False
        refused = self._refused.get((need.load, count))
        if refused is not None and request >= refused:
            return False  # a GPU that takes on more jobs becomes no better for it
        left = count
        for free, at in entries:
            if -free < request:
                break
            left -= self.cards[at].admits(need.load)
            if not left:
                return True
        self._refused[need.load, count] = request
        return False

    def places(self, need: Need) -> Iterator[Card]:
        """Give the GPUs that can take a job now, the best first.

        That is the emptiest, of those the smallest, of those the one with the most free memory; for a job
        whose memory use is unknown, the one with the most free memory.
        """
        ranking = self._lonely if need.vram_request is None else self._best
        able = (card for entry in ranking.entries if (card := self.cards[entry[-1]]).takes(need))
        paired = self._known or need.load.known
        yield from _best_paired(able, need.load) if paired else able

    def openings(self, need: Need) -> Iterator[tuple[Turn, Card]]:
        """Give the GPUs that can take a job when enough of ours have ended, and when: the first ones first."""
        if self._opening is None or self._opening[0] != need:
            ranking = _Ranking(partial(_opening, need))
            for at, card in enumerate(self.cards):
                ranking.put(at, card)
            self._opening = (need, ranking)
        for time, _, at in self._opening[1].entries:
            yield time, self.cards[at]

    def could(self, need: Need) -> bool:
        """Tell whether enough GPUs could take a job if they were unused."""
        return need.vram_request is None or self.large_enough(need) + self._guessed >= need.count

    def holds_unused(self, need: Need) -> bool:
        """Tell whether enough GPUs could take a job if nobody worked on them."""
        wanted = _memory(need, self._reserve)
        return sum(size >= wanted for size in self._unused) + self._guessed >= need.count

    def holds_without_ours(self, need: Need) -> bool:
        """Tell whether enough GPUs could take a job once ours have ended, and others who use much."""
        wanted = _memory(need, self._reserve)
        return sum(size >= wanted for size in self._without_ours) >= need.count

    def large_enough(self, need: Need) -> int:
        """Return how many GPUs are known to be able to take a job if they were unused."""
        return sum(total >= (need.vram_request or 0) for total in self._totals)

    @property
    def most_unused(self) -> int:
        """The most bytes that one of the GPUs leaves to a job when nobody works on it."""
        return max(self._unused, default=0) - self._reserve

    @property
    def largest(self) -> int:
        """The most bytes that a job could have on one of the GPUs; 0 where no size is known."""
        return max(self._totals, default=0)

    def refusals(self, need: Need) -> str:
        """Return why none of the GPUs can be had, in numbers; the likeliest are named."""
        first = sorted(entry[-1] for entry in self._named.entries[:NAMED])
        refusals = "; ".join(self.cards[at].refusal(need) for at in first)
        more = len(self.cards) - len(first)
        return f"{refusals}; and {more} more" if more else refusals


class _Ranking:
    """GPUs in order of a key; None keeps one out."""

    __slots__ = ("_key", "_own", "entries")

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


def _memory(need: Need, reserve: int) -> int:
    """Return how many bytes a need takes of a GPU, with what is kept for others where it leaves that."""
    return (need.vram_request or 0) + (0 if need.into_reserve else reserve)


def _emptiness(card: Card) -> tuple[float, ...] | None:
    if card.shut or card.exclusive_jobs:
        return None
    if card.most is not None and len(card.ours) >= card.most:
        return None
    return len(card.ours), card.gpu.total, -card.free


def _best_paired(cards: Iterable[Card], load: Load) -> Iterator[Card]:
    """Give GPUs in their order; of those with as many of our jobs, where most is gained first."""
    for count, group in groupby(cards, lambda card: len(card.ours)):
        if count:
            yield from sorted(group, key=lambda card: card.gain(load), reverse=True)
        else:
            yield from group


def _room_beside(card: Card) -> tuple[float, ...] | None:
    return None if _emptiness(card) is None else (-card.free,)


def _room_alone(card: Card) -> tuple[float, ...] | None:
    return None if card.shut or card.ours or not card.quiet else (-card.free,)


def _room_unshared(card: Card) -> tuple[float, ...] | None:
    return None if card.guests else _room_alone(card)


def _likelihood(card: Card) -> tuple[float, ...]:
    return bool(card.shut), -card.free


def _opening(need: Need, card: Card) -> tuple[Any, ...] | None:
    at = card.opens(need)
    return None if at is None else (at, -card.free)


def _is_named(gpu: GpuSnapshot, device: str) -> bool:
    if device in {"auto", "cuda"}:
        return True
    return device in {gpu.label, f"cuda:{gpu.index}", gpu.uuid}
