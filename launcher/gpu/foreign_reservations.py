"""What the files of other schedulers reserve: which of them count, and the sum of each user for each resource."""

import contextlib
import os
from collections import Counter
from collections.abc import Collection, Mapping

from launcher.gpu.colleague import OWN_HOME
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


def sums_by_user(
    publications: Mapping[str, Publication],
    looked_at: float | None,
    later: Collection[str],
    *,
    me: str,
    quotas: Quotas,
) -> tuple[ForeignReservation, ...]:
    """Return each user's sum for each resource.

    Args:
        publications: of others, by file.
        looked_at: when the GPUs were last looked at; None: unknown.
        later: the files of which what is fresh does not count.
        me: our user.
        quotas: what limits our cores and memory.
    """
    sums = Counter[tuple[str, str, bool]]()
    for name, publication in publications.items():
        user = f"{OWN_HOME}{me}" if publication.user == me else publication.user
        new = {} if name in later else publication.fresh
        for device in {*publication.settled, *new}:
            amount = publication.held(device, looked_at) + new.get(device, 0)
            sums[user, device, _is_inside(publication, device, quotas)] += amount
    return tuple(
        ForeignReservation(user=user, device=device, amount=amount, inside=inside)
        for (user, device, inside), amount in sorted(sums.items())
        if amount
    )


def _is_inside(publication: Publication, device: str, quotas: Quotas) -> bool:
    """Tell whether a publisher's cores or memory come out of the same quota as ours.

    Of one that does not tell, as earlier versions, what the machine has is all that is known.
    """
    limit = quotas.memory if device == MEMORY else quotas.cores
    return bool(limit) and (device == MEMORY or is_cores(device)) and limit in publication.within
