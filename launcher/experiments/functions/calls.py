"""Function calls of jobs: one file for all calls of a submission, with the function only once, and their text for users.

The file contains pickles one after another: the submitting script, the function, then the arguments of each
call. A job's settings contain the position of its own arguments.
"""

import hashlib
import inspect
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from numbers import Integral, Rational, Real
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeGuard

from launcher.experiments.functions.main_module import (
    MAIN,
    CallPickler,
    Script,
    add_values,
    describe_script,
    dump_script,
    load_script,
)
from launcher.experiments.functions.pickling import Nowhere, Writable, dump, load, name_of
from launcher.experiments.functions.private_files import (
    make_private_folder,
    open_private,
    write_private,
)
from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.job import FUNCTION
from launcher.system.errors import MachineError
from launcher.system.files import Json

if TYPE_CHECKING:  # workers import this module, and open no queue
    from launcher.queue.store.queue import Store
    from launcher.queue.store.rows import JobRow

KIND = FUNCTION
ENTRY = "launcher.experiments.functions.entry:call"
PRELOAD = ("launcher.experiments.functions.entry",)  # with cloudpickle, once for all workers
FOLDER = "functions"  # folder of the calls: in the home, or in the folder of pilots
SUFFIX = ".calls"
FILE = "file"  # the setting of a job that names the file with its call
YOUNG_S = 3600.0  # a submission that writes arguments of many GB may take a while

MOST = 50  # entries of a dict that are shown
LONGEST_TEXT = 200
_LONGEST = 200  # characters of a call
_DIGEST = 32  # characters of a digest
_SHORT_BITS, _SHORT_TEXT = 64, 40  # bits and characters of arguments that are written out
_BITS = 63  # bits of a whole number that databases and spreadsheets hold, without the sign
REMEDY = "Create it inside the function, or pass the values that it is made from"


class Call(NamedTuple):
    """One call in a file of calls, as the settings of its job have it."""

    call: str  # for users: `train(0.1, seed=3)`
    file: str  # relative if the file is in the queue folder
    offset: int  # place of the call's arguments in the file, in bytes
    arguments: Mapping[str, Json]  # those with a readable value, by their names
    identity: str = ""  # identity of equal calls; '' if calls of the function are never equal

    def settings(self) -> dict[str, Json]:
        """Return it as the settings of a job."""
        return {**self._asdict(), "arguments": {**self.arguments}}


class CallLabel(NamedTuple):
    """The name and the parameters that users see of a call, instead of its function and its arguments."""

    name: str  # name of the function
    params: Mapping[str, Json]  # the arguments that results show
    identity: str = ""  # identity of equal calls; '' if no call is equal

    def label_call(self, call: Call) -> Call:
        """Return a call with this label."""
        digest = hashlib.sha256(self.identity.encode()).hexdigest()[:_DIGEST]
        return call._replace(
            call=call_text(self.name, (), self.params),
            arguments=self.params,
            identity=digest if self.identity else "",
        )


def call_of(settings: Mapping[str, Any]) -> Call:
    """Return the call of a job from its settings.

    Raises:
        KeyError: they are those of another job type.
    """
    call, file, offset = (settings[name] for name in ("call", "file", "offset"))
    return Call(str(call), str(file), int(offset), settings.get("arguments", {}))


def write_calls(
    folder: Path,
    function: Callable[..., object],
    arguments: Iterable[Sequence[object]],
    keywords: Mapping[str, object],
) -> list[Call]:
    """Write the calls of a function into a new file; return them.

    Args:
        folder: the folder of the file, created if it does not exist.
        function: which is called.
        arguments: arguments of each call.
        keywords: that all calls have.

    Raises:
        CannotPickle: the function or an argument cannot be pickled; it is named.
        MachineError: others may write the folder.
        OSError: the disk is full, or the folder cannot be written.
    """
    make_private_folder(folder)
    name, path = name_of(function), folder / f"{os.urandom(12).hex()}{SUFFIX}"
    calls, script = [], describe_script()
    identity = function_identity(function, script.file)
    with write_private(path) as file:
        dump_script(script, file)
        dump(function, file, f"the function {name}", REMEDY, pickler=CallPickler)
        for given in arguments:
            at = file.tell()
            hashing = _HashingFile(file, f"{identity}\0")
            _dump_arguments(name, given, keywords, hashing)
            text = call_text(name, tuple(given), keywords)
            plain = named_arguments(function, given, keywords)
            digest = hashing.hexdigest() if identity else ""
            calls.append(Call(text, str(path), at, plain, digest))
    if not calls:
        path.unlink()
    return calls


