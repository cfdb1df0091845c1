"""Attacks by name, with what each must know of a detector: no torch here.

What `@register_attack` says in the files of `kinds` is read from their text; a file is imported when
an image is attacked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from trueface.runtime.declarations import Registry

PACKAGE = "trueface.attacks.kinds"
CONTROL = "random"  # the kind that knows nothing, with which every other is compared

# what is known of the detector: nothing; another one of its family; its logits; its weights
Access = Literal["random", "transfer", "score", "full"]
Registered = TypeVar("Registered", bound=Callable[..., object])


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackSpec:
    """A kind of attack, without its code."""

    name: str
    summary: str
    access: Access

    @property
    def needs_gradient(self) -> bool:
        """Whether the detector that it computes with must be differentiable."""
        return self.access in {"transfer", "full"}

    def __call__(self, function: Registered) -> Registered:
        """Leave the decorated function as it is."""
        return function


def register_attack(name: str, *, summary: str, access: Access) -> AttackSpec:
    """Declare a kind of attack; the function below it changes images, see `perturb.Function`.

    Args:
        name: lower-case letters, which stand before the budget.
        summary: a few words for lists.
        access: what it knows of the detector. Of `transfer` the function gets the surrogate.

    Raises:
        ValueError: a name that the grammar cannot hold, or an access that there is not.
    """
    if not (name.isascii() and name.isalpha() and name.islower()) or name == "none":
        raise ValueError(f"{name!r}: an attack is called by lower-case letters, and not none")
    if access not in get_args(Access):
        raise ValueError(f"{name}: access is one of {', '.join(get_args(Access))}")
    return AttackSpec(name=name, summary=summary, access=access)


SPECS = Registry(PACKAGE, register_attack)


def function_of(name: str) -> Callable[..., Any]:
    """Import the file of a kind; return its function."""
    return SPECS.load(name)  # type: ignore[no-any-return]  # what a file holds


def module_of(name: str) -> str:
    """Return the module that a kind's name stands for: it is imported by that name."""
    return SPECS.module(name)
