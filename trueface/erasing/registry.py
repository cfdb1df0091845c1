"""Methods of concept erasing by name: what each declares in its file in `methods`. No torch here.

What `@register_erasure` says is read from the files' text; a file is imported when a concept is erased.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, get_args

from trueface.runtime.declarations import Declared, Registry

Scope = Literal["all", "maps", "rest"]
Trajectory = Literal["anchor", "concept", "own"]


PACKAGE = "trueface.erasing.methods"
MODULES = frozenset({"trueface.erasing.registry"})
Need = Literal["null", "anchor", "images"]
_NAME = re.compile(r"[a-z]+(?:-[a-z]+)?")  # it stands in model IDs
# of all methods that take gradient steps on noisy images of sampling. Numbers and rates of steps are for
# small networks, chosen by a sweep; what was published is for Stable Diffusion, see each method
STEPS: Mapping[str, Any] = MappingProxyType(
    {"num_steps": 300, "lr": 1e-3, "batch_size": 64, "guidance": 3.0, "sample_steps": 25}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureOptions:
    """Hyper-parameters of the methods; each method uses some of them, with its own defaults."""

    num_steps: int = 300
    lr: float = 1e-3
    batch_size: int = 64
    scope: Scope = "all"
    trajectory: Trajectory = "anchor"
    paths: int = 256
    refresh: int = 10
    guidance: float = 3.0
    sample_steps: int = 25
    gamma1: float = 1.0
    gamma2: float = 1.0
    penalty: float = 1.0
    mask: float = 0.0
    edit_scale: float = 1.0
    eta: float = 1.0
    ema: float = 0.99
    uce_lambda: float = 0.1
    uce_preserve: float = 1.0

    @property
    def is_whole_edit(self) -> bool:
        """All of an edit is made: none is masked, none is scaled."""
        return self.mask == 0 and self.edit_scale == 1


NAMES = tuple(field.name for field in fields(ErasureOptions))


@dataclass(frozen=True, slots=True)
class Erasure(Declared):
    """Declares a method, without its code; the function below it takes a teacher and an `ErasingProblem`.

    Raises:
        ValueError: the name is no word of lower-case letters with a dash within at most; an unknown need or
            option.
    """

    name: str
    _: KW_ONLY
    summary: str  # half a line for lists
    # a teacher with a null token; an anchor, the class drawn instead; the training images
    needs: Collection[Need] = ()
    # by names of `ErasureOptions`: its own values of those that it uses; the others have no effect on it
    defaults: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"method {self.name!r}: take lower-case letters, with one dash within at most"
            )
        for what, words, known in (
            ("needs", self.needs, get_args(Need)), ("defaults", self.defaults, NAMES),
        ):  # fmt: skip
            for word in words:
                if word not in known:
                    raise ValueError(
                        f"{what} of {self.name}: {word!r} is none of {', '.join(known)}"
                    )

    def options(self, given: Mapping[str, Any]) -> ErasureOptions:
        """Return the method's hyper-parameters: what is given, else its own defaults.

        Args:
            given: by names of `ErasureOptions`; None: not given. What the method does not use is left out.
        """
        chosen = {name: given.get(name) for name in self.defaults}
        return ErasureOptions(
            **{
                name: self.defaults[name] if value is None else value
                for name, value in chosen.items()
            }
        )


register_erasure = Erasure
METHODS = Registry(PACKAGE, Erasure, decorator="register_erasure", modules=MODULES)


def modules_of(name: str) -> tuple[str, ...]:
    """Return the modules that a method's name stands for: no import statement names them."""
    return METHODS.modules([name])


def described() -> str:
    """Return each method with its summary, for lists of settings."""
    return ", ".join(f"{name} ({method.summary})" for name, method in METHODS.items())
