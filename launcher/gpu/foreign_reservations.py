"""What the files of other schedulers tell: whose reservations count, their sums, and who waits."""

import contextlib
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from launcher.accounts import OWN_QUEUE_PREFIX, PeerScheduler, ResourceUsage
from launcher.gpu.publication import Publication
from launcher.gpu.resources import MEMORY, ForeignReservation, is_cores
from launcher.system.memory import ProcessGroups
from launcher.system.processes import is_alive

STALE_S = 60.0  # a scheduler that was silent for so long is gone, or stands still


def is_publication_current(name: str, publication: Publication, now: float) -> bool:
    """Tell whether a file counts: its scheduler was heard of lately, or a job of it lives.

    Args:
        name: of the file.
        publication: what it tells.
        now: on the clock of `Publication.at`.
    """
    if abs(now - publication.at) <= STALE_S:
        return True
    return publication.at < now and _has_living_process(name, publication)


def _has_living_process(name: str, publication: Publication) -> bool:
    """Tell whether a process lives for whose job a file reserves, and is of the file's user."""
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
    """Return each queue's sum for each resource; queues that do not name their folder are summed by user.

    Args:
        publications: of others, by file.
        sampled_at: when the GPUs were last looked at; None: unknown.
        ignore_fresh_of: the files of which what is fresh does not count.
        me: our user.
        quotas: what limits our cores and memory.
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
    """Tell whether a publisher's cores or memory come out of the same quota as ours.

    Of one that does not tell, as earlier versions, what the machine has is all that is known.
    """
    limit = quotas.memory_limit_group if device == MEMORY else quotas.cpu_limit_group
    return (
        bool(limit)
        and (device == MEMORY or is_cores(device))
        and limit in publication.control_groups
    )


def usage_of_user(user: str, publications: Iterable[Publication], now: float) -> ResourceUsage:
    """Return what a user has used in all homes that have a file, those without a scheduler too."""
    uses = (
        _decayed_usage(publication, now) for publication in publications if publication.user == user
    )
    return sum(uses, ResourceUsage())


def peers_in(
    publications: Iterable[Publication], me: str, now: float, stale_s: float
) -> tuple[PeerScheduler, ...]:
    """Return who waits.

    Args:
        publications: of all homes but ours.
        me: our user's name; another home of ours is told so that only what the two homes used matters.
        now: on the clock that all processes of the machine share.
        stale_s: who was silent for longer waits no more.
    """
    there = [*publications]
    ours = usage_of_user(me, there, now)
    waiting = []
    for publication in there:
        wish = publication.demand
        if wish is None or abs(now - publication.at) > stale_s:
            continue
        own_home = publication.user == me
        if own_home:  # it is compared with our user's whole use, which is ours and this home's
            use = _decayed_usage(publication, now) + ours
        else:
            use = usage_of_user(publication.user, there, now)
        name = f"{OWN_QUEUE_PREFIX}{me}" if own_home else publication.user
        waited_s = max(0.0, now - wish.since)
        waiting.append(PeerScheduler(user=name, waited_s=waited_s, demand=wish, usage=use))
    return tuple(waiting)


def _decayed_usage(publication: Publication, now: float) -> ResourceUsage:
    """Return what the home of a file has used until now, as far as it tells."""
    return (publication.usage or ResourceUsage()).decay(now - publication.at)
