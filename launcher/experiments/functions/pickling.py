"""Functions and values as pickles in files that nobody but their owner can have written.

If a value cannot be pickled, the message names the object inside that is to blame. Who can write a pickle can run code as
whoever loads it: files are written for their owner alone, and checked before they are unpickled.
"""

import functools
import inspect
import io
import pickle
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Protocol

import cloudpickle

from launcher.system.errors import JobError, UsageError

_MOST_LEVELS = 12  # levels of nested objects in which the culprit is looked for
_LONGEST = 200  # characters of an error's own words
# all functions that singledispatch makes have this code
_DISPATCHER: Any = functools.singledispatch(abs)


Parts = Iterable[tuple[str, object]]


class Writable(Protocol):
    """An object to which bytes can be written, such as a binary file."""

    def write(self, data: bytes, /) -> object:
        """Write bytes."""


class CannotPickle(UsageError):
    """A function, one of its arguments, or what it returned cannot be pickled."""


class CannotLoad(JobError):
    """A function, one of its arguments, or what it returned cannot be loaded where it is needed."""


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles functions and classes of a script whole, also those that cloudpickle cannot pickle."""

    def reducer_override(self, obj: Any) -> Any:
        """Reduce an object."""
        reduced = super().reducer_override(obj)
        if reduced is NotImplemented:  # an object of a module, or of a type that pickle knows
            # a cached_property has a lock before Python 3.12
            if type(obj) is functools.cached_property:
                return with_attribute, (obj.func, obj.attrname)
            return reduced
        return _reduced_dispatch(obj) if _is_single_dispatch(obj) else reduced


def with_attribute(
    function: Callable[[Any], object], name: str | None
) -> "functools.cached_property[object]":
    """Return a cached property; pickles refer to this function by name."""
    cached = functools.cached_property(function)
    cached.attrname = name
    return cached


def _is_single_dispatch(obj: object) -> bool:
    """Whether an object was made by functools.singledispatch."""
    return isinstance(obj, types.FunctionType) and obj.__code__ is _DISPATCHER.__code__


def _reduced_dispatch(function: Any) -> tuple[object, ...]:
    """Reduce a function of functools.singledispatch, whose cache of weak references cannot be pickled.

    Its implementations may call it. So they are its state, which is pickled after it.
    """
    state = dict(function.registry)
    return empty_dispatch, (function.__name__,), state, None, None, set_implementations


def empty_dispatch(name: str) -> Callable[..., object]:
    """Return a function without implementations; pickles refer to this function by name."""

    def refuse_call(*arguments: object) -> object:
        raise NotImplementedError(arguments)

    refuse_call.__name__ = name
    return functools.singledispatch(refuse_call)


def set_implementations(function: Any, registry: Mapping[type, Callable[..., object]]) -> None:
    """Register the implementations of a function; pickles refer to this function by name."""
    for kind, implementation in registry.items():
        function.register(kind, implementation)
    functools.update_wrapper(function, registry[object])


def load(file: BinaryIO, subject: str) -> Any:
    """Return the next value of a file that `dump` wrote, and nobody else.

    Args:
        file: which is read.
        subject: names the value in a message, and where it is loaded.

    Raises:
        CannotLoad: it cannot be made again, such as for the lack of a module; caused by the error.
    """
    try:
        return pickle.load(file)  # the folder and the owner of the file were checked
    except MemoryError:
        raise
    except Exception as error:  # whatever the functions raise that a pickle calls
        words = f"{type(error).__name__}: {error}"
        raise CannotLoad(f"{subject}: {words}") from error


def dump(
    value: object,
    file: Writable,
    subject: str,
    remedy: str,
    parts: Parts = (),
    *,
    pickler: type[Pickler] = Pickler,
) -> None:
    """Append the pickle of a value to a file; functions and classes of a script or notebook go whole.

    Args:
        value: what is pickled.
        file: which is written to.
        subject: names the value in a message.
        remedy: says there what to do.
        parts: named parts of the value, to find the cause of an error. If empty, those that Python shows.
        pickler: makes the pickle.

    Raises:
        CannotPickle: it cannot be pickled; says which object inside of it is to blame.
        OSError: the disk is full.
    """
    try:
        pickler(file).dump(value)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # whatever an object's own __reduce__ raises
        words = str(error).partition("\n")[0][:_LONGEST] or type(error).__name__
        path, culprit = _culprit(value, parts, pickler)
        blame = f"{path or 'it'} is of type {_type_name(culprit)} ({words})"
        raise CannotPickle(f"{subject} cannot be pickled: {blame}. {remedy}.") from error


def _type_name(value: object) -> str:
    kind = type(value)
    own = kind.__module__ == "builtins"
    return kind.__qualname__ if own else f"{kind.__module__}.{kind.__qualname__}"


def _culprit(value: object, parts: Parts, pickler: type[Pickler]) -> tuple[str, object]:
    """Return the innermost object that cannot be pickled, and the way to it as Python writes it."""
    path, seen = "", {id(value)}
    for _ in range(_MOST_LEVELS):
        for step, part in parts or _parts(value):
            if id(part) not in seen and not _can_be_pickled(part, pickler):
                seen.add(id(part))
                path, value = f"{path}{step}" if path else step.removeprefix("."), part
                break
        else:
            break
        parts = ()
    return path, value


def _can_be_pickled(value: object, pickler: type[Pickler]) -> bool:
    try:
        pickler(Nowhere()).dump(value)
    except Exception:  # noqa: BLE001  # likewise
        return False
    return True


class Nowhere(io.RawIOBase):
    """A file that discards its data, as the pickle of a test may be large."""

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any, /) -> int:
        """Discard bytes."""
        return memoryview(data).nbytes


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """Yield the parts of an object, each with the path to it from there."""
    match value:
        case types.FunctionType():
            yield from _variables(value)
        case types.MethodType():
            yield ".__self__", value.__self__
        case functools.partial():
            yield ".func", value.func
            yield from _parts(value.args)
            yield from _parts(value.keywords)
        case dict():
            for key, item in value.items():
                yield f"[{key!r:.40}]", item
        case list() | tuple():
            for index, item in enumerate(value):
                yield f"[{index}]", item
        case set() | frozenset():
            for item in value:
                yield "{…}", item
        case _:
            state = getattr(value, "__dict__", None)
            if isinstance(state, dict):
                for name, item in state.items():
                    yield f".{name}", item


def _variables(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    """Yield the variables that are pickled with a function: of its closure, of its module, and defaults."""
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        try:
            yield f".{name}", cell.cell_contents
        except ValueError:  # not set yet
            continue
    for name in sorted(_global_names(function.__code__)):
        if name in function.__globals__:
            yield f".{name}", function.__globals__[name]
    parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    for parameter in parameters:
        if parameter.default is not parameter.empty:
            yield f".{parameter.name}", parameter.default


def _global_names(code: types.CodeType) -> set[str]:
    inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return set(code.co_names).union(*map(_global_names, inner))


def name_of(function: Callable[..., object]) -> str:
    """Return the name of a function for users. A partial has the name of the function in it."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", "") or type(function).__name__
    return "lambda" if name == "<lambda>" else name