def _dump_arguments(
    name: str, arguments: Sequence[object], keywords: Mapping[str, object], file: Writable
) -> None:
    parts = [
        *((f"argument {n}", value) for n, value in enumerate(arguments, 1)),
        *keywords.items(),
    ]
    value = (tuple(arguments), dict(keywords))
    dump(value, file, f"a call of {name}", REMEDY, parts, pickler=CallPickler)


def refuse_unpicklable_calls(
    calls: Iterable[tuple[Callable[..., object], Sequence[object], Mapping[str, object]]],
) -> None:
    """Refuse calls of which one job executes several: name the function and the argument that cannot be pickled.

    Args:
        calls: function, arguments and keywords of each.

    Raises:
        CannotPickle: a function or an argument cannot be pickled.
    """
    for function, given, keywords in calls:
        name = name_of(function)
        dump(function, Nowhere(), f"the function {name}", REMEDY, pickler=CallPickler)
        _dump_arguments(name, given, keywords, Nowhere())


def function_identity(function: Callable[..., object], script: str | None) -> str:
    """Return the module and the name of a function; '' if another function may have both and differ in values.

    Args:
        function: which is called.
        script: file of the script that runs; None for a notebook or a prompt.
    """
    of_object = not isinstance(getattr(function, "__self__", None), ModuleType | None)
    if not inspect.isroutine(function) or of_object or getattr(function, "__closure__", None):
        return ""
    owner = getattr(function, "__objclass__", function)  # methods of C types name no module
    module, name = owner.__module__, function.__qualname__
    if name.endswith("<lambda>"):
        return ""
    return f"{script if module == MAIN else module} {name}"


class _HashingFile:
    """A file that computes a digest of its new bytes."""

    def __init__(self, file: BinaryIO, start: str) -> None:
        self._file, self._digest = file, hashlib.sha256(start.encode())

    def write(self, data: bytes) -> int:
        """Write bytes and add them to the digest."""
        self._digest.update(data)
        return self._file.write(data)

    def hexdigest(self) -> str:
        """Return the digest of all bytes that were written."""
        return self._digest.hexdigest()[:_DIGEST]


def relative_to_home(call: Call, home: Home) -> Call:
    """Return a call whose file is named relative to the queue folder, which may be moved, if it is in there."""
    path = Path(call.file)
    inside = path.is_relative_to(home.folder)
    return call._replace(file=str(path.relative_to(home.folder))) if inside else call


def find_file(call: Call, attempt: Attempt) -> Call:
    """Return a call with the absolute path of its file, as the process of an attempt sees it.

    The attempt is in the queue folder, or in the folder of a pilot, which has the file in the folder around it.
    """
    above = attempt.folder.parent.parent
    places = (above / call.file, above.parent / FOLDER / Path(call.file).name)
    found = next((path for path in places if path.exists()), places[0])
    return call._replace(file=str(found))


def read_script(call: Call) -> Script:
    """Return the script that submitted a call.

    Raises:
        MachineError: the file may be another user's, or is gone.
    """
    with _open_call(call) as file:
        return load_script(file)


def read_call(
    call: Call, path: Sequence[str] | None = None
) -> tuple[Callable[..., object], tuple[object, ...], dict[str, object]]:
    """Return the function of a call and its arguments; its modules are looked for as its submitter did.

    Args:
        call: the call.
        path: other folders for modules than those of its submitter.

    Raises:
        MachineError: the file may be another user's, or is gone.
        CannotLoad: the function or an argument cannot be loaded.
    """
    with _open_call(call) as file:
        script = load_script(file)
        sys.path[:] = dict.fromkeys([*(script.path if path is None else path), *sys.path])
        where = f"of {call.call} cannot be loaded in the job"
        function = load(file, f"the function {where}")
        file.seek(call.offset)
        arguments, keywords = load(file, f"an argument {where}")
    add_values([function, *arguments, *keywords.values()])
    return function, arguments, keywords


