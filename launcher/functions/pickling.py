"""Functions and values as pickles in files that nobody but their owner can have written.

Where one cannot be pickled, the object inside of it that is to blame is named. Who can write a pickle can run code as
whoever loads it: files are written for their owner alone, and checked before they are unpickled.
"""

import functools
import inspect
import io
import os
import pickle
import stat
import traceback
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import cloudpickle

from launcher.errors import JobError, MachineError, UsageError
from launcher.system.files import sync

_MOST_LEVELS = 12  # of objects inside objects among which the culprit is looked for
_LONGEST = 200  # characters of an error's own words


Parts = Iterable[tuple[str, object]]


class CannotPickle(UsageError):
    """A function, one of its arguments, or what it returned cannot be pickled."""


class CannotLoad(JobError):
    """A function, one of its arguments, or what it returned cannot be loaded where it is needed."""


def load(file: BinaryIO, what: str) -> Any:
    """Return the next value of a file that `dump` wrote, and nobody else.

    Args:
        file: which is read.
        what: names the value in a message, and where it is loaded.

    Raises:
        CannotLoad: it cannot be made again, such as for the lack of a module; caused by the error.
    """
    try:
        return pickle.load(file)  # its folder and its owner were checked
    except MemoryError:
        raise
    except Exception as error:  # whatever the functions raise that a pickle calls
        words = f"{type(error).__name__}: {error}"
        raise CannotLoad(f"{what}: {words}") from error


def dump(
    value: object,
    file: BinaryIO,
    what: str,
    remedy: str,
    parts: Parts = (),
    *,
    pickler: type[cloudpickle.Pickler] = cloudpickle.Pickler,
) -> None:
    """Append the pickle of a value to a file; functions and classes of a script or notebook go whole.

    Args:
        value: what is pickled.
        file: which is written to.
        what: names the value in a message.
        remedy: says there what to do.
        parts: of the value, by the names that they have there; none: those that Python shows.
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
        raise CannotPickle(f"{what} cannot be pickled: {blame}. {remedy}.") from error


def _type_name(value: object) -> str:
    kind = type(value)
    own = kind.__module__ == "builtins"
    return kind.__qualname__ if own else f"{kind.__module__}.{kind.__qualname__}"


def _culprit(value: object, parts: Parts, pickler: type[cloudpickle.Pickler]) -> tuple[str, object]:
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


def _can_be_pickled(value: object, pickler: type[cloudpickle.Pickler]) -> bool:
    try:
        pickler(_Nowhere()).dump(value)
    except Exception:  # noqa: BLE001  # likewise
        return False
    return True


class _Nowhere(io.RawIOBase):
    """A file that keeps nothing: what is tried may be large."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        return memoryview(data).nbytes


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """Give what an object holds, each with the way to it from there."""
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
    """Give the variables that a function takes along: of its closure, of its module, and defaults."""
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
    """Return what people call a function: its own name, of a partial that of the function in it."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", "") or type(function).__name__
    return "lambda" if name == "<lambda>" else name


# --- files for their owner alone

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a named pipe must not block
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@contextmanager
def write_private(path: Path) -> Iterator[BinaryIO]:
    """Give a new file to write, which is synced at the end; it is removed where the writing fails.

    Nobody reads it before its job is queued, or is done: it needs no rename, which costs one more sync.

    Raises:
        FileExistsError: there is one of this name.
        OSError: the disk is full, or the folder cannot be written.
    """
    descriptor = os.open(path, _NEW, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123  # a descriptor, not a path
            yield file
            file.flush()
            os.fsync(descriptor)
        sync(path.parent)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def open_private(path: Path) -> Iterator[BinaryIO]:
    """Open a file that nobody but its owner can have written, in a folder of which the same holds.

    Raises:
        MachineError: it is another user's, or others may write it or its folder.
        FileNotFoundError: there is none.
        OSError: it cannot be read.
    """
    folder = os.open(path.parent, _FOLDER)
    try:
        _refuse_shared(os.fstat(folder), path.parent)
        descriptor = os.open(path.name, _FILE, dir_fd=folder)
    finally:
        os.close(folder)
    with open(descriptor, "rb") as file:  # noqa: PTH123  # likewise
        there = os.fstat(descriptor)
        if not stat.S_ISREG(there.st_mode):
            raise MachineError(f"{path} is not a regular file")
        _refuse_shared(there, path)
        yield file


def make_private_folder(folder: Path) -> None:
    """Make a folder for such files, unless it is there.

    Raises:
        MachineError: it is another user's, or others may write it.
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_shared(folder.stat(), folder)


def _refuse_shared(there: os.stat_result, path: Path) -> None:
    if there.st_uid != os.geteuid():
        raise MachineError(
            f"{path} belongs to user {there.st_uid}. A pickle of another user is not loaded, because it "
            "could run code as you."
        )
    if there.st_mode & _OTHERS_WRITE:
        raise MachineError(
            f"other users may write {path} (mode {stat.S_IMODE(there.st_mode):o}), so its pickle is not "
            f"loaded. If they have not changed it: chmod go-w {path}"
        )


# --- what came of a call: the value, or the exception with its traceback, in its attempt's folder

VALUE, EXCEPTION = "value.pickle", "exception.pickle"
_REMEDY = "Return numbers or arrays, for example, or write a file and return its path"


class RemoteTraceback(Exception):
    """The traceback of the process in which a call failed: the cause of the exception that is raised here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def write_value(folder: Path, name: str, value: object) -> None:
    """Store what a function returned.

    Raises:
        CannotPickle: it cannot be pickled.
        OSError: the disk is full.
    """
    (folder / VALUE).unlink(missing_ok=True)  # in part, of a try that found no room
    with write_private(folder / VALUE) as file:
        dump(value, file, f"the return value of {name}", _REMEDY)


def write_exception(folder: Path, error: BaseException) -> None:
    """Store what a function raised, with its traceback.

    Raises:
        OSError: the disk is full.
    """
    text = "".join(traceback.format_exception(error))
    words = traceback.format_exception_only(error)[-1].strip()
    (folder / EXCEPTION).unlink(missing_ok=True)  # likewise
    with write_private(folder / EXCEPTION) as file:
        pickle.dump((words, text, _pickled(error)), file)


def _pickled(error: BaseException) -> bytes | None:
    """Return an exception as a pickle, None where it cannot be made again from one."""
    file = io.BytesIO()
    try:
        dump(error, file, "", "")
        pickle.loads(file.getvalue())  # our own; many exceptions need other arguments
    except Exception:  # noqa: BLE001  # whatever its class raises
        return None
    return file.getvalue()


def read_value(folder: Path, name: str) -> object:
    """Return what a function returned; `name` is that of its job.

    Raises:
        CannotLoad: it cannot be loaded here.
        FileNotFoundError: nothing is stored.
        MachineError: the file may be another user's.
    """
    with open_private(folder / VALUE) as file:
        return load(file, f"the return value of {name} cannot be loaded here")


def read_exception(folder: Path) -> BaseException | None:
    """Return what a function raised, caused by the traceback of its process; None: nothing is stored.

    Raises:
        MachineError: the file may be another user's.
    """
    try:
        with open_private(folder / EXCEPTION) as file:
            words, text, pickled = pickle.load(file)  # ours: it was checked
    except FileNotFoundError:
        return None
    error: BaseException = JobError(words)
    if pickled is not None:
        with suppress(Exception):  # its module is not installed here
            error = pickle.loads(pickled)  # likewise
    error.__cause__ = RemoteTraceback(text)
    return error
