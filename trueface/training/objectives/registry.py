"""The objectives by name, as their files declare them: nothing of torch is imported."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, TypeVar

from trueface.runtime.declarations import Declaration, read_declarations
from trueface.runtime.errors import UnknownName

PACKAGE = "trueface.training.objectives"

Registered = TypeVar("Registered", bound=type)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveSpec:
    """What is known of an objective without importing it."""

    name: str
    summary: str
    binary: bool = False  # it takes models with one logit only
    columns: tuple[str, ...] = ()  # of a batch, besides images and labels: see `data.loaders`


def register_objective(
    name: str, *, summary: str, binary: bool = False, columns: tuple[str, ...] = ()
) -> Callable[[Registered], Registered]:
    """Make a class without arguments known as the objective `name`; see `protocol.Objective`.

    Args:
        name: the value of the setting `objective`.
        summary: a few words for lists of settings.
        binary: it takes models with one logit only, which detectors are.
        columns: of `data.loaders.COLUMNS` that a batch must have besides images and labels.
    """
    ObjectiveSpec(name=name, summary=summary, binary=binary, columns=columns)

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
        binary: the model has one logit.

    Raises:
        ValueError: no objective of that name, or one for models with one logit only.
    """
    fitting = [spec.name for spec in objectives().values() if binary or not spec.binary]
    if name not in fitting:
        raise ValueError(UnknownName("objective", name, fitting))
    return name


def described(*, binary: bool) -> str:
    """Return the names and summaries of the objectives for such a model, for lists of settings."""
    fitting = [spec for spec in objectives().values() if binary or not spec.binary]
    return ", ".join(f"{spec.name} ({spec.summary})" for spec in fitting)


def modules_of(name: str) -> tuple[str, ...]:
    """Return the modules that an objective's name stands for: they are imported by that name."""
    return (_declarations()[name].module,)


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
    return ObjectiveSpec(name=name, **facts)
