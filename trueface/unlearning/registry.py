"""The unlearning methods by name: what each declares in its file in `methods`. No torch here.

The declarations are read from the files' text; `load` imports a file, whose decorators then say the
same again, beside the function that they decorate.
"""

import importlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args

from trueface.runtime.declarations import read_declarations
from trueface.unlearning.hyperparameters import Options

Goal = Literal["flips", "class", "instances"]
Need = Literal["retain set", "true labels", "untrained model"]
Function = TypeVar("Function", bound=Callable[..., Any])

FLIPS: frozenset[Goal] = frozenset({"flips"})
FORGETTING: frozenset[Goal] = frozenset({"class", "instances"})
ALL: frozenset[Goal] = FLIPS | FORGETTING
NO_FLIPPED_LABEL = "puts true labels in the place of flipped ones, and here no label is flipped"

NAME = re.compile(r"[a-z][a-z0-9]*")  # it stands in model IDs, and before "_" in settings
# What a declaration may take names from: modules that do without torch.
MODULES = frozenset(
    {
        "pydantic",
        "typing",
        "trueface.runtime.field_types",
        "trueface.unlearning.hyperparameters",
        "trueface.unlearning.registry",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A situation in which a method is known not to work."""

    reason: str  # continues a sentence that begins with the method's name
    goals: frozenset[Goal] = ALL
    classes: Literal["two", "several"] | None = None  # None: any number
    random_flips: bool = False  # only where flips follow from nothing in the image


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """What a method declares."""

    name: str
    summary: str
    hyperparameters: type[Options]
    needs: frozenset[Need]
    goals: frozenset[Goal]
    other_goals: str  # why it has no other goal; continues a sentence that begins with its name
    limits: tuple[Limit, ...]


@dataclass(frozen=True, slots=True)
class Registration:
    """The decorator of a method's function."""

    method: Method

    def __call__(self, function: Function) -> Function:
        """Register `function` as the method; return it unchanged.

        Raises:
            ValueError: the name was not read from this file.
        """
        name, module = self.method.name, function.__module__
        if name not in _DECLARATIONS or _DECLARATIONS[name].module != module:
            raise ValueError(
                f"register_method({name!r}) in {module} was not read: write it above a function at "
                f"the top level of a file in {PACKAGE}"
            )
        _LOADED[name] = Loaded(method=self.method, function=function)
        return function


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A method whose file has been imported."""

    method: Method
    function: Callable[..., Any]  # from `api.Request` to `api.Result`


def register_method(
    name: str,
    *,
    summary: str,
    hyperparameters: type[Options],
    needs: Collection[Need] = (),
    goals: Collection[Goal] = ALL,
    other_goals: str = NO_FLIPPED_LABEL,
    limits: Collection[Limit] = (),
) -> Registration:
    """Declare an unlearning method; the decorated function takes an `api.Request`.

    Args:
        name: as people write it: lower-case letters and digits.
        summary: half a line for help texts.
        hyperparameters: a class of the same file, or of `trueface.unlearning.hyperparameters`.
        needs: what it cannot work without: the images to keep, the true labels of the forget set, a
            model as it was before its training.
        goals: what it can forget: flipped labels, a class, some images.
        other_goals: why it cannot forget the others.
        limits: situations within its goals in which it is known not to work.

    Raises:
        ValueError: the name is not such a word, or there is no such need or goal.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"method {name!r}: take lower-case letters and digits for its name")
    for what, words, allowed in (("needs", needs, get_args(Need)), ("goals", goals, ALL)):
        for word in words:
            if word not in allowed:
                raise ValueError(
                    f"{what} of {name}: {word!r} is none of {', '.join(sorted(allowed))}"
                )
    return Registration(
        Method(
            name=name,
            summary=summary,
            hyperparameters=hyperparameters,
            needs=frozenset(needs),
            goals=frozenset(goals),
            other_goals=other_goals,
            limits=tuple(limits),
        )
    )


def modules_of(method: str) -> tuple[str, ...]:
    """Return the modules that a method's name stands for: no import statement names them."""
    return (_DECLARATIONS[method].module,)


def load(method: str) -> Loaded:
    """Import a method's file; return what its decorator registered."""
    importlib.import_module(_DECLARATIONS[method].module)
    return _LOADED[method]


PACKAGE = "trueface.unlearning.methods"
_LOADED: dict[str, Loaded] = {}
_DECLARATIONS = read_declarations(PACKAGE, "register_method", modules=MODULES)
METHODS: Mapping[str, Method] = MappingProxyType(
    {name: _DECLARATIONS[name].pass_to(register_method).method for name in sorted(_DECLARATIONS)}
)
