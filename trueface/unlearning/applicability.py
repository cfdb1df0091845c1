"""Which method can work in which situation, checked before hours are spent: no torch here."""

from dataclasses import dataclass

from trueface.unlearning.registry import METHODS, Goal, Limit

TOO_NOISY = 0.4  # fraction of flipped labels above which confident learning no longer finds them


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """The goal of an unlearning, and the data and labels that it is given."""

    goal: Goal
    classes: int = 2
    rate: float | None = None  # fraction of the training labels that were flipped; None: unknown
    random: bool = True  # flips that follow from nothing in the image; False: a patch, one class
    known: float = 1.0  # fraction of the flipped labels that the method is given
    finding: bool = False  # the rest is looked for first
    retain: bool = True  # the rest of the training set may be read
    true: bool = True  # the true labels of the forget set are given

    @property
    def hidden(self) -> float:
        """The fraction of flipped labels in the retain set."""
        rate = self.rate or 0.0
        given = rate * self.known
        return (rate - given) / (1 - given) if given < 1 else 0.0


def refusal(method: str, situation: Situation, *, force: bool) -> str | None:
    """Return why a method is not applied, and what can be done about it; None if it is."""
    reason = unusable(method, situation)
    if reason is None:
        return None
    if _forget_set_is_empty(situation):  # no force gives it something to forget
        return reason
    return None if force else f"{reason} (force: true applies it all the same)"


def unusable(name: str, situation: Situation) -> str | None:
    """Return why a method cannot work in a situation, or is known not to; None if it may."""
    method = METHODS[name]
    if "retain set" in method.needs and not situation.retain:
        return f"{name} reads the images that are to be kept, and it was given none"
    if situation.goal not in method.goals:
        return f"{name} {method.other_goals}"
    if "true labels" in method.needs and not situation.true:
        return f"{name} needs the true labels of what is to be forgotten, and they are not known"
    reason = _impossible(situation)
    if reason is not None:
        return reason
    return next(
        (f"{name} {limit.reason}" for limit in method.limits if _in(limit, situation)), None
    )


def _impossible(situation: Situation) -> str | None:
    """Return why no method can work."""
    if situation.goal == "class" and situation.classes == 2:
        return (
            "of two classes one would be left: whatever the method, the model would give one answer "
            "to everything"
        )
    if situation.goal != "flips":
        return None
    if situation.finding and not situation.retain:
        return "flipped labels are looked for among the images that are kept, and these must not be read"
    if situation.finding and situation.hidden >= TOO_NOISY:
        return (
            f"{situation.hidden:.0%} of the labels that are not known to be flipped are flipped: "
            f"from about {TOO_NOISY:.0%} on no classifier can tell them from the true ones"
        )
    if _forget_set_is_empty(situation):
        return (
            "not one flipped label is known by name, so there is nothing to forget; of symmetric "
            "flips below 40 % the flipped ones can be found (find: true)"
        )
    return None


def _in(limit: Limit, situation: Situation) -> bool:
    return (
        situation.goal in limit.goals
        and (limit.classes is None or (limit.classes == "two") == (situation.classes == 2))
        and (situation.random or not limit.random_flips)
    )


def _forget_set_is_empty(situation: Situation) -> bool:
    return situation.goal == "flips" and situation.known == 0 and not situation.finding
