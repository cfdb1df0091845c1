"""The `__main__` module of the submitting program, inside a job that runs one of its functions.

A job runs in a fork of one of the launcher's processes, whose `__main__` is another program. But pickle,
multiprocessing and inspect look names up in `__main__`. So a job gets a module that stands for the
submitter's: with its file, and with the functions and classes that the call needs.
"""

import functools
import io
import linecache
import multiprocessing
import os
import pickle
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import cloudpickle

from launcher.experiments.functions.pickling import Pickler
from launcher.system.errors import UsageError

MAIN = "__main__"
CALLS_FILE = "LAUNCHER_CALLS_FILE"  # in the environment of processes that a job spawns
SPAWNED_MAIN = "launcher.experiments.functions.spawned_main"
_CACHED = type(functools.lru_cache(abs))
MOST_CLASS_BYTES = 256 << 10  # bytes of one pickled class; a larger one holds data
MOST_CLASSES_BYTES = 4 << 20  # bytes of all pickled classes; every file of calls has them
MOST_SOURCE_BYTES = 1 << 20  # bytes of the cells of a notebook


class Script(NamedTuple):
    """The submitting program: what its functions can ask of their process and of `__main__`."""

    path: Sequence[str]  # sys.path
    argv: Sequence[str]
    file: str | None = None  # None: a notebook, `python -c`, or a prompt
    module: str | None = None  # the name of the module for `python -m`
    package: str | None = None  # package to which relative imports refer
    sources: Mapping[str, str] = {}  # name of a notebook's cell → text of the cell
    classes: Mapping[str, bytes] = {}  # name → pickle


def describe_script() -> Script:
    """Return the program that runs now, as its jobs will need it."""
    main = sys.modules[MAIN]
    spec = getattr(main, "__spec__", None)
    return Script(
        path=[str(Path(entry or ".").absolute()) for entry in sys.path],
        argv=[*sys.argv],
        file=getattr(main, "__file__", None),
        module=None if spec is None else spec.name,
        package=getattr(main, "__package__", None),
        sources=_cell_sources(vars(main)),
        classes={**_unloaded_classes(main), **_pickled_classes(vars(main))},
    )


def dump_script(script: Script, file: BinaryIO) -> None:
    """Append a script to a file, as plain values."""
    pickle.dump(script._asdict(), file)


def load_script(file: BinaryIO) -> Script:
    """Return the script at the beginning of a file of calls."""
    return Script(**pickle.load(file))  # our own file, whose owner was checked


@contextmanager
def installed_script(script: Script, calls_file: Path, *, stays: bool = False) -> Iterator[None]:
    """Let this process stand for a script: its `__main__`, `sys.argv` and sources of cells.

    Args:
        script: that submitted the call.
        calls_file: file of the job's calls.
        stays: also after the block, for threads and handlers that outlive the call.
    """
    before, argv = sys.modules[MAIN], sys.argv
    sys.modules[MAIN] = _module_of(script)
    sys.argv = [*script.argv]
    os.environ[CALLS_FILE] = str(calls_file)
    for name, text in script.sources.items():
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    try:
        yield
    finally:
        if not stays:
            sys.modules[MAIN], sys.argv = before, argv
            os.environ.pop(CALLS_FILE, None)  # a function may have cleared the environment


def _module_of(script: Script) -> types.ModuleType:
    module = types.ModuleType(MAIN)
    module.__package__ = script.package
    if script.file is not None and Path(script.file).exists():
        module.__file__ = script.file
        if script.module is not None:
            module.__spec__ = ModuleSpec(script.module, None, origin=script.file)
    else:  # a spawned process cannot import a notebook: the file of calls contains the names
        module.__spec__ = ModuleSpec(SPAWNED_MAIN, None)
    add_classes(vars(module), script)
    return module


def add_classes(namespace: dict[str, Any], script: Script) -> None:
    """Let a module find the classes of a script by name; each is loaded at its first use."""
    namespace["__getattr__"] = _ClassFinder(namespace, script.classes)


class _ClassFinder:
    """Finds the classes of a script by name; each is loaded at its first use."""

    def __init__(self, namespace: dict[str, Any], classes: Mapping[str, bytes]) -> None:
        self._namespace, self.classes = namespace, classes

    def __call__(self, name: str) -> object:
        if name not in self.classes:
            raise AttributeError(f"module {MAIN!r} has no attribute {name!r}", name=name)
        # our own file, whose owner was checked
        self._namespace[name] = pickle.loads(self.classes[name])
        return self._namespace[name]


def _unloaded_classes(module: types.ModuleType) -> Mapping[str, bytes]:
    """Return the classes that a module finds by name, as one that stands for a script does."""
    find = vars(module).get("__getattr__")
    return find.classes if isinstance(find, _ClassFinder) else {}


def add_values(values: Sequence[object]) -> None:
    """Let `__main__` have functions, and the classes of objects, under the names that they had there."""
    for value in values:
        named = value if isinstance(value, types.FunctionType | type) else type(value)
        if named.__module__ == MAIN and "." not in named.__qualname__:
            vars(sys.modules[MAIN])[named.__qualname__] = named


