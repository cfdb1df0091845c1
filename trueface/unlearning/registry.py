"""The unlearning methods by name: the declaration of each in its file in `methods`. No torch here.

The declarations are read from the files' text; `load` imports a file, whose decorators then say the
same again, beside the function that they decorate.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, get_args

from trueface.runtime.declarations import Declared, Plugin, Registry
from trueface.runtime.errors import UsageError
from trueface.unlearning.hyperparameters import Options, TrainingOptions

Goal = Literal["flips", "class", "instances"]
Need = Literal["last layer", "retain set", "true labels", "untrained model"]
FLIPS: frozenset[Goal] = frozenset({"flips"})
FORGETTING: frozenset[Goal] = frozenset({"class", "instances"})
ALL: frozenset[Goal] = FLIPS | FORGETTING
NO_FLIPPED_LABEL = "replaces flipped labels by true ones, and no label is flipped here"
NAME = re.compile(r"[a-z][a-z0-9]*")  # part of model IDs, and prefix before "_" in settings
# modules from which a declaration may take names: those that do without torch
MODULES = frozenset(
    {
        "pydantic",
        "typing",
        "trueface.runtime.field_types",
        "trueface.unlearning.hyperparameters",
        "trueface.unlearning.registry",
    }
)
PACKAGE = "trueface.unlearning.methods"
TOO_NOISY = 0.4  # fraction of flipped labels above which confident learning no longer finds them


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFailure:
    """A situation in which a method is known not to work."""

    reason: str  # continues a sentence that begins with the method's name
    goals: frozenset[Goal] = ALL
    classes: Literal["two", "several"] | None = None  # None: any number
    random_flips: bool = False  # only where flips follow from nothing in the image


@dataclass(frozen=True, slots=True)
class Method(Declared):
    """Declares an unlearning method: a function from `api.Request` to `api.Result`, or a `GradientMethod`.

    Raises:
        ValueError: the name is not a word of lower-case letters and digits, or there is no such need or goal.
    """

    name: str  # as people write it
    _: KW_ONLY
    summary: str  # half a line for help texts
    # a class of the same file, or of `trueface.unlearning.hyperparameters`
    hyperparameters: type[Options]
    # without these it cannot work: the images to keep, the true labels of the forget set, a model as it was before
    # its training. "last layer": the network ends in one linear layer
    needs: Collection[Need] = ()
    goals: Collection[Goal] = ALL  # things that it can forget: flipped labels, a class, some images
    # why it has no other goal; continues a sentence that begins with its name
    other_goals: str = NO_FLIPPED_LABEL
    # situations within its goals in which it is known not to work
    limits: Collection[KnownFailure] = ()

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"method {self.name!r}: a name must be a lower-case letter, then such letters and digits"
            )
        for field_name, words, allowed in (
            ("needs", self.needs, get_args(Need)),
            ("goals", self.goals, ALL),
        ):
            for word in words:
                if word not in allowed:
                    raise ValueError(
                        f"{field_name} of {self.name}: expected one of {', '.join(sorted(allowed))}, got {word!r}"
                    )

    def __call__(self, plugin: Plugin) -> Plugin:
        """Register a function or a class as the method; return it unchanged.

        Raises:
            ValueError: the name was not read from this file.
        """
        name, module = self.name, plugin.__module__
        if name not in METHODS or METHODS.module(name) != module:
            raise ValueError(
                f"register_method({name!r}) in {module} was not read. Use it as a decorator of a "
                f"top-level function in a file of {PACKAGE}."
            )
        _LOADED[name] = Loaded(method=self, function=plugin)
        return plugin


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A method whose file has been imported."""

    method: Method
    function: Callable[..., Any]  # from `api.Request` to `api.Result`, or a `GradientMethod`


def plugin_modules(method: str) -> tuple[str, ...]:
    """Return the modules of a method's name: no import statement names them."""
    return METHODS.modules([method])


def load(method: str) -> Loaded:
    """Import a method's file; return the registered method."""
    METHODS.load(method)
    return _LOADED[method]


register_method = Method
_LOADED: dict[str, Loaded] = {}
METHODS = Registry(PACKAGE, Method, decorator="register_method", modules=MODULES)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskProperties:
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
    def hidden_fraction(self) -> float:
        """The fraction of flipped labels in the retain set."""
        rate = self.rate or 0.0
        given = rate * self.known
        return (rate - given) / (1 - given) if given < 1 else 0.0


def refusal(method: str, situation: TaskProperties, *, force: bool) -> str | None:
    """Return the reason to refuse a method, with the remedy. None if the method may be applied."""
    reason = explain_unusable(method, situation)
    if reason is None:
        return None
    if _forget_set_is_empty(situation):  # `force` cannot give the method something to forget
        return reason
    return None if force else f"{reason} (force: true applies it anyway)"


def admit(method: str, situation: TaskProperties, *, force: bool) -> str | None:
    """Return why a method is known not to work and is only forced; None if it may work.

    Raises:
        UsageError: the method is refused, see `refusal`.
    """
    if reason := refusal(method, situation, force=force):
        raise UsageError(reason)
    return explain_unusable(method, situation)


def explain_unusable(name: str, situation: TaskProperties) -> str | None:
    """Return why a method cannot work in a situation, or is known not to; None if it may."""
    method = METHODS[name]
    if "retain set" in method.needs and not situation.retain:
        return f"{name} needs the images to keep, and they are not available"
    if situation.goal not in method.goals:
        return f"{name} {method.other_goals}"
    if "true labels" in method.needs and not situation.true:
        return f"{name} needs the true labels of the forget set, and they are unknown"
    reason = _explain_impossible(situation)
    if reason is not None:
        return reason
    return next(
        (f"{name} {limit.reason}" for limit in method.limits if _limit_applies(limit, situation)),
        None,
    )


def _explain_impossible(situation: TaskProperties) -> str | None:
    """Return why no method can work."""
    if situation.goal == "class" and situation.classes == 2:
        return (
            "forgetting one of two classes leaves one class, so any model would predict the same "
            "class for all images"
        )
    if situation.goal != "flips":
        return None
    if situation.finding and not situation.retain:
        return (
            "the search for flipped labels reads the kept images, and the method may not read them"
        )
    if situation.finding and situation.hidden_fraction >= TOO_NOISY:
        return (
            f"{situation.hidden_fraction:.0%} of the other labels are flipped too, and from about "
            f"{TOO_NOISY:.0%} no classifier can distinguish flipped labels from true ones"
        )
    if _forget_set_is_empty(situation):
        return (
            "no flipped label is known, so there is nothing to forget (find: true searches for "
            "labels flipped symmetrically, if fewer than 40 % are flipped)"
        )
    return None


def refuse_precision(method: str, precision: str, *, is_plain: bool = False) -> str | None:
    """Return why a method cannot compute in a precision; None if it can.

    Args:
        method: name of the method.
        precision: of the network's arithmetic.
        is_plain: whether the method's trainings are `default_training`, which scales no gradients.
    """
    is_training = METHODS[method].hyperparameters is TrainingOptions
    if precision == "fp16" and (is_plain or not is_training):
        return f"{method} does not scale its gradients, and they would vanish in fp16. Choose bf16 or fp32."
    return None


def _limit_applies(limit: KnownFailure, situation: TaskProperties) -> bool:
    return (
        situation.goal in limit.goals
        and (limit.classes is None or (limit.classes == "two") == (situation.classes == 2))
        and (situation.random or not limit.random_flips)
    )


def _forget_set_is_empty(situation: TaskProperties) -> bool:
    return situation.goal == "flips" and situation.known == 0 and not situation.finding
