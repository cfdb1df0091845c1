"""What is reserved of a machine for one job, as the schedulers of other homes read it."""

from collections.abc import Mapping
from types import MappingProxyType

from launcher.gpu.counted_use import Reservation
from launcher.gpu.resources import ALONE, JOBS, MEMORY, core_resource, resource
from launcher.job import Resources
from launcher.scheduler.policy.model import Start

NOTHING: Mapping[str, int] = MappingProxyType({})


def reservations_of(
    place: Start,
    asked: Resources,
    *,
    totals: Mapping[str, int],
    used: Mapping[str, int] = NOTHING,
    mask: int = -1,
) -> list[Reservation]:
    """Return what is reserved for a job, as others read it.

    A reservation of unknown size is a quarter of the card: all of it would keep others away for days from one of
    which the job takes little, and what it has taken is seen by every home anyhow. An exclusive one
    is the whole card, which keeps away those launchers, too, that know nothing of such jobs.

    Args:
        place: what the job has, or is to have.
        asked: what it asks of the machine.
        totals: the memory of each GPU.
        used: what the job is seen to use of it.
        mask: of the cores that it may be given.
    """
    job = place.job
    reservations = [Reservation(device=core_resource(mask), amount=place.cpus, used=None, job=job)]
    if asked.ram:
        reservations.append(Reservation(device=MEMORY, amount=asked.ram, used=None, job=job))
    for uuid in place.devices:
        total = totals.get(uuid, 0)
        size = total // 4 if place.reservation is None else place.reservation
        if asked.exclusive:
            size = max(total, size)
            reservations.append(
                Reservation(device=resource(ALONE, uuid), amount=1, used=None, job=job)
            )
        reservations.append(Reservation(device=uuid, amount=size, used=used.get(uuid), job=job))
        reservations.append(Reservation(device=resource(JOBS, uuid), amount=1, used=None, job=job))
    return reservations
