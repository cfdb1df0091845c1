"""The place that is kept for the first waiting job: what is left beside it, and for how long it is kept."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import islice
from math import inf

from launcher.scheduler.policy.co_location import UNKNOWN_LOAD, Load, admits
from launcher.scheduler.policy.gpu_need import Need
from launcher.scheduler.policy.gpu_slot import Beside, Card, Turn
from launcher.scheduler.policy.model import Decision, Wait, Waiting
from launcher.units import format_seconds

PASSED_S = 300.0  # so long jobs of ours behind it start, so that nothing idles for its sake
SHOWN_S = 60.0  # a place that slips by less is not worth a word
KEPT_S = 300.0  # so long what is ours is kept for it, once all of it is free: others may leave soon


@dataclass(slots=True, kw_only=True)
class FirstJobReservation:
    """When and where the first waiting job starts; what is left beside it then shrinks as others come."""

    job: str  # its number, or its name
    group: str
    at: Turn
    slip: float = (
        0.0  # later jobs may be expected to end so many seconds after that; -inf: no guess counts
    )
    where: str  # in words
    cpus: int  # that are left at that time
    ram: int  # likewise, bytes
    beside: dict[str, Beside]  # UUID → what is left on its GPUs
    load: Load = UNKNOWN_LOAD  # what it does to them
    placeless: set[Need | None] = field(default_factory=set)  # needs for which nothing is left

    def when(self, now: float) -> str:
        """Return in words when there is room, with a space before them; '' where that is unknown."""
        if self.at[0] == inf:
            return ""
        wait_s = round(self.at[0] - now)
        # who runs there should have ended by now
        when = f" in about {format_seconds(wait_s)}" if wait_s > 0 else " at any moment"
        if self.slip < SHOWN_S:
            return when
        return f"{when}, at most {format_seconds(round(self.slip))} later as durations are guesses"

    def told(self, now: float) -> str:
        """Return whom a job would delay, in words."""
        return f"job {self.job}, which is first and gets {self.where}{self.when(now)}"

    def ends_before(self, job: Waiting, now: float) -> bool:
        """Tell whether a job that starts now is known to have ended at a time that is known itself."""
        firm = self.slip == -inf  # then only a time limit is known
        seconds = job.forecast.limit if firm else job.seconds
        if seconds is None or self.at[0] == inf:
            return False
        return now + seconds <= max(now, self.at[0]) + (0.0 if firm else self.slip)

    def admit(
        self, job: Waiting, open_cards: Iterable[Card], *, need: Need | None, cpus: int
    ) -> list[Card] | None:
        """Return on which GPUs a job may start beside the first one, and give them to it; None: nowhere.

        Args:
            job: it may run on when the first one starts.
            open_cards: GPUs that can take it now, the best first.
            need: what it asks of them.
            cpus: how many cores.
        """
        ram = job.resources.ram or 0
        if cpus > self.cpus or ram > self.ram or need in self.placeless:
            return None
        count = 0 if need is None else need.count
        free = [*islice((card for card in open_cards if self.leaves(card, need)), count)]
        if len(free) < count:
            self.placeless.add(need)  # what is left only becomes less
            return None
        self.cpus -= cpus
        self.ram -= ram
        for card in free:
            if card.gpu.uuid in self.beside:
                room, slots, loads = self.beside[card.gpu.uuid]
                taken = 0 if need is None else need.vram_request or 0
                load = UNKNOWN_LOAD if need is None else need.load
                self.beside[card.gpu.uuid] = (room - taken, slots - 1, (*loads, load))
        return free

    def leaves(self, card: Card, need: Need | None) -> bool:
        """Tell whether a job on a GPU leaves the first one's place there as it is."""
        if need is None or card.gpu.uuid not in self.beside:
            return True
        room, slots, loads = self.beside[card.gpu.uuid]
        if need.exclusive or (need.vram_request or 0) > room or slots <= 0:
            return False
        return admits(self.load, (*loads, need.load), card.most)


@dataclass(slots=True)
class _Phase:
    since: float
    kept: bool = False


class Patience:
    """Which jobs have waited for others so long that ours behind them must not pass them now.

    It is unknown when others leave. Were nothing kept, a large job would be passed for ever; were all kept until
    others leave, cores would idle for ever. So it goes by turns: first the others of ours pass, then they do not
    until all that runs and is in the way has ended and another KEPT_S have gone by, and so on. All times are
    monotonic seconds.
    """

    def __init__(self) -> None:
        """Begin without jobs."""
        self._turns: dict[int, _Phase] = {}

    def entered(self, waiting: Iterable[Waiting], now: float) -> list[Waiting]:
        """Return jobs with the word for which of them what is ours is kept now."""
        jobs = list(waiting)
        there = {job.job for job in jobs}
        self._turns = {job: turn for job, turn in self._turns.items() if job in there}
        return [replace(job, insists=True) if self._keeps(job.job, now) else job for job in jobs]

    def note(self, decisions: Iterable[Decision], now: float) -> None:
        """Take in who waits for others, and whether something of ours is in its way as well."""
        for decision in decisions:
            if not isinstance(decision, Wait) or not decision.for_others:
                continue
            turn = self._turns.setdefault(decision.job, _Phase(now))
            if turn.kept and decision.behind_ours:
                turn.since = now  # it has not had what is ours yet

    def _keeps(self, job: int, now: float) -> bool:
        turn = self._turns.get(job)
        if turn is None:
            return False
        if now - turn.since >= (KEPT_S if turn.kept else PASSED_S):
            turn.since, turn.kept = now, not turn.kept
        return turn.kept
