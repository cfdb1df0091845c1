"""The settings of unlearnings, methods' hyperparameters among them: one flat vocabulary for files and command lines.

Settings of all methods are called `unlearn_<name>`, those of one method `<method>_<name>`.
A setting that is left out is the method's own default. Light: no torch here.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, Field, create_model
from pydantic.fields import FieldInfo

from trueface.runtime.errors import UnknownName
from trueface.runtime.field_types import Probability, setting
from trueface.training.class_settings import ClassifySettings
from trueface.training.ineffective_settings import OF_STEPS
from trueface.training.settings import LearningSettings
from trueface.unlearning.hyperparameters import COMMON, Options, TrainingOptions
from trueface.unlearning.registry import METHODS, Goal, plugin_modules

Base = TypeVar("Base", bound=BaseModel)


COPIES = "copies of an image together"  # a revision


def flat_name(method: str, name: str) -> str:
    """Return how task files call a hyperparameter of a method."""
    return f"unlearn_{name}" if name in COMMON else f"{method}_{name}"


def _common_description(field: FieldInfo) -> str:
    return f"{field.description} (default: depends on the method)"


def _description(method: str, field: FieldInfo) -> str:
    value = field.get_default()
    if value is None:  # the text says what happens then
        return f"{method}: {field.description}"
    default = str(value).lower() if isinstance(value, bool) else value
    return f"{method}: {field.description} (default: {default})"


def _make_optional(field: FieldInfo, description: str, *, cost: bool = False) -> tuple[Any, Any]:
    kind = field.rebuild_annotation()
    kind = kind if type(None) in get_args(kind) else kind | None
    is_added = any(getattr(fact, "added", False) for fact in field.metadata)
    return kind, setting(None, added=is_added, cost=cost, description=description)


def with_options(base: type[Base]) -> type[Base]:
    """Return `base` with every hyperparameter of every method as an optional setting."""
    fields: dict[str, Any] = {
        f"unlearn_{name}": _make_optional(field, _common_description(field), cost=name == "epochs")
        for name, field in COMMON.items()
    }
    for method in METHODS.values():
        for name, field in method.hyperparameters.model_fields.items():
            if name not in COMMON:
                key = flat_name(method.name, name)
                fields[key] = _make_optional(field, _description(method.name, field))
    settings_class: type[Base] = create_model(base.__name__, __base__=base, **fields)
    return settings_class


def options_among(method: str, settings: Mapping[str, Any]) -> Options:
    """Return a method's hyperparameters among a job's settings.

    Raises:
        ValidationError: a value that it does not take.
    """
    hyperparameters = METHODS[method].hyperparameters
    values = {name: settings.get(flat_name(method, name)) for name in hyperparameters.model_fields}
    return hyperparameters.model_validate(
        {name: value for name, value in values.items() if value is not None}
    )


def _without_effect(
    values: Mapping[str, Any], goal: Goal, *, classes: int | None = None
) -> dict[str, str]:
    """Return the settings of a method that change nothing beside the others, each with the reason."""
    method = values["method"]
    idle = options_among(method, values).without_effect(goal, classes)
    if issubclass(METHODS[method].hyperparameters, TrainingOptions):
        replaced = {"num_epochs": "unlearn_epochs", "lr": "unlearn_lr"}
        steps = {
            name: f"{option} is set"
            for name, option in replaced.items()
            if values.get(option) is not None
        }
    else:
        reason = f"method {method} does not train as a training does"
        steps = dict.fromkeys(sorted(OF_STEPS.intersection(values)), reason)
    return {**steps, **{flat_name(method, name): reason for name, reason in idle.items()}}


def _revisions(values: Mapping[str, Any], goal: Goal) -> list[str]:
    """Return the changes of a method that change the results of an unlearning."""
    if values["method"] == "fisher" and goal != "class":
        return ["fisher: last layer as other layers"]
    return ["iwu: epochs of the authors"] if values["method"] == "iwu" else []


def conflicts(values: Mapping[str, Any], goal: Goal, classes: int | None) -> list[str]:
    """Return why hyperparameters of a method make no sense for what shall be forgotten, with remedies."""
    method = values["method"]
    found = options_among(method, values).conflicts(goal, classes)
    keys = {flat_name(method, name): reason for name, reason in found.items()}
    return [f"{key}: {values[key]} {reason}" for key, reason in keys.items()]


KEYS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        name: frozenset(flat_name(name, key) for key in method.hyperparameters.model_fields)
        for name, method in METHODS.items()
    }
)
"""The settings that each method takes."""


def _method(name: str) -> str:
    if name not in METHODS:
        where = "launcher kinds unlearn"
        raise ValueError(UnknownName("unlearning method", name, METHODS, where=where))
    return name


class UnlearningSettings(LearningSettings):
    """An unlearning: its method, what the method is given, and what a training needs.

    Every hyperparameter of every method is a setting, too: see `with_options`.
    """

    method: Annotated[str, AfterValidator(_method)] = setting(
        cost=True, modules=plugin_modules, description=f"Unlearning method: {', '.join(METHODS)}"
    )
    force: bool = Field(False, description="Apply a method that is known not to work here")
    known: Probability = Field(
        1.0,
        description="Fraction of the images with flipped labels that the method is given, with all copies of "
        "each; the others stay hidden",
    )
    find: bool = Field(
        False, description="Search for hidden flipped labels first and also give them to the method"
    )
    keep_retain: bool = Field(True, description="Let the method read the images that it must keep")
    afterwards: bool = Field(
        True,
        description="Measure relearning time and the accuracy of a linear probe after the unlearning",
    )

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the hyperparameters that change nothing for a detector's flipped labels."""
        return {**super().without_effect(values), **_without_effect(values, "flips", classes=2)}

    @classmethod
    def revisions(cls, values: Mapping[str, Any]) -> Sequence[str]:
        """Return the changes that changed results with these settings."""
        copies = [COPIES] if values["known"] < 1 or values["find"] else []
        return (*super().revisions(values), *copies, *_revisions(values, "flips"))

    @property
    def options(self) -> Options:
        """The method's hyperparameters."""
        return options_among(self.method, self.model_dump())


