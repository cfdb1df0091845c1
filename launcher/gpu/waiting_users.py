"""Who waits and what each user has used, as the files of all schedulers of the machine tell."""

from collections.abc import Iterable

from launcher.gpu.colleague import OWN_HOME, Colleague, Use
from launcher.gpu.publication import Publication


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
        waiting.append(
            Colleague(
                user=f"{OWN_HOME}{me}" if own_home else publication.user,
                since=max(0.0, now - wish.since),
                usage=use.cards,
                core_usage=use.cores,
                ram_usage=use.memory,
                gpus=wish.gpus,
                vram=wish.vram,
                cpus=wish.cpus,
                ram=wish.ram,
                exclusive=wish.exclusive,
                lacks=wish.lacks,
                cards=wish.cards,
                count=wish.count,
            )
        )
    return tuple(waiting)


def _decayed(publication: Publication, now: float) -> Use:
    """Return what the home of a file has used until now, as far as it tells."""
    return (publication.use or Use()).after(now - publication.at)
