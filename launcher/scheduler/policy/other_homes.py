"""What other homes of the machine leave us of its cores and of its main memory."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from launcher.gpu.resources import MEMORY, ForeignReservation, shares_cores
from launcher.scheduler.policy.model import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What other homes leave us of cores or main memory, and what of theirs is in our way."""

    there: int  # of which theirs are a part: our quota, or what the machine has
    ours: int
    theirs: Counter[str]  # user → how much

    @property
    def promised(self) -> int:
        """How much others have in all."""
        return sum(self.theirs.values())


def _share(quota: int, there: int, promises: Iterable[ForeignReservation]) -> Shared:
    """Return what is left: what all reserve counts against the machine, and against a quota what shares it."""
    by_user, inside = Counter[str](), Counter[str]()
    for promise in promises:
        by_user[promise.user] += promise.amount
        if promise.inside:
            inside[promise.user] += promise.amount
    of_quota = Shared(there=quota, ours=quota - sum(inside.values()), theirs=inside)
    of_machine = Shared(there=there, ours=there - sum(by_user.values()), theirs=by_user)
    return min(of_machine, of_quota, key=lambda shared: shared.ours)


def shared(machine: Machine) -> tuple[Shared, Shared]:
    """Return what is shared with other homes of the cores, and of main memory."""
    cores_of = [item for item in machine.foreign if shares_cores(item.device, machine.cores)]
    memory = [item for item in machine.foreign if item.device == MEMORY]
    return (
        _share(machine.cpus, machine.cores_there, cores_of),
        _share(machine.ram, machine.memory_there, memory),
    )