UnlearnSettings = with_options(UnlearningSettings)


SINGLE = (
    "{base} is already an unlearned model, and unlearning cannot be repeated. Start from the "
    "trained model. To forget more images, increase forget_fraction."
)
# settings that a forgetting must have in common with its base's training
SHARED = ("model", "stem", "size", "images_per_class", "seed", "split_seed", "data_root")


class ForgettingSettings(ClassifySettings):
    """An unlearning of a class or of some images, and what a training needs besides.

    Every hyperparameter of every method is a setting, too: see `with_options`.
    """

    method: Annotated[str, AfterValidator(_method)] = setting(
        cost=True, modules=plugin_modules, description=f"Unlearning method: {', '.join(METHODS)}"
    )
    force: bool = Field(False, description="Apply a method that is known not to work here")
    forget_class: int | str = Field(0, description="Class to forget: its name, or its index from 0")
    forget_fraction: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Fraction of the training images to forget, chosen at random with seed, instead of a "
        "class (0: forget a class)",
    )
    afterwards: bool = Field(
        True,
        description="Measure relearning time and the accuracy of a linear probe after the unlearning",
    )

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:
        """Return what only a training does, and hyperparameters that change nothing here."""
        return {
            **super().without_effect(values),
            "tensorboard": "unlearning does not write event files",
            **_without_effect(values, "instances" if values.get("forget_fraction") else "class"),
        }

    @classmethod
    def revisions(cls, values: Mapping[str, Any]) -> Sequence[str]:
        """Return the changes that changed results with these settings."""
        goal: Goal = "instances" if values["forget_fraction"] else "class"
        copies = [COPIES] if values["afterwards"] else []
        return (*super().revisions(values), *copies, *_revisions(values, goal))

    @property
    def goal(self) -> Goal:
        """The type of the forget set, instances or a class."""
        return "instances" if self.forget_fraction else "class"

    @property
    def options(self) -> Options:
        """The method's hyperparameters."""
        return options_among(self.method, self.model_dump())


ForgetSettings = with_options(ForgettingSettings)


def differences(base_settings: Mapping[str, Any], own_settings: Mapping[str, Any]) -> Iterable[str]:
    """Return which settings differ that a training and its forgetting must have in common."""
    # a version until 0.2 did not write split_seed: the images themselves are compared then
    return [
        key
        for key in SHARED
        if base_settings.get(key, own_settings.get(key)) != own_settings.get(key)
    ]
