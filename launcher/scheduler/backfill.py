"""The place that is kept for the first waiting job, and what is left beside it for those behind it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from math import inf

from launcher.scheduler.gpu_slot import Card, Need, Turn
from launcher.scheduler.model import Waiting
from launcher.units import format_seconds


@dataclass(slots=True, kw_only=True)
class Reservation:
    """When and where the first waiting job starts; what is left beside it then shrinks as others come."""

    job: str  # its number, or its name
    group: str
    at: Turn
    where: str  # in words
    cpus: int  # that are left at that time
    ram: int  # likewise, bytes
    beside: dict[str, tuple[int, int]]  # UUID → (bytes, jobs of ours) that are left on its GPUs
    placeless: set[Need | None] = field(default_factory=set)  # needs for which nothing is left

    def when(self, now: float) -> str:
        """Return in words when there is room, with a space before them; '' where nobody knows."""
        if self.at[0] == inf:
            return ""
        wait_s = round(self.at[0] - now)
        # who runs there should have ended by now
        return f" in about {format_seconds(wait_s)}" if wait_s > 0 else " at any moment"

    def told(self, now: float) -> str:
        """Return whom a job would delay, in words."""
        return f"job {self.job}, which is first and gets {self.where}{self.when(now)}"

    def ends_before(self, one: Waiting, now: float) -> bool:
        """Tell whether a job that starts now is known to have ended at a time that is known itself."""
        return one.seconds is not None and now + one.seconds <= self.at[0] < inf

    def admit(
        self, one: Waiting, open_ones: Iterable[Card], *, need: Need | None, cpus: int
    ) -> list[Card] | None:
        """Return on which GPUs a job may start beside the first one, and give them to it; None: nowhere.

        Args:
            one: the job; it may run on when the first one starts.
            open_ones: GPUs that can take it now, the best first.
            need: what it asks of them.
            cpus: how many cores.
        """
        ram = one.resources.ram or 0
        if cpus > self.cpus or ram > self.ram or need in self.placeless:
            return None
        count = 0 if need is None else need.count
        free = [*islice((card for card in open_ones if self._leaves(card, need)), count)]
        if len(free) < count:
            self.placeless.add(need)  # what is left only becomes less
            return None
        self.cpus -= cpus
        self.ram -= ram
        for card in free:
            if card.gpu.uuid in self.beside:
                room, slots = self.beside[card.gpu.uuid]
                taken = 0 if need is None else need.claim or 0
                self.beside[card.gpu.uuid] = (room - taken, slots - 1)
        return free

    def _leaves(self, card: Card, need: Need | None) -> bool:
        """Tell whether a job on a GPU leaves the first one's place there as it is."""
        if need is None or card.gpu.uuid not in self.beside:
            return True
        room, slots = self.beside[card.gpu.uuid]
        return not need.lone and (need.claim or 0) <= room and slots > 0
