"""How fast jobs run that share cards, and when each one ends."""

from collections.abc import Sequence
from heapq import heappop, heappush


class Pace:
    """What runs on which card, how much of it is left, and how fast that becomes less.

    Of `n` jobs on a card each takes `slowdown ** (n - 1)` times as long as alone; a job on several
    cards runs at the pace of the most crowded one. Whenever neighbours come or go, what is left
    is worked out anew.
    """

    def __init__(self, cards: int, slowdown: float) -> None:
        """Begin with empty cards."""
        self._slowdown = slowdown
        self._on: list[list[int]] = [[] for _ in range(cards)]
        self._cards: dict[int, Sequence[int]] = {}
        self._left: dict[int, float] = {}  # seconds of work at the time below
        self._since: dict[int, float] = {}
        self._factor: dict[int, float] = {}
        self._ends: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []  # older ends of a job stay in it until they come

    def start(self, job: int, seconds: float, cards: Sequence[int], now: float) -> None:
        """Put a job on cards; it would take `seconds` alone."""
        self._cards[job] = cards
        self._left[job], self._since[job] = seconds, now
        self._factor[job] = 0.0
        touched = {job: None}  # in order: a set's may differ from run to run
        for card in cards:
            on = self._on[card]
            touched.update(dict.fromkeys(on))
            on.append(job)
        for neighbour in touched:
            self._settle(neighbour, now)

    def next_end(self) -> float:
        """Return when the next job ends if no other starts, infinity when none runs."""
        while self._heap and self._ends.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else float("inf")

    def end(self) -> int:
        """Take away the job that ends next, and return it."""
        now = self.next_end()
        _, job = heappop(self._heap)
        touched: dict[int, None] = {}
        for card in self._cards.pop(job):
            on = self._on[card]
            on.remove(job)
            touched.update(dict.fromkeys(on))
        for of in (self._left, self._since, self._factor, self._ends):
            del of[job]
        for neighbour in touched:
            self._settle(neighbour, now)
        return job

    def _settle(self, job: int, now: float) -> None:
        """Work out a job's pace and its end, unless its neighbours are as many as before."""
        on = self._on
        sharing = max([len(on[card]) for card in self._cards[job]], default=1)
        factor = self._slowdown ** (sharing - 1)
        before = self._factor[job]
        if factor == before:
            return
        if before:
            self._left[job] = max(0.0, self._left[job] - (now - self._since[job]) / before)
        self._since[job], self._factor[job] = now, factor
        self._ends[job] = end = now + self._left[job] * factor
        heappush(self._heap, (end, job))
