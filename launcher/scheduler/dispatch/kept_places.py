"""On which pilot a place is kept for a job that fits on none: on one of them, as what is kept idles."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from launcher.scheduler.dispatch.placement import Candidate
from launcher.scheduler.policy.model import Decision, Wait
from launcher.states import Reason

CHOSEN_S = 300.0  # then all pilots are compared anew: another one may be free earlier by now


class KeptPlaces:
    """Knows over the turns of one scheduler where places are kept.

    Each pilot is decided about alone, and would keep a place for the first job that fits nowhere. So in the first
    turn each keeps one, and from the next one on only that where it is expected to be free first.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without places; the clock counts seconds."""
        self._clock = clock
        self._chosen: dict[int, tuple[str, float]] = {}  # job → token, since when
        self._kept: dict[
            int, dict[str, float]
        ] = {}  # in this turn: job → token → free from then on

    def begin(self) -> None:
        """Begin a turn: keep to what was chosen while that pilot keeps it still."""
        now = self._clock()
        chosen: dict[int, tuple[str, float]] = {}
        for job, kept in self._kept.items():
            token, since = self._chosen.get(job, ("", now))
            if now >= since + CHOSEN_S:
                continue
            if token not in kept:
                token, since = min(kept, key=lambda each: (kept[each], each)), now
            chosen[job] = token, since
        self._chosen, self._kept = chosen, {}

    def for_pilot(self, token: str, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Return jobs with the word for which of them a place is kept on another pilot."""
        return [
            each
            if self.may_keep(each.ready.id, token)
            else replace(each, seen=replace(each.seen, kept_elsewhere=True))
            for each in candidates
        ]

    def may_keep(self, job: int, token: str) -> bool:
        """Tell whether a pilot may keep a place for a job."""
        return self._chosen.get(job, (token, 0.0))[0] == token

    def note(self, token: str, decisions: Sequence[Decision | Reason]) -> None:
        """Take in where a pilot keeps a place."""
        for decision in decisions:
            if isinstance(decision, Wait) and decision.kept_until is not None:
                self._kept.setdefault(decision.job, {})[token] = decision.kept_until
