"""Which method can work in which situation, said before hours are spent: no torch here."""

from dataclasses import dataclass
from typing import Literal

from trueface.unlearning.registry import METHODS

Goal = Literal["flips", "class", "instances"]
TOO_NOISY = 0.4  # share of wrong labels above which confident learning finds them no more


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What shall be forgotten, and what is at hand for it."""

    goal: Goal
    classes: int = 2
    rate: float | None = None  # share of the training labels that were flipped, where known
    random: bool = True  # flips that follow from nothing in the image; False: a patch, one class
    known: float = 1.0  # share of the flipped ones that is known by name
    finding: bool = False  # the rest is looked for first
    retain: bool = True  # the rest of the training set may be read
    true: bool = True  # the right labels of the forget set are known

    @property
    def hidden(self) -> float:
        """The share of wrong labels among what is not known to be wrong."""
        rate = self.rate or 0.0
        known = rate * self.known
        return (rate - known) / (1 - known) if known < 1 else 0.0


def refusal(method: str, situation: Situation, *, force: bool) -> str | None:
    """Return why a method is not applied, and what can be done about it; None if it is."""
    reason = unfit(method, situation)
    if reason is None:
        return None
    if _unknown(situation):  # no force gives it something to forget
        return reason
    return None if force else f"{reason} (force: true applies it all the same)"


def unfit(method: str, situation: Situation) -> str | None:
    """Return why a method cannot work in a situation, or is known not to; None if it may."""
    facts = METHODS[method]
    flips = situation.goal == "flips"
    if facts.retain and not situation.retain:
        return f"{method} reads the images that are to be kept, and it was given none"
    if situation.goal not in facts.goals:
        return f"{method} {facts.otherwise}"
    if facts.true and not situation.true:
        return f"{method} needs the true labels of what is to be forgotten, and they are not known"
    if situation.goal == "class" and situation.classes == 2:
        return (
            "of two classes one would be left: whatever the method, the model would give one answer "
            "to everything"
        )
    if method == "lau" and flips and situation.classes > 2:
        return (
            "lau sends what is forgotten over the nearest border, which of wrong labels is seldom "
            "that of the right one; take relabel, or exact where the backbone is frozen"
        )
    if method == "lau" and situation.classes == 2:
        border = (
            "lau sends what is forgotten over the nearest border, and of two classes the other one "
            "is all that lies there: "
        )
        if flips:
            return (
                f"{border}of wrong labels it would only relabel the last layer; take relabel, or "
                "exact where the backbone is frozen"
            )
        return f"{border}it would turn answers round and forget nothing"
    if flips and situation.finding and not situation.retain:
        return (
            "wrong labels are looked for among the images that are kept, and these must not be read"
        )
    if flips and situation.finding and situation.hidden >= TOO_NOISY:
        return (
            f"{situation.hidden:.0%} of the labels that are not known to be wrong are wrong: "
            f"from about {TOO_NOISY:.0%} on they cannot be told from the right ones by any classifier"
        )
    if _unknown(situation):
        return (
            "not one wrong label is known by name, so there is nothing to forget; of symmetric "
            "flips below 40 % the wrong ones can be found (find: true)"
        )
    if flips and situation.random and method == "pgu":
        return (
            "pgu protects all directions in which kept images lie, and images whose labels were "
            "flipped at random lie in the same ones: hardly any of its step is left"
        )
    return None


def _unknown(situation: Situation) -> bool:
    """Tell whether nothing is known that could be forgotten."""
    return situation.goal == "flips" and situation.known == 0 and not situation.finding
