"""The messages that wait to be sent: which are due, what a failed try means, what quiet hours make of them."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from launcher.notify.messages import digest
from launcher.notify.settings import NotifySettings, Quiet
from launcher.notify.state import MOST_GIVEN_UP, Delivery, GivenUp, Notices

PAUSE_S = 10.0  # after a failed try; doubles each time
LONGEST_PAUSE_S = 1800.0
LEAST_TRIES = 5  # before a message is given up, whatever the clock says
MOST_SINGLE = 5  # messages to a target that are sent as such; more at once become one
MOST_HELD = 50  # likewise while quiet hours last
MOST = 200  # messages that wait; of more, which were tried all, the oldest are given up


def is_quiet(quiet: Quiet | None, now: float) -> bool:
    """Tell whether a moment lies in the quiet hours of the local day."""
    if quiet is None:
        return False
    return quiet.holds(datetime.fromtimestamp(now).astimezone().time())


def posted(notices: Notices, deliveries: Iterable[Delivery], now: float) -> Notices:
    """Return the notices with further messages in the outbox."""
    every = (*notices.outbox, *deliveries)
    dropped = every[: max(0, len(every) - MOST)]
    notices = replace(notices, outbox=every[len(dropped) :])
    for delivery in dropped:
        notices = _given_up(notices, delivery, f"more than {MOST} messages wait", now)
    return notices


def gathered(notices: Notices, under_way: Collection[str], now: float, *, quiet: bool) -> Notices:
    """Return the notices with one message in place of several to the same target.

    That are those of its quiet hours, and so many at once that nobody would read each.

    Args:
        notices: hold the outbox.
        under_way: IDs of messages that are being sent.
        now: seconds since 1970.
        quiet: these are quiet hours, in which all of them wait.
    """
    waiting: dict[str, list[Delivery]] = {}
    for delivery in notices.outbox:
        if not delivery.tries and delivery.id not in under_way:
            waiting.setdefault(delivery.target, []).append(delivery)
    outbox = {delivery.id: delivery for delivery in notices.outbox}
    for deliveries in waiting.values():
        together = _together(deliveries, quiet=quiet)
        if not together:
            continue
        for delivery in together:
            del outbox[delivery.id]
        merged = together[0] if len(together) == 1 else digest(together, now)
        outbox[merged.id] = replace(merged, quiet=quiet)
    return replace(notices, outbox=tuple(outbox.values()))


def _together(deliveries: Sequence[Delivery], *, quiet: bool) -> list[Delivery]:
    """Return which of the messages that wait for a target become one."""
    if len(deliveries) > (MOST_HELD if quiet else MOST_SINGLE):
        return [*deliveries]
    return [] if quiet else [delivery for delivery in deliveries if delivery.quiet]


def due(notices: Notices, busy: Collection[str], now: float) -> list[Delivery]:
    """Return what is to be sent now: the oldest message of each target that is due.

    Args:
        notices: hold the outbox.
        busy: names of targets to which a message is under way.
        now: seconds since 1970.
    """
    first: dict[str, Delivery] = {}
    for delivery in notices.outbox:
        if delivery.target not in busy and _is_due(delivery, now):
            first.setdefault(delivery.target, delivery)
    return list(first.values())


def _is_due(delivery: Delivery, now: float) -> bool:
    # a longer wait than the longest pause tells that the clock was set back
    return not now < delivery.next <= now + LONGEST_PAUSE_S


def next_due_s(notices: Notices, now: float) -> float:
    """Return how long it is until a message may be due."""
    return min(
        (max(0.0, delivery.next - now) for delivery in notices.outbox), default=LONGEST_PAUSE_S
    )


def sent(notices: Notices, id_: str) -> Notices:
    """Return the notices without a message that was sent."""
    outbox = tuple(delivery for delivery in notices.outbox if delivery.id != id_)
    return replace(notices, outbox=outbox)


def failed(notices: Notices, id_: str, why: str, settings: NotifySettings, now: float) -> Notices:
    """Return the notices after a try that came to nothing: the message is tried again, or given up."""
    delivery = next((each for each in notices.outbox if each.id == id_), None)
    if delivery is None:
        return notices
    tries, first = delivery.tries + 1, now if delivery.tried is None else delivery.tried
    if tries >= LEAST_TRIES and not first <= now < first + settings.retry_s:
        return _given_up(sent(notices, id_), delivery, why, now)
    pause_s = min(PAUSE_S * 2 ** min(delivery.tries, 20), LONGEST_PAUSE_S)
    again = replace(delivery, tries=tries, tried=first, next=now + pause_s, answer=why)
    outbox = tuple(again if each.id == id_ else each for each in notices.outbox)
    return replace(notices, outbox=outbox)


def without_target(notices: Notices, targets: Collection[str], now: float) -> Notices:
    """Return the notices without messages to targets that the configuration has no more."""
    for delivery in notices.outbox:
        if delivery.target not in targets:
            why = "config.toml has no such target any more"
            notices = _given_up(sent(notices, delivery.id), delivery, why, now)
    return notices


def _given_up(notices: Notices, delivery: Delivery, why: str, now: float) -> Notices:
    given_up = GivenUp(at=now, target=delivery.target, title=delivery.title, why=why)
    return replace(notices, given_up=(*notices.given_up, given_up)[-MOST_GIVEN_UP:])
