"""`pgd2`: an attack and its budget, as they are written. No torch here.

The budget is how far any channel of any pixel may move, in grey levels of 0 … 255. Attacked images
are saved in whole levels, so a budget is a whole number.

What `@register_attack` says in the files of `kinds` is read from their text; a file is imported
when an image is attacked.
"""

import re
from dataclasses import KW_ONLY, dataclass
from typing import Literal, get_args

from trueface.runtime.declarations import Declared, Registry
from trueface.runtime.errors import UnknownName

PACKAGE = "trueface.attacks.kinds"
CONTROL = "random"  # the kind that knows nothing, with which every other is compared

# knowledge of the detector: nothing; another one of its family; its logits; its weights
Access = Literal["random", "transfer", "score", "full"]
NONE = "none"
MOST_BUDGET = 16  # grey levels; beyond it anybody sees the change
# numbers that are not whole are refused later
_ATTACK = re.compile(r"([a-z]+)(-?[0-9]+(?:\.[0-9]+)?)?")
_NAME = re.compile(r"[A-Za-z_]+")


@dataclass(frozen=True, slots=True)
class AttackSpec(Declared):
    """Declares a kind of attack, without its code; the function below it changes images, see `perturb.AttackFunction`.

    Raises:
        ValueError: a name that the grammar cannot hold, or an access that there is not.
    """

    name: str  # lower-case letters, which stand before the budget
    _: KW_ONLY
    summary: str  # a few words for lists
    access: Access  # its knowledge of the detector. Of `transfer` the function gets the surrogate

    def __post_init__(self) -> None:
        name = self.name
        if not (name.isascii() and name.isalpha() and name.islower()) or name == "none":
            raise ValueError(
                f"attack {name!r}: the name must consist of lower-case letters and must not be none"
            )
        if self.access not in get_args(Access):
            raise ValueError(f"attack {name}: access must be one of {', '.join(get_args(Access))}")

    @property
    def needs_gradient(self) -> bool:
        """Whether the detector that it computes with must be differentiable."""
        return self.access in {"transfer", "full"}


register_attack = AttackSpec
SPECS = Registry(PACKAGE, AttackSpec, decorator="register_attack")


@dataclass(frozen=True, slots=True)
class Attack:
    """A kind of attack within a budget."""

    name: str  # a key of `SPECS`
    budget: int  # grey levels, 0 … `MOST_BUDGET`

    def __str__(self) -> str:
        return f"{self.name}{self.budget}"

    @property
    def spec(self) -> AttackSpec:
        """The declaration of the kind."""
        return SPECS[self.name]

    @property
    def control(self) -> "Attack":
        """Random signs of the same budget, with which the attack is compared."""
        return Attack(CONTROL, self.budget)


def parse_attack(text: str) -> Attack | None:
    """Return an attack; None of `none`.

    Raises:
        ValueError: an unknown kind, with the nearest name; or no budget, or one outside its range.
    """
    if text == NONE:
        return None
    match = _ATTACK.fullmatch(text)
    name = match[1] if match else next(iter(_NAME.findall(text)), text)
    if name not in SPECS:
        raise ValueError(UnknownName("attack", name, SPECS))
    form = f"Write {name}<0…{MOST_BUDGET}>, with the budget in grey levels."
    if match is None or match[2] is None:
        raise ValueError(f"{text!r}: the budget is missing. {form}")
    budget = float(match[2])
    if not 0 <= budget <= MOST_BUDGET:
        raise ValueError(f"{text}: expected a budget of 0 to {MOST_BUDGET} grey levels")
    if budget != int(budget):
        raise ValueError(f"{text}: expected a whole number for the budget. {form}")
    return Attack(name, int(budget))


def canonical(text: str) -> str:
    """Return an attack as it is stored and as files are named: "pgd02" becomes "pgd2".

    Raises:
        ValueError: see `parse_attack`.
    """
    return str(parse_attack(text) or NONE)


def plugin_modules(text: str) -> tuple[str, ...]:
    """Return the modules of an attack and its control: they are imported by name."""
    attack = parse_attack(text)
    return () if attack is None else SPECS.modules((attack.name, CONTROL))


def describe_choices() -> str:
    """Return how each kind is written, for lists of settings."""
    each = (f"{spec.name}<0…{MOST_BUDGET}> ({spec.summary})" for spec in SPECS.values())
    return ", ".join((NONE, *each))