def refuse_spawned_import() -> None:
    """Refuse to submit while multiprocessing imports the script into a process that it spawned.

    Raises:
        UsageError: the call would be repeated by every such process.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UsageError(
            "a spawned process imports this script, and the script submits jobs while it is imported. "
            'Put the call of submit below `if __name__ == "__main__":`'
        )


# --- pickles whose functions find their names in `__main__`


def _reduced_code(code: types.CodeType) -> tuple[Callable[..., types.CodeType], tuple[object, ...]]:
    """Reduce a code object with the name of its file, which cloudpickle leaves out."""
    make, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](code)
    return code_in_file, (code.co_filename, make, *arguments)


def code_in_file(
    filename: str, make: Callable[..., types.CodeType], *arguments: object
) -> types.CodeType:
    """Return a code object; pickles refer to this function by name."""
    return make(*arguments).replace(co_filename=filename)


class CallPickler(Pickler):
    """Pickles a call; functions of `__main__` share the namespace of the job's `__main__`."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        # cloudpickle gives functions of one namespace one dict: here that of the job's module
        self.globals_ref[id(vars(sys.modules[MAIN]))] = _MainGlobals()

    def reducer_override(self, obj: Any) -> Any:
        """Reduce an object; one that its type reduces to a name in `__main__` is sent whole, or refused."""
        if isinstance(obj, types.CodeType):
            return _reduced_code(obj)
        reduced = super().reducer_override(obj)
        # cloudpickle reduces some types later, such as classmethod, by its table
        is_reduced = reduced is not NotImplemented or type(obj) in self.dispatch_table
        if is_reduced or not _is_named_in_main(obj):
            return reduced
        if isinstance(obj, _CACHED):
            return with_cache, (obj.__wrapped__, obj.cache_parameters())
        if isinstance(name := obj.__reduce_ex__(pickle.DEFAULT_PROTOCOL), str):
            raise pickle.PicklingError(
                f"Python stores only its name {MAIN}.{name}; define it in a module of its own"
            )
        return NotImplemented


class _MainGlobals(dict[str, Any]):
    """Stands for the namespace of `__main__` in a pickle."""

    def __reduce__(self) -> tuple[Callable[[], dict[str, Any]], tuple[()]]:
        return main_globals, ()


def main_globals() -> dict[str, Any]:
    """Return the namespace of `__main__`; pickles refer to this function by name."""
    return vars(sys.modules[MAIN])


def with_cache(
    function: Callable[..., object], parameters: Mapping[str, Any]
) -> "functools._lru_cache_wrapper[object]":
    """Return a function with an empty cache; pickles refer to this function by name."""
    cached: functools._lru_cache_wrapper[object] = functools.lru_cache(**parameters)(function)
    return cached


def _is_named_in_main(obj: object) -> bool:
    """Whether an object other than a function or class claims `__main__` as its own module."""
    try:
        module: object = obj.__module__
    except Exception:  # noqa: BLE001  # whatever an object's own __getattr__ raises
        return False
    return isinstance(module, str) and module == MAIN and type(obj).__module__ != MAIN


# --- what of `__main__` is described


def _pickled_classes(namespace: Mapping[str, object]) -> dict[str, bytes]:
    """Return the classes that a script defines, without those that are large or cannot be pickled."""
    pickled: dict[str, bytes] = {}
    room = MOST_CLASSES_BYTES
    for name, value in [*namespace.items()]:
        if not isinstance(value, type) or value.__module__ != MAIN or value.__qualname__ != name:
            continue
        file = _Bounded(min(room, MOST_CLASS_BYTES))
        try:
            CallPickler(file).dump(value)
        except Exception:  # noqa: BLE001  # whatever an object's own __reduce__ raises
            continue
        pickled[name] = file.getvalue()
        room -= len(pickled[name])
    return pickled


class _Bounded(io.BytesIO):
    """A file in memory that refuses to grow beyond a number of bytes."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__()
        self._most_bytes = most_bytes

    def write(self, data: Any, /) -> int:
        if self.tell() + memoryview(data).nbytes > self._most_bytes:
            raise ValueError(f"more than {self._most_bytes} bytes")
        return super().write(data)


def _cell_sources(namespace: Mapping[str, object]) -> dict[str, str]:
    """Return the texts of a notebook's cells that define functions and classes."""
    names = {
        code.co_filename
        for value in [*namespace.values()]
        if getattr(value, "__module__", None) == MAIN
        for code in _codes(value)
    }
    sources: dict[str, str] = {}
    for name in sorted(names):
        entry = linecache.cache.get(name, ())
        if len(entry) < 3 or Path(name).exists():  # size, time, lines, name
            continue
        sources[name] = "".join(entry[2])
    return sources if sum(map(len, sources.values())) <= MOST_SOURCE_BYTES else {}


def _codes(value: object) -> Iterator[types.CodeType]:
    members = [*vars(value).values()] if isinstance(value, type) else [value]
    for member in members:
        code = getattr(getattr(member, "__wrapped__", member), "__code__", None)
        if isinstance(code, types.CodeType):
            yield code
