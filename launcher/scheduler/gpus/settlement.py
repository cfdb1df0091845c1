"""What becomes of decisions when other users' schedulers have reserved something meanwhile."""

from collections import Counter
from collections.abc import Iterable

from launcher.gpu.resources import ForeignReservation
from launcher.scheduler.policy.model import Decision, Start, Wait
from launcher.states import ReasonCode


def promised(reservations: Iterable[ForeignReservation]) -> Counter[str]:
    """Return how much of each resource is reserved."""
    sums: Counter[str] = Counter()
    for reservation in reservations:
        sums[reservation.device] += reservation.amount
    return sums


def settled_decision(before: Decision, after: Decision) -> Decision:
    """Return a start that still holds now that others have reserved more, else why it waits."""
    if not isinstance(before, Start) or before == after:
        return before
    if isinstance(after, Start) and after.devices == before.devices:
        return before
    if isinstance(after, Wait):
        return after
    return Wait(
        job=before.job,
        reason="another launcher's scheduler was quicker; it is decided again",
        code=ReasonCode.OUTPACED,
    )