@contextmanager
def _open_call(call: Call) -> Iterator[BinaryIO]:
    try:
        with open_private(Path(call.file)) as file:
            yield file
    except FileNotFoundError as error:
        raise MachineError(
            f"{call.file}, which contains the function and its arguments, was deleted. Submit it again."
        ) from error


def call_text(name: str, arguments: tuple[object, ...], keywords: Mapping[str, object]) -> str:
    """Return a call as Python code. The type replaces an argument that is not short: `train(0.1, <ndarray>)`."""
    words = [_short_text(value) for value in arguments]
    words += [f"{key}={_short_text(value)}" for key, value in keywords.items()]
    text = f"{name}({', '.join(words)})"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _short_text(value: object) -> str:
    match value:
        case None | bool():
            return str(value)
        case int() if value.bit_length() <= _SHORT_BITS:
            return str(int(value))
        case float():
            return str(float(value))
        case str() if len(value) <= _SHORT_TEXT:
            return repr(str(value))
    return f"<{type(value).__name__}>"


def plain_result(value: object) -> dict[str, Json]:
    """Return what of a returned value can be seen, of a dict by its names; nothing of one that is too large.

    NaN and infinity are seen, or a number of the log would be in their place.
    """
    named = value if isinstance(value, Mapping) else {"value": value}
    seen = {
        key: float(each) if _is_infinite(each) else plain_value(each)
        for key, each in named.items()
        if isinstance(key, str)
    }
    seen = {key: each for key, each in seen.items() if each is not None}
    return seen if len(seen) <= MOST else {}


def _is_infinite(value: object) -> TypeGuard[Real]:
    return isinstance(value, Real) and not isinstance(value, Rational) and not math.isfinite(value)


def named_arguments(
    function: Callable[..., object], arguments: Sequence[object], keywords: Mapping[str, object]
) -> dict[str, Json]:
    """Return the arguments of a call that can be seen, by their names; none of a function that hides these."""
    try:
        bound = inspect.signature(function).bind(*arguments, **keywords)
    except (TypeError, ValueError):
        # a builtin; or arguments that do not fit, which the job reports
        return {}
    return plain_items(bound.arguments)


def plain_items(values: Mapping[object, object] | Mapping[str, object]) -> dict[str, Json]:
    """Return those of some values that can be seen, by their names."""
    return {
        key: plain
        for key, value in values.items()
        if isinstance(key, str) and (plain := plain_value(value)) is not None
    }


def plain_value(value: object) -> Json:
    """Return a value as JSON has it, None where it cannot be seen."""
    match value:
        case bool():
            return value
        case Integral() if int(value).bit_length() <= _BITS:
            return int(value)
        case Rational():  # too large, or a fraction
            return None
        case Real() if math.isfinite(value):  # also the scalars of NumPy
            return float(value)
        case str() if len(value) <= LONGEST_TEXT:
            return str(value)
    return None


# --- files that no job needs any more


def unused_calls(home: Home, store: "Store", jobs: "Iterable[JobRow]") -> list[Path]:
    """Return the files that no job names, apart from the jobs in `jobs`.

    A submission that was killed before its jobs were in the queue leaves such a file, too.

    Args:
        home: the queue's.
        store: its database.
        jobs: jobs that will be deleted from the queue, or were.
    """
    listed = [job for job in jobs if job.kind == KIND]
    folder = home.folder / FOLDER
    if not listed and not folder.exists():
        return []  # a queue may have a million other jobs
    stored = store.read.setting_values(KIND, FILE, exclude=[job.id for job in listed])
    used = {Path(file).name for file in stored}  # names are random: the folder may have been moved
    files: set[Path] = set()
    for file in {str(job.spec.settings.get(FILE, "")) for job in listed}:
        path = home.folder / file
        moved = folder / path.name
        files |= {moved if moved.exists() else path} if file.endswith(SUFFIX) else set()
    before = time.time() - YOUNG_S
    for path in folder.glob(f"*{SUFFIX}"):
        with suppress(FileNotFoundError):
            files |= {path} if path.lstat().st_mtime < before else set()
    return sorted(path for path in files if path.name not in used and path.is_file())
