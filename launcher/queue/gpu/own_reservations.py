"""Reservations of a scheduler for its jobs, and the part that other schedulers must count."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from launcher.queue.gpu.resources import ForeignReservation

LAG_S = 5.0  # more than the age of any measurement that a decision rests on
NOTABLE_BYTES = 256 << 20  # bytes: a change of the usage of a GPU by this much is published at once


class Reservation(NamedTuple):
    """Reservation of one resource for a job. A job has at most one per resource."""

    device: str  # the resource: a GPU's UUID for its memory, and see `resources`
    amount: int  # bytes, or how many
    used: int | None  # part of the amount that is seen in use; None: unknown, and all of it counts
    job: int


class PublishedReservation(NamedTuple):
    """The last publication of a reservation and its recent measurements."""

    amount: int
    # (time, bytes); a measurement equal to the one before is left out
    measurements: tuple[tuple[float, int], ...]

    def min_used_since(self, start_time: float) -> int:
        """Return the least that was in use from a time on, as far as it was measured."""
        first = max(
            (i for i, (at, _) in enumerate(self.measurements) if at <= start_time), default=0
        )
        return min(used for _, used in self.measurements[first:])


class ReservationTotals(NamedTuple):
    """Sums of reservations in a file."""

    entries: Mapping[tuple[int, str], PublishedReservation]  # by job and resource
    settled: Mapping[str, int]
    fresh: Mapping[str, int]
    measured: Mapping[str, tuple[tuple[float, int], ...]]  # see `Publication`


def compute_totals(
    reservations: Sequence[Reservation],
    published_reservations: Mapping[tuple[int, str], PublishedReservation],
    fresh: Collection[int],
    now: float,
) -> ReservationTotals:
    """Return the sums that others must count now.

    Args:
        reservations: All reservations of this scheduler.
        published_reservations: Their earlier publications.
        fresh: Jobs that are about to start. Their earlier publications do not count as fresh.
        now: The time.
    """
    entries: dict[tuple[int, str], PublishedReservation] = {}
    settled, new = Counter[str](), Counter[str]()
    # by resource: what counts, and its use
    sure: dict[str, list[tuple[int, PublishedReservation]]] = {}
    for reservation in reservations:
        key, device = (reservation.job, reservation.device), reservation.device
        earlier = published_reservations.get(key)
        entry = PublishedReservation(
            amount=reservation.amount, measurements=_recent_measurements(reservation, earlier, now)
        )
        announced = earlier.amount if earlier else 0
        amount = min(
            announced if reservation.job in fresh else reservation.amount, reservation.amount
        )
        least = entry.min_used_since(now - LAG_S)
        held = max(0, amount - least)
        settled[device] += held
        new[device] += max(0, reservation.amount - least) - held
        entries[key] = entry
        if reservation.used is not None:
            sure.setdefault(device, []).append((amount, entry))
        else:
            sure.setdefault(device, []).append(
                (held, PublishedReservation(amount=held, measurements=((now, 0),)))
            )
    measured = {
        device: steps
        for device, jobs in sure.items()
        if (steps := _unused_steps(jobs, now - LAG_S)) and steps[-1][1] < settled[device]
    }
    return ReservationTotals(entries=entries, settled=settled, fresh=new, measured=measured)


def sum_by_resource(reservations: Iterable[Reservation | ForeignReservation]) -> Counter[str]:
    """Return the sum of each resource, whether or not it is in use."""
    sums = Counter[str]()
    for reservation in reservations:
        sums[reservation.device] += reservation.amount
    return sums


def differ_notably(
    reservations: Sequence[Reservation], old_reservations: Sequence[Reservation]
) -> bool:
    """Whether the usage of a GPU by reservations differs notably from that of earlier ones."""
    now, then = _unused_bytes_by_gpu(reservations), _unused_bytes_by_gpu(old_reservations)
    return any(abs(now[key] - then[key]) >= NOTABLE_BYTES for key in now.keys() & then.keys())


def _unused_bytes_by_gpu(reservations: Sequence[Reservation]) -> Counter[str]:
    """Return the bytes per GPU that are reserved and not in use, if usage is measured."""
    pending = Counter[str]()
    for reservation in reservations:
        if reservation.used is not None:
            pending[reservation.device] += max(0, reservation.amount - reservation.used)
    return pending


def _unused_steps(
    jobs: Sequence[tuple[int, PublishedReservation]], start_time: float
) -> tuple[tuple[float, int], ...]:
    """Return (time of a measurement, amount that counts for readers with a later reading)."""
    times = sorted({at for _, entry in jobs for at, _ in entry.measurements if at > start_time})
    steps: list[tuple[float, int]] = []
    for at in times:
        held = sum(max(0, amount - entry.min_used_since(at)) for amount, entry in jobs)
        if not steps or steps[-1][1] != held:
            steps.append((at, held))
    return tuple(steps)


def _recent_measurements(
    reservation: Reservation, last_entry: PublishedReservation | None, now: float
) -> tuple[tuple[float, int], ...]:
    """Return what of a reservation was in use during the last LAG_S; nothing, as long as it is new."""
    uses = last_entry.measurements if last_entry else ((now, 0),)
    used = max(0, reservation.used or 0)
    if used != uses[-1][1]:
        uses = (*uses, (now, used))
    # an older measurement counts until something else was measured, LAG_S ago
    first = max((i for i, (at, _) in enumerate(uses) if at <= now - LAG_S), default=0)
    return uses[first:]
