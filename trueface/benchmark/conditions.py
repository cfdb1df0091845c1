"""The conditions of a benchmark: how its images are corrupted, and how they are attacked.

A condition is a chain of corruptions (`none`, `jpeg50`, `jpeg50+blur1`) and an attack on what comes
out of it (`none`, `random2`, `fgsm1`, `pgd1`, `transfer2`, `square2`). An attack is scored on clean
images only: how corruptions and attacks add up is another question.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from trueface.corruptions.grammar import NONE

_ATTACK = re.compile(r"(?P<name>[a-z]+)(?P<budget>[0-9]+(?:\.[0-9]+)?)?")


class Access(StrEnum):
    """What an attacker knows of the detector."""

    NONE = "none"  # no attack
    RANDOM = "random"  # the budget alone: the control beside every attack
    TRANSFER = "transfer"  # another detector in its place
    SCORE = "score"  # its logits
    FULL = "full"  # its weights


_ACCESS = {
    NONE: Access.NONE,
    "random": Access.RANDOM,
    "transfer": Access.TRANSFER,
    "square": Access.SCORE,
    "fgsm": Access.FULL,
    "pgd": Access.FULL,
}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Condition:
    """One cell of a benchmark, of one model and one set of images."""

    corrupt: str = NONE
    attack: str = NONE

    @property
    def is_clean(self) -> bool:
        """Whether the images are scored as they are."""
        return self.corrupt == NONE and self.attack == NONE

    @property
    def is_attack(self) -> bool:
        """Whether the images are attacked."""
        return self.attack != NONE

    @property
    def access(self) -> Access:
        """What its attacker knows."""
        return access_of(self.attack)

    @property
    def name(self) -> str:
        """Its name in tables and of its files: "none", "jpeg50+blur1", "attack-pgd1"."""
        return f"attack-{self.attack}" if self.is_attack else self.corrupt


CLEAN = Condition()


def access_of(attack: str) -> Access:
    """Return what an attack needs to know of its target; one that no table has needs all."""
    match = _ATTACK.fullmatch(attack)
    return _ACCESS.get(match["name"] if match else attack, Access.FULL)


def conditions(corrupt: Sequence[str], attack: Sequence[str]) -> Iterator[Condition]:
    """Yield the conditions of a benchmark, each once: clean images first, attacks last.

    Clean images are always scored: every other condition is compared with them.
    """
    named = [Condition(), *(Condition(corrupt=text) for text in corrupt)]
    named += [Condition(attack=text) for text in attack]
    yield from dict.fromkeys(named)
