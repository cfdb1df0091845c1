"""Attacks by name, with what each must know of a detector: no torch here.

What `@register_attack` says in the files of `kinds` is read from their text; a file is imported when
an image is attacked.
"""

from dataclasses import KW_ONLY, dataclass
from typing import Literal, get_args

from trueface.runtime.declarations import Declared, Registry

PACKAGE = "trueface.attacks.kinds"
CONTROL = "random"  # the kind that knows nothing, with which every other is compared

# what is known of the detector: nothing; another one of its family; its logits; its weights
Access = Literal["random", "transfer", "score", "full"]


@dataclass(frozen=True, slots=True)
class AttackSpec(Declared):
    """Declares a kind of attack, without its code; the function below it changes images, see `perturb.Function`.

    Raises:
        ValueError: a name that the grammar cannot hold, or an access that there is not.
    """

    name: str  # lower-case letters, which stand before the budget
    _: KW_ONLY
    summary: str  # a few words for lists
    access: Access  # what it knows of the detector. Of `transfer` the function gets the surrogate

    def __post_init__(self) -> None:
        name = self.name
        if not (name.isascii() and name.isalpha() and name.islower()) or name == "none":
            raise ValueError(f"{name!r}: an attack is called by lower-case letters, and not none")
        if self.access not in get_args(Access):
            raise ValueError(f"{name}: access is one of {', '.join(get_args(Access))}")

    @property
    def needs_gradient(self) -> bool:
        """Whether the detector that it computes with must be differentiable."""
        return self.access in {"transfer", "full"}


register_attack = AttackSpec
SPECS = Registry(PACKAGE, AttackSpec, decorator="register_attack")
