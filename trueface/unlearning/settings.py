"""Methods' hyper-parameters as settings of a job: one flat vocabulary for files and command lines.

What methods have in common is called `unlearn_<name>`, what is one method's own `<method>_<name>`.
A setting that is left out is the method's own default. Light: no torch here.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, Field, create_model
from pydantic.fields import FieldInfo

from trueface.runtime.errors import UnknownName
from trueface.runtime.field_types import Probability
from trueface.training.settings import LearningSettings
from trueface.unlearning.hyperparameters import COMMON, OPTIONS, Options
from trueface.unlearning.registry import METHODS, modules_of

Base = TypeVar("Base", bound=BaseModel)
PREFIX = "unlearn"


def _fields() -> Iterator[tuple[str, str, str, FieldInfo]]:
    """Yield each hyper-parameter: its flat name, its method, its own name, what it is."""
    for method, options in OPTIONS.items():
        for name, field in options.model_fields.items():
            prefix = PREFIX if name in COMMON else method
            yield f"{prefix}_{name}", method, name, field


def _described(key: str, method: str, field: FieldInfo) -> str:
    text = f"{field.description}"
    if key.startswith(f"{PREFIX}_"):
        return f"{text} (of methods that take steps; default: the method's)"
    value = field.get_default()
    if value is None:  # then its text says what happens
        return f"{method}: {text}"
    return f"{method}: {text} (default: {str(value).lower() if isinstance(value, bool) else value})"


def with_options(base: type[Base]) -> type[Base]:
    """Return `base` with every hyper-parameter of every method as an optional setting."""
    fields: dict[str, Any] = {}
    for key, method, _, field in _fields():
        if key not in fields:
            kind = field.rebuild_annotation()
            known = kind if type(None) in get_args(kind) else kind | None
            fields[key] = (known, Field(None, description=_described(key, method, field)))
    made: type[Base] = create_model(base.__name__, __base__=base, __doc__=base.__doc__, **fields)
    return made


def options_among(method: str, settings: Mapping[str, Any]) -> Options:
    """Return a method's hyper-parameters among a job's settings.

    Raises:
        ValidationError: a value that it does not take.
    """
    given = {
        name: settings[key]
        for key, of, name, _ in _fields()
        if of == method and settings.get(key) is not None
    }
    return OPTIONS[method].model_validate(given)


KEYS: Mapping[str, frozenset[str]] = MappingProxyType(
    {method: frozenset(key for key, of, _, _ in _fields() if of == method) for method in OPTIONS}
)
"""The settings that each method takes."""


def _method(name: str) -> str:
    if name not in METHODS:
        where = "`launcher kinds unlearn`"
        raise ValueError(UnknownName("unlearning method", name, METHODS, where=where))
    return name


class UnlearningSettings(LearningSettings):
    """An unlearning: its method, what it knows, and what a training needs.

    Every hyper-parameter of every method is a setting besides: see `unlearn.flat`.
    """

    costs: ClassVar[frozenset[str]] = LearningSettings.costs | {"method", "unlearn_epochs"}
    modules: ClassVar[Mapping[str, Callable[[Any], tuple[str, ...]]]] = {
        **LearningSettings.modules, "method": modules_of,
    }  # fmt: skip

    method: Annotated[str, AfterValidator(_method)] = Field(description=", ".join(METHODS))
    force: bool = Field(False, description="apply a method that is known not to work here")
    known: Probability = Field(
        1.0,
        description="share of the wrong labels that the method is told of; the rest stays hidden",
    )
    find: bool = Field(
        False, description="look for hidden wrong labels first, and tell the method of those too"
    )
    keep_retain: bool = Field(
        True, description="the method may read the images that are not to be forgotten"
    )
    afterwards: bool = Field(
        True, description="measure how soon the forgotten is learned again, and a linear probe"
    )

    @property
    def options(self) -> Options:
        """The method's hyper-parameters."""
        return options_among(self.method, self.model_dump())


UnlearnSettings = with_options(UnlearningSettings)
