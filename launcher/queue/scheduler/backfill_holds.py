"""On which pilot of several a place is kept for a job that fits on none, over the turns of one scheduler."""

import time
from collections.abc import Callable, Iterable, Sequence

from launcher.queue.jobs.states import Reason
from launcher.queue.scheduler.node import Candidate
from launcher.queue.scheduler.policy.model import Decision, Wait

RECONSIDER_S = (
    300.0  # seconds until all pilots are compared again: another pilot may be free earlier by now
)


class BackfillHolds:
    """Knows over the turns of one scheduler where places are kept.

    Each pilot is decided about alone, and would keep a place for the first job that fits nowhere. So in the first
    turn each keeps one, and from the next one on only that where it is expected to be free first.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without places; the clock counts seconds."""
        self._clock = clock
        self._chosen: dict[int, tuple[str, float]] = {}  # job → token, since when
        # in this turn: job → token → free from then on
        self._held_until: dict[int, dict[str, float]] = {}

    def begin_cycle(self) -> None:
        """Begin a turn: keep to what was chosen while that pilot keeps it still."""
        now = self._clock()
        chosen: dict[int, tuple[str, float]] = {}
        for job, kept in self._held_until.items():
            token, since = self._chosen.get(job, ("", now))
            if now >= since + RECONSIDER_S:
                continue
            if token not in kept:
                token, since = min(kept, key=lambda each: (kept[each], each)), now
            chosen[job] = token, since
        self._chosen, self._held_until = chosen, {}

    def mark_held_elsewhere(self, token: str, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Return jobs with the word for which of them a place is kept on another pilot."""
        return [
            each
            if self.may_hold(each.ready.id, token)
            else each._replace(waiting=each.waiting._replace(reserved_elsewhere=True))
            for each in candidates
        ]

    def may_hold(self, job: int, token: str) -> bool:
        """Whether a pilot may hold the reservation of a job."""
        return self._chosen.get(job, (token, 0.0))[0] == token

    def record_decisions(self, token: str, decisions: Sequence[Decision | Reason]) -> None:
        """Take in where a pilot keeps a place."""
        for decision in decisions:
            if isinstance(decision, Wait) and decision.reserved_from is not None:
                self._held_until.setdefault(decision.job, {})[token] = decision.reserved_from
