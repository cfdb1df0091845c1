"""Evaluate the files of other schedulers: valid reservations, their sums, and waiting users."""

import contextlib
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from launcher.queue.gpu.publication import Publication
from launcher.queue.gpu.resources import MEMORY, ForeignReservation, is_cores
from launcher.queue.jobs.accounts import OWN_QUEUE_PREFIX, PeerScheduler, ResourceUsage
from launcher.system.memory import ProcessGroups
from launcher.system.processes import is_alive

STALE_S = 60.0  # older files do not count: their scheduler has exited or is suspended


def is_publication_current(name: str, publication: Publication, now: float) -> bool:
    """Return whether a file counts: its scheduler was active recently or one of its jobs lives.

    Args:
        name: Name of the file.
        publication: Content of the file.
        now: Time on the clock of `Publication.at`.
    """
    if abs(now - publication.at) <= STALE_S:
        return True
    return publication.at < now and _has_living_process(name, publication)


def _has_living_process(name: str, publication: Publication) -> bool:
    """Whether a process of the file's user that a reservation belongs to is alive."""
    uid = int(name.split(".")[1])
    for who in publication.supervisors:
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{who.pid}").st_uid == uid and is_alive(who):  # noqa: PTH116  # no Path for each
                return True
    return False


def sums_by_queue(
    publications: Mapping[str, Publication],
    sampled_at: float | None,
    ignore_fresh_of: Collection[str],
    *,
    me: str,
    quotas: ProcessGroups,
) -> tuple[ForeignReservation, ...]:
    """Return each queue's sum per resource. Queues that do not name their folder are summed by user.

    Args:
        publications: Files of other schedulers by name.
        sampled_at: Time of the last GPU reading, None if unknown.
        ignore_fresh_of: Files whose fresh reservations do not count.
        me: Our user.
        quotas: Limits of our cores and memory.
    """
    sums = Counter[tuple[str, str, bool, str]]()
    for name, publication in publications.items():
        user = f"{OWN_QUEUE_PREFIX}{me}" if publication.user == me else publication.user
        new = {} if name in ignore_fresh_of else publication.fresh
        for device in {*publication.settled, *new}:
            amount = publication.unused_amount(device, sampled_at) + new.get(device, 0)
            inside = _shares_quota(publication, device, quotas)
            sums[user, device, inside, publication.folder] += amount
    return tuple(
        ForeignReservation(user, device, amount, inside, folder)
        for (user, device, inside, folder), amount in sorted(sums.items())
        if amount
    )


def _shares_quota(publication: Publication, device: str, quotas: ProcessGroups) -> bool:
    """Whether a publisher's cores or memory belong to the same quota as ours."""
    limit = quotas.memory_limit_group if device == MEMORY else quotas.cpu_limit_group
    return (
        bool(limit)
        and (device == MEMORY or is_cores(device))
        and limit in publication.control_groups
    )


def usage_of_user(user: str, publications: Iterable[Publication], now: float) -> ResourceUsage:
    """Return the usage of a user in all queues with a file, including those without a scheduler."""
    uses = (
        _decayed_usage(publication, now) for publication in publications if publication.user == user
    )
    return sum(uses, ResourceUsage())


def waiting_peers(
    publications: Iterable[Publication], me: str, now: float, stale_s: float
) -> tuple[PeerScheduler, ...]:
    """Return the users with waiting jobs.

    Args:
        publications: Files of all queues except ours.
        me: Name of our user. Of our other queues only the usage matters.
        now: Time on the clock that all processes of the machine share.
        stale_s: Seconds after which a file without an update no longer counts as waiting.
    """
    there = [*publications]
    ours = usage_of_user(me, there, now)
    waiting = []
    for publication in there:
        wish = publication.demand
        if wish is None or abs(now - publication.at) > stale_s:
            continue
        own_home = publication.user == me
        # the usage of other homes of our user is compared with the total usage, which includes this queue
        if own_home:
            use = _decayed_usage(publication, now) + ours
        else:
            use = usage_of_user(publication.user, there, now)
        name = f"{OWN_QUEUE_PREFIX}{me}" if own_home else publication.user
        waited_s = max(0.0, now - wish.since)
        waiting.append(PeerScheduler(user=name, waited_s=waited_s, demand=wish, usage=use))
    return tuple(waiting)


def _decayed_usage(publication: Publication, now: float) -> ResourceUsage:
    """Return the usage of a file's queue, decayed until now, as far as it is reported."""
    return (publication.usage or ResourceUsage()).decay(now - publication.at)
