"""The conditions of a benchmark: how its images are corrupted, and how they are attacked.

A condition is a chain of corruptions (`none`, `jpeg50`, `jpeg50+blur1`) or an attack on clean images
(`pgd1`, `transfer2`): how corruptions and attacks add up is another question. Beside each attack stands
the control of random signs within its budget.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trueface.attacks.grammar import parse_attack
from trueface.corruptions.grammar import NONE

ACCESS = (NONE, "random", "transfer", "score", "full")  # what attackers know, less first


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
    def access(self) -> str:
        """What its attacker knows of the detector, one of `ACCESS`."""
        attack = parse_attack(self.attack)
        return NONE if attack is None else attack.spec.access

    @property
    def name(self) -> str:
        """Its name in tables and of its files: "none", "jpeg50+blur1", "attack-pgd1"."""
        return f"attack-{self.attack}" if self.is_attack else self.corrupt


CLEAN = Condition()


def conditions(corrupt: Sequence[str], attack: Sequence[str]) -> Iterator[Condition]:
    """Yield the conditions of a benchmark, each once: clean images first, attacks last.

    Clean images are always scored, as every other condition is compared with them; the control comes
    before its attack.

    Args:
        corrupt: chains of corruptions.
        attack: attacks, `none` among them or not.
    """
    named = [Condition(), *(Condition(corrupt=text) for text in corrupt)]
    for parsed in filter(None, map(parse_attack, attack)):
        named += [Condition(attack=str(parsed.control)), Condition(attack=str(parsed))]
    yield from dict.fromkeys(named)
