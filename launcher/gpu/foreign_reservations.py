"""What the files of other schedulers tell: whose reservations count, their sums, and who waits."""

import contextlib
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from launcher.accounts import OWN_HOME, Colleague, Use
from launcher.gpu.publication import Publication
from launcher.gpu.resources import MEMORY, ForeignReservation, is_cores
from launcher.system.memory import Quotas
from launcher.system.processes import alive

STALE_S = 60.0  # a scheduler that was silent for so long is gone, or stands still


def counts(name: str, publication: Publication, now: float) -> bool:
    """Tell whether a file counts: its scheduler was heard of lately, or a job of it lives.

    Args:
        name: of the file.
        publication: what it tells.
        now: on the clock of `Publication.at`.
    """
    if abs(now - publication.at) <= STALE_S:
        return True
    return publication.at < now and _is_at_work(name, publication)


def _is_at_work(name: str, publication: Publication) -> bool:
    """Tell whether a process lives for whose job a file reserves, and is of the file's user."""
    uid = int(name.split(".")[1])
    for who in publication.heads:
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{who.pid}").st_uid == uid and alive(who):  # noqa: PTH116  # no Path for each
                return True
    return False


def sums_by_queue(
    publications: Mapping[str, Publication],
    looked_at: float | None,
    later: Collection[str],
    *,
    me: str,
    quotas: Quotas,
) -> tuple[ForeignReservation, ...]:
    """Return each queue's sum for each resource; queues that do not name their folder are summed by user.

    Args:
        publications: of others, by file.
        looked_at: when the GPUs were last looked at; None: unknown.
        later: the files of which what is fresh does not count.
        me: our user.
        quotas: what limits our cores and memory.
    """
    sums = Counter[tuple[str, str, bool, str]]()
    for name, publication in publications.items():
        user = f"{OWN_HOME}{me}" if publication.user == me else publication.user
        new = {} if name in later else publication.fresh
        for device in {*publication.settled, *new}:
            amount = publication.held(device, looked_at) + new.get(device, 0)
            inside = _is_inside(publication, device, quotas)
            sums[user, device, inside, publication.folder] += amount
    return tuple(
        ForeignReservation(user, device, amount, inside, folder)
        for (user, device, inside, folder), amount in sorted(sums.items())
        if amount
    )


def _is_inside(publication: Publication, device: str, quotas: Quotas) -> bool:
    """Tell whether a publisher's cores or memory come out of the same quota as ours.

    Of one that does not tell, as earlier versions, what the machine has is all that is known.
    """
    limit = quotas.memory if device == MEMORY else quotas.cores
    return bool(limit) and (device == MEMORY or is_cores(device)) and limit in publication.within


def use_of(user: str, publications: Iterable[Publication], now: float) -> Use:
    """Return what a user has used in all homes that have a file, those without a scheduler too."""
    uses = (_decayed(publication, now) for publication in publications if publication.user == user)
    return sum(uses, Use())


def colleagues_in(
    publications: Iterable[Publication], me: str, now: float, stale_s: float
) -> tuple[Colleague, ...]:
    """Return who waits.

    Args:
        publications: of all homes but ours.
        me: our user's name; another home of ours is told so that only what the two homes used matters.
        now: on the clock that all processes of the machine share.
        stale_s: who was silent for longer waits no more.
    """
    there = [*publications]
    ours = use_of(me, there, now)
    waiting = []
    for publication in there:
        wish = publication.wish
        if wish is None or abs(now - publication.at) > stale_s:
            continue
        own_home = publication.user == me
        if own_home:  # it is compared with our user's whole use, which is ours and this home's
            use = _decayed(publication, now) + ours
        else:
            use = use_of(publication.user, there, now)
        name = f"{OWN_HOME}{me}" if own_home else publication.user
        waited_s = max(0.0, now - wish.since)
        waiting.append(Colleague(user=name, waited_s=waited_s, wish=wish, use=use))
    return tuple(waiting)


def _decayed(publication: Publication, now: float) -> Use:
    """Return what the home of a file has used until now, as far as it tells."""
    return (publication.use or Use()).after(now - publication.at)
