"""How long a job that waits for cores or memory of other homes is passed by ours behind it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from launcher.scheduler.model import Decision, Wait, Waiting

PASSED_S = 300.0  # so long jobs of ours behind it start, so that nothing idles for its sake
KEPT_S = 300.0  # so long what is ours is kept for it, once all of it is free: others may leave soon


@dataclass(slots=True)
class _Turn:
    since: float
    kept: bool = False


class Patience:
    """Which jobs have waited for others so long that ours behind them must not pass them now.

    Nobody can say when others leave. Were nothing kept, a large job would be passed for ever; were all kept until
    others leave, cores would idle for ever. So it goes by turns: first the others of ours pass, then they do not
    until all that runs and is in the way has ended and another KEPT_S have gone by, and so on. All times are
    monotonic seconds.
    """

    def __init__(self) -> None:
        """Begin with nobody."""
        self._turns: dict[int, _Turn] = {}

    def entered(self, waiting: Iterable[Waiting], now: float) -> list[Waiting]:
        """Return jobs with the word for which of them what is ours is kept now."""
        jobs = list(waiting)
        there = {one.job for one in jobs}
        self._turns = {job: turn for job, turn in self._turns.items() if job in there}
        return [replace(one, insists=True) if self._keeps(one.job, now) else one for one in jobs]

    def note(self, decisions: Iterable[Decision], now: float) -> None:
        """Take in who waits for others, and whether something of ours is in its way as well."""
        for one in decisions:
            if not isinstance(one, Wait) or not one.for_others:
                continue
            turn = self._turns.setdefault(one.job, _Turn(now))
            if turn.kept and one.behind_ours:
                turn.since = now  # it has not had what is ours yet

    def _keeps(self, job: int, now: float) -> bool:
        turn = self._turns.get(job)
        if turn is None:
            return False
        if now - turn.since >= (KEPT_S if turn.kept else PASSED_S):
            turn.since, turn.kept = now, not turn.kept
        return turn.kept
