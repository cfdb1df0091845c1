"""The stop rules of projected gradient unlearning: which epoch is the result, and when to stop."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, assert_never

Rule = Literal["class", "instances", "depoison"]


FORGOTTEN = 0.005  # forget accuracy at which there is nothing left to do; ours, not the authors'


class Moment(NamedTuple):
    """What the rules look at after an epoch; the first one is the model as it came."""

    forget: float  # accuracy on the forget set against the labels that were trained
    validation: float


class Verdict(NamedTuple):
    """What follows from the moments so far."""

    chosen: int  # the moment whose model is the result if nothing better comes
    reason: str | None  # why it ends here; None: it goes on


def verdict(rule: Rule, moments: Sequence[Moment], before: int, most_loss: float) -> Verdict:
    """Return which model to keep and whether to go on.

    Args:
        rule: what is forgotten.
        moments: the model as it came, and each epoch's.
        before: what was chosen an epoch ago.
        most_loss: validation accuracy that may be lost.
    """
    start, now, epoch = moments[0], moments[-1], len(moments) - 1
    gone = now.forget <= FORGOTTEN
    fell = start.validation - now.validation > most_loss
    chosen = epoch
    match rule:
        case "instances":
            if now.validation > now.forget:
                last = moments[-2:]
                gaps = [abs(moment.validation - moment.forget) for moment in last]
                chosen = epoch if gaps[-1] <= gaps[0] else epoch - 1
                return Verdict(chosen, "the forgotten are answered no better than validation")
        case "class":
            if fell:
                return Verdict(before, f"validation lost more than {most_loss:.1%}")
        case "depoison":
            chosen = epoch if now.validation >= moments[before].validation else before
            if fell:
                return Verdict(chosen, f"validation lost more than {most_loss:.1%}")
        case _:
            assert_never(rule)
    return Verdict(chosen, "the forgotten are answered as trained no more" if gone else None)
