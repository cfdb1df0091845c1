"""The objectives by name, as their files declare them: nothing of torch is imported."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cache
from typing import Any

from trueface.data.settings import ATTRIBUTE_COLUMNS, COLUMNS
from trueface.runtime.declarations import Declared, Registry
from trueface.runtime.errors import UnknownName

PACKAGE = "trueface.training.objectives"
DEFAULT = "bce"  # objective of detectors, also of those that were trained before there was a choice
# values of the setting `fair` that are not objectives and keep the objective unchanged
NOT_FAIR, OVERSAMPLE = "none", "oversample"

# reason for steps that are not replayed as a CUDA graph
EAGER_OBJECTIVE = "a step of objective {name} changes more than tensors at a fixed place"


@dataclass(frozen=True, slots=True)
class ObjectiveSpec(Declared):
    """Declares a class without arguments as an objective; see `protocol.Objective`.

    Raises:
        ValueError: there is no such column.
    """

    name: str  # the value of the setting `objective`
    _: KW_ONLY
    summary: str  # a few words for lists of settings
    binary: bool = False  # it takes models with one logit only, which detectors are
    # names in `data.settings.COLUMNS` and `ATTRIBUTE_COLUMNS` that a batch must have besides images and labels
    columns: tuple[str, ...] = ()
    # the loss is a mean over the images of the batch. Only then can several processes share a batch, and
    # each must be able to compute the loss of no image at all
    mean: bool = False
    fair: bool = False  # it is a value of the setting `fair`, too
    balanced: bool = False  # an epoch has equally many images of each group and class
    options: tuple[str, ...] = ()  # the settings that it reads: see `config.ObjectiveOptions`
    # the model, or family of models, whose inner parts it asks for; '': any will do
    network: str = ""
    # a step depends only on tensors that stay at their place, and reads nothing from the device:
    # it can be replayed as a CUDA graph
    capturable: bool = False
    paired: bool = False  # every batch has as many reals as fakes
    # fewest images of a batch in which it can compare some: a pair, or a triplet
    least_images: int = 1
    features: bool = (
        False  # its loss is one of the input of the last layer, so that the backbone learns
    )
    # augmentations of each image in a batch, drawn independently: all images in the first, then in the next
    views: int = 1
    # the second quality of each image, for an objective of two qualities; otherwise ""
    pairs: str = ""
    # those of the options that only weigh the difference between views, so they do nothing if all views are equal
    view_options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = (*COLUMNS, *ATTRIBUTE_COLUMNS)
        for column in self.columns:
            if column not in known:
                raise ValueError(
                    f"columns of {self.name}: {column!r} is not a known column. Known columns: "
                    f"{', '.join(known)}."
                )


register_objective = ObjectiveSpec


@cache
def objectives() -> Registry[ObjectiveSpec]:
    """Return every objective by its name."""
    return Registry(PACKAGE, ObjectiveSpec, decorator="register_objective")


def objective_name(name: str, *, binary: bool) -> str:
    """Return the name of an objective that a model can be trained with.

    Args:
        name: as a person wrote it.
        binary: the model has one logit. Others are trained on images without further columns.

    Raises:
        ValueError: no objective of that name, or one for models with one logit only.
    """
    fitting = [spec.name for spec in _fitting(binary=binary)]
    if name not in fitting:
        raise ValueError(UnknownName("objective", name, fitting))
    return name


def describe_choices(*, binary: bool) -> str:
    """Return the names and summaries of the objectives for such a model, for lists of settings."""
    return ", ".join(f"{spec.name} ({spec.summary})" for spec in _fitting(binary=binary))


def _fitting(*, binary: bool) -> list[ObjectiveSpec]:
    every = objectives().values()
    return [spec for spec in every if binary or not (spec.binary or spec.columns)]


def fair_names() -> tuple[str, ...]:
    """Return the values of the setting `fair`."""
    return (NOT_FAIR, OVERSAMPLE, *(name for name, spec in objectives().items() if spec.fair))


def describe_fair_choices() -> str:
    """Return the names and summaries of the objectives that are values of `fair`."""
    return ", ".join(f"{spec.name} ({spec.summary})" for spec in objectives().values() if spec.fair)


def used_objective(settings: Mapping[str, Any]) -> str:
    """Return the name of the objective that a training minimizes: `fair`, where it names one."""
    fair = settings.get("fair", NOT_FAIR)
    return str(settings.get("objective", DEFAULT) if fair in {NOT_FAIR, OVERSAMPLE} else fair)


def choice(settings: Mapping[str, Any]) -> str:
    """Return the setting that says how a training weighs images, as "fair: dro"."""
    fair = settings.get("fair", NOT_FAIR)
    if fair != NOT_FAIR:
        return f"fair: {fair}"
    return f"objective: {used_objective(settings)}"


def plugin_modules(name: str) -> tuple[str, ...]:
    """Return the modules that an objective's name stands for: they are imported by that name."""
    return objectives().modules([name])


def is_built_in(name: str) -> bool:
    """Return whether an objective belongs to this package, and not to a plugin package."""
    return objectives().module(name).startswith(f"{PACKAGE}.")


def fair_plugin_modules(name: str) -> tuple[str, ...]:
    """Return the same for a value of the setting `fair`."""
    return plugin_modules(name) if name in objectives() else ()


def other_objective(base_settings: Mapping[str, Any], own_settings: Mapping[str, Any]) -> str:
    """Return how the objective differs between the settings of two jobs; '' if it does not."""
    before, now = (used_objective(settings) for settings in (base_settings, own_settings))
    return "" if before == now else f"{choice(base_settings)}, and this is {choice(own_settings)}"


def is_capturable(name: str, objective: object) -> bool:
    """Return whether the steps of an objective can be replayed, and it is the declared one itself."""
    spec = objectives().get(name)
    return spec is not None and spec.capturable and type(objective) is objectives().load(name)


def make_objective(name: str) -> Any:
    """Import an objective and return a new one: a `protocol.Objective`.

    Raises:
        UnknownName: there is none of that name.
    """
    if name not in objectives():
        raise UnknownName("objective", name, objectives())
    return objectives().load(name)()
