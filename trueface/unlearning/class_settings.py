"""The settings of class unlearning."""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    Field,
)

from trueface.runtime.errors import UnknownName
from trueface.training.class_settings import ClassifySettings
from trueface.unlearning.hyperparameters import Options
from trueface.unlearning.registry import METHODS, Goal, modules_of
from trueface.unlearning.settings import options_among, with_options

SINGLE = (
    "{base} has forgotten before, and images are forgotten once: start from the model that was "
    "trained, with a larger forget_fraction where more shall go"
)


# what a forgetting must have in common with its base's training
SHARED = ("model", "stem", "size", "images_per_class", "seed", "split_seed", "data_root")


def _method(name: str) -> str:
    if name not in METHODS:
        raise ValueError(UnknownName("unlearning method", name, METHODS))
    return name


class ForgettingSettings(ClassifySettings):
    """An unlearning of a class or of some images, and what a training needs besides.

    Every hyperparameter of every method is a setting, too: see `settings.with_options`.
    """

    costs: ClassVar[frozenset[str]] = ClassifySettings.costs | {"method", "unlearn_epochs"}
    modules: ClassVar[Mapping[str, Callable[[Any], tuple[str, ...]]]] = {
        **ClassifySettings.modules,
        "method": modules_of,
    }

    method: Annotated[str, AfterValidator(_method)] = Field(description=", ".join(METHODS))
    force: bool = Field(False, description="apply a method that is known not to work here")
    forget_class: int | str = Field(
        0, description="the class that shall go: its name, or its place in their order from 0"
    )
    forget_fraction: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="forget this fraction of the training images instead of a class, drawn at random "
        "by the seed: 0.1 is a tenth; 0: a class",
    )
    afterwards: bool = Field(
        True, description="measure how soon the forgotten is learned again, and a linear probe"
    )

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:
        """Return what only a training does."""
        return {
            **super().without_effect(values),
            "tensorboard": "an unlearning writes no event files",
        }

    @property
    def goal(self) -> Goal:
        """What shall be forgotten."""
        return "instances" if self.forget_fraction else "class"

    @property
    def options(self) -> Options:
        """The method's hyperparameters."""
        return options_among(self.method, self.model_dump())


ForgetSettings = with_options(ForgettingSettings)


def differences(trained: Mapping[str, Any], used: Mapping[str, Any]) -> Iterable[str]:
    """Return which settings differ that a training and its forgetting must have in common."""
    # a version until 0.2 did not write split_seed: the images themselves are compared then
    return [key for key in SHARED if trained.get(key, used.get(key)) != used.get(key)]
