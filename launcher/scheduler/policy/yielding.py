"""What one decision leaves to colleagues: a place that they can take now, or one that they get when ours end."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from launcher.gpu.colleague import Colleague
from launcher.scheduler.policy import fair_share
from launcher.scheduler.policy.backfill import FirstJobReservation, reserve
from launcher.scheduler.policy.explanations import Lack
from launcher.scheduler.policy.gpu_need import Need
from launcher.scheduler.policy.gpu_slot import Card
from launcher.scheduler.policy.inventory import Inventory
from launcher.scheduler.policy.model import Running, Wait, Waiting
from launcher.states import ReasonCode


class Planner(Protocol):
    """What is asked of the decision that is being made."""

    @property
    def inventory(self) -> Inventory:
        """What is left of the machine."""

    def missing(
        self, request: Waiting, needs: Sequence[Need], cpus: int
    ) -> tuple[Need | None, Lack | None]:
        """Return which need can be met now, or what is missing."""


@dataclass(frozen=True, slots=True)
class _Room:
    colleague: Colleague
    place: Running  # counts as one of ours while it is decided


class Yielding:
    """The places that are left to colleagues while our jobs are decided."""

    def __init__(self, planner: Planner, now: float) -> None:
        """Give each colleague before whom we yield his place; `end` takes them back."""
        self._planner, self._now = planner, now
        self._rooms: list[_Room] = []
        self._later: list[tuple[Colleague, FirstJobReservation]] = []
        self._known: dict[tuple[object, ...], Lack | None] = {}
        machine = planner.inventory.machine
        for colleague in fair_share.in_turn(machine):
            self._leave_to(colleague, fair_share.request_of(colleague, machine))

    def _leave_to(self, colleague: Colleague, request: Waiting) -> None:
        inventory = self._planner.inventory
        never, needs = inventory.asks(request)
        if never:
            return
        cpus = min(request.resources.cpus, inventory.machine.cpus)
        need, lacks = self._planner.missing(request, needs, cpus)
        if lacks:
            later = reserve(inventory, request, needs, cpus, self._now)
            if later is not None:
                self._later.append((colleague, later))
        for _ in range(colleague.count):
            if lacks:
                return
            self._take_room(colleague, request, need, cpus)
            need, lacks = self._planner.missing(request, needs, cpus)

    def _take_room(
        self, colleague: Colleague, request: Waiting, need: Need | None, cpus: int
    ) -> None:
        inventory = self._planner.inventory
        cards = [] if need is None else [*islice(inventory.pool(need).places(need), need.count)]
        place = Running(
            job=-1,
            name=colleague.user,
            cpus=cpus,
            devices=tuple(card.gpu.uuid for card in cards),
            ram=request.resources.ram or 0,
            reservation=None if need is None else need.vram_request,
            exclusive=need is not None and need.exclusive,
        )
        inventory.give(place)
        self._rooms.append(_Room(colleague, place))

    def end(self) -> None:
        """Take back what was left: who starts there tells of it himself."""
        for room in self._rooms:
            self._planner.inventory.take_back(room.place)
        self._rooms.clear()

    def judge(
        self,
        request: Waiting,
        needs: Sequence[Need],
        need: Need | None,
        lacks: Lack | None,
        cpus: int,
    ) -> tuple[Lack | None, Wait | None]:
        """Return what a job lacks whatever is left to others, and whether it waits for their sake.

        Args:
            request: the job.
            needs: what it asks of GPUs.
            need: of these, what can be met now.
            lacks: what it lacks now.
            cpus: how many cores it gets.
        """
        if lacks and self._rooms:
            lacks = self._lacks_without_us(request, needs, cpus)
            return lacks, None if lacks else self._wait(request)
        delayed = None if lacks else self._delayed(request, need, cpus)
        return lacks, None if delayed is None else self._wait(request, delayed)

    def _lacks_without_us(self, request: Waiting, needs: Sequence[Need], cpus: int) -> Lack | None:
        """Return what a job would lack if nothing were left to others.

        That is found out once for jobs that are alike: when others of ours start it only becomes more.
        """
        key = (request.resources, request.vram_request, request.enough, request.visible)
        if key not in self._known:
            inventory = self._planner.inventory
            for room in self._rooms:
                inventory.take_back(room.place)
            _, self._known[key] = self._planner.missing(request, needs, cpus)
            for room in self._rooms:
                inventory.give(room.place)
        return self._known[key]

    def beside(
        self, places: Iterator[Card], request: Waiting, need: Need | None, cpus: int
    ) -> Iterator[Card]:
        """Give those GPUs on which a job puts off no colleague who gets a place when ours end."""
        kept = [later for _, later in self._in_the_way(request)]
        if any(cpus > later.cpus or (request.resources.ram or 0) > later.ram for later in kept):
            return iter(())
        return (card for card in places if all(later.leaves(card, need) for later in kept))

    def _delayed(self, request: Waiting, need: Need | None, cpus: int) -> Colleague | None:
        """Return whom a job delays that would have room, None where it delays nobody."""
        if not self._later:
            return None
        count = 0 if need is None else need.count
        pool = iter(()) if need is None else self._planner.inventory.pool(need).places(need)
        kept = self._in_the_way(request)
        lacks_cores = any(
            cpus > later.cpus or (request.resources.ram or 0) > later.ram for _, later in kept
        )
        free = [*islice(self.beside(pool, request, need, cpus), count)]
        return kept[0][0] if kept and (lacks_cores or len(free) < count) else None

    def take(self, request: Waiting, places: Sequence[Card], need: Need | None, cpus: int) -> None:
        """Know that a job starts beside those who get their places later."""
        for _, later in self._in_the_way(request):
            later.admit(request, places, need=need, cpus=cpus)

    def _in_the_way(self, request: Waiting) -> list[tuple[Colleague, FirstJobReservation]]:
        return [entry for entry in self._later if not entry[1].ends_before(request, self._now)]

    def _wait(self, request: Waiting, colleague: Colleague | None = None) -> Wait:
        """Return that a job leaves its place to a colleague; None: to who could take it now."""
        whose = self._rooms[0].colleague if colleague is None else colleague
        rooms = sum(room.colleague is whose for room in self._rooms) if colleague is None else 0
        return Wait(
            job=request.job,
            reason=fair_share.yields(whose, self._planner.inventory.machine),
            code=ReasonCode.YIELDS,
            data={"user": whose.user, "room": rooms},
        )
