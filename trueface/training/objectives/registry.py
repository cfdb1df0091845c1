"""The objectives by name, as their files declare them: nothing of torch is imported."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, TypeVar

from trueface.data.settings import ATTRIBUTE_COLUMNS, COLUMNS
from trueface.runtime.declarations import Declaration, read_declarations
from trueface.runtime.errors import UnknownName

PACKAGE = "trueface.training.objectives"
DEFAULT = "bce"  # of detectors, also of those that were trained before there was a choice
# values of the setting `fair` that are no objectives: the objective stays as it is
NOT_FAIR, OVERSAMPLE = "none", "oversample"

Registered = TypeVar("Registered", bound=type)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveSpec:
    """What is known of an objective without importing it."""

    name: str
    summary: str
    binary: bool = False  # it takes models with one logit only
    columns: tuple[str, ...] = ()  # of a batch, besides images and labels: see `data.loaders`
    mean: bool = False  # the loss is a mean over images, so that processes can share a batch
    fair: bool = False  # a value of the setting `fair`
    balanced: bool = False  # an epoch has equally many images of each group and class
    options: tuple[str, ...] = ()  # the settings that it reads: see `config.ObjectiveOptions`
    network: str = ""  # the model, or family of models, that alone can be trained with it
    paired: bool = False  # every batch has as many reals as fakes


def register_objective(
    name: str,
    *,
    summary: str,
    binary: bool = False,
    columns: tuple[str, ...] = (),
    mean: bool = False,
    fair: bool = False,
    balanced: bool = False,
    options: tuple[str, ...] = (),
    network: str = "",
    paired: bool = False,
) -> Callable[[Registered], Registered]:
    """Make a class without arguments known as the objective `name`; see `protocol.Objective`.

    Args:
        name: the value of the setting `objective`.
        summary: a few words for lists of settings.
        binary: it takes models with one logit only, which detectors are.
        columns: of `data.settings.COLUMNS` and `ATTRIBUTE_COLUMNS`, that a batch must have besides
            images and labels.
        mean: the loss is a mean over the images of the batch. Only then can several processes share
            a batch, and each must be able to compute the loss of no image at all.
        fair: it is a value of the setting `fair`, too.
        balanced: images are drawn so that an epoch has equally many of each group and class.
        options: names of the settings that it reads.
        network: the model, or family of models, whose inner parts it asks for; '': any will do.
        paired: images are drawn so that every batch has as many reals as fakes.

    Raises:
        ValueError: there is no such column.
    """
    _spec(
        name, summary=summary, binary=binary, columns=columns, mean=mean, fair=fair,
        balanced=balanced, options=options, network=network, paired=paired,
    )  # fmt: skip

    def register(objective: Registered) -> Registered:
        return objective  # the declaration itself is read from the file

    return register


def objectives() -> Mapping[str, ObjectiveSpec]:
    """Return every objective by its name."""
    return MappingProxyType(
        {name: declared.pass_to(_spec) for name, declared in _declarations().items()}
    )


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


def described(*, binary: bool) -> str:
    """Return the names and summaries of the objectives for such a model, for lists of settings."""
    return ", ".join(f"{spec.name} ({spec.summary})" for spec in _fitting(binary=binary))


def _fitting(*, binary: bool) -> list[ObjectiveSpec]:
    every = objectives().values()
    return [spec for spec in every if binary or not (spec.binary or spec.columns)]


def fair_names() -> tuple[str, ...]:
    """Return the values of the setting `fair`."""
    return (NOT_FAIR, OVERSAMPLE, *(name for name, spec in objectives().items() if spec.fair))


def described_fair() -> str:
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


def modules_of(name: str) -> tuple[str, ...]:
    """Return the modules that an objective's name stands for: they are imported by that name."""
    return (_declarations()[name].module,)


def modules_of_fair(name: str) -> tuple[str, ...]:
    """Return the same for a value of the setting `fair`."""
    return modules_of(name) if name in _declarations() else ()


def other_objective(trained: Mapping[str, Any], used: Mapping[str, Any]) -> str:
    """Return how the objective differs between the settings of two jobs; '' if it does not."""
    before, now = (used_objective(settings) for settings in (trained, used))
    return "" if before == now else f"{choice(trained)}, and this is {choice(used)}"


def make_objective(name: str) -> Any:
    """Import an objective and return a new one: a `protocol.Objective`.

    Raises:
        UnknownName: there is none of that name.
    """
    declared = _declarations().get(name)
    if declared is None:
        raise UnknownName("objective", name, _declarations())
    return declared.load()()


@cache
def _declarations() -> dict[str, Declaration]:
    return read_declarations(PACKAGE, register_objective.__name__, modules=())


def _spec(name: str, **facts: Any) -> ObjectiveSpec:
    spec = ObjectiveSpec(name=name, **facts)
    for column in spec.columns:
        known = (*COLUMNS, *ATTRIBUTE_COLUMNS)
        if column not in known:
            raise ValueError(f"columns of {name}: {column!r} is none of {', '.join(known)}")
    return spec
