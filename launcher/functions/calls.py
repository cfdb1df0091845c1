"""Calls on their way to a job: one file for all calls of a submission, the function in it only once.

The file holds pickles one after another: the submitter's search path for modules, the function, then
the arguments of each call. A job's settings say where its own begin.
"""

import pickle
import secrets
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle

from launcher.errors import MachineError
from launcher.functions.names import SUFFIX
from launcher.functions.pickling import call_text, dump, load, name_of
from launcher.functions.plain_values import named_arguments
from launcher.functions.private_files import make_private_folder, open_private, write_private
from launcher.system.files import Json

REMEDY = "create it inside of the function, or pass what it is made from"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call in a file of calls, as the settings of its job have it."""

    text: str  # for people: `train(0.1, seed=3)`
    file: str
    offset: int  # of its arguments, in bytes
    arguments: Mapping[str, Json]  # those that people can read, by their names

    def settings(self) -> dict[str, Json]:
        """Return it as the settings of a job."""
        return {
            "call": self.text,
            "file": self.file,
            "offset": self.offset,
            "arguments": {**self.arguments},
        }


def call_of(settings: Mapping[str, Any]) -> Call:
    """Return the call of a job from its settings.

    Raises:
        KeyError: they are those of another kind.
    """
    return Call(
        text=str(settings["call"]),
        file=str(settings["file"]),
        offset=int(settings["offset"]),
        arguments=settings.get("arguments", {}),
    )


def write_calls(
    folder: Path,
    function: Callable[..., object],
    arguments: Iterable[Sequence[object]],
    keywords: Mapping[str, object],
) -> list[Call]:
    """Write the calls of a function into a new file; return them.

    Args:
        folder: made where it is not there.
        function: which is called.
        arguments: those of each call.
        keywords: that all calls have.

    Raises:
        CannotPickle: the function or an argument cannot be pickled; it is named.
        MachineError: others may write the folder.
        OSError: the disk is full, or the folder cannot be written.
    """
    make_private_folder(folder)
    name, path = name_of(function), folder / f"{secrets.token_hex(12)}{SUFFIX}"
    calls = []
    with write_private(path) as file:
        cloudpickle.dump([str(Path(entry or ".").absolute()) for entry in sys.path], file)
        dump(function, file, f"the function {name}", REMEDY)
        for given in arguments:
            at = file.tell()
            named = [
                *((f"argument {n}", value) for n, value in enumerate(given, 1)),
                *keywords.items(),
            ]
            dump((tuple(given), dict(keywords)), file, f"a call of {name}", REMEDY, named)
            text = call_text(name, tuple(given), keywords)
            plain = named_arguments(function, given, keywords)
            calls.append(Call(text=text, file=str(path), offset=at, arguments=plain))
    if not calls:
        path.unlink()
    return calls


def read_call(call: Call) -> tuple[Callable[..., object], tuple[object, ...], dict[str, object]]:
    """Return the function of a call and its arguments; its modules are looked for as its submitter did.

    Raises:
        MachineError: the file may be another user's, or is gone.
        CannotLoad: the function or an argument cannot be loaded.
    """
    try:
        with open_private(Path(call.file)) as file:
            _extend_search_path(pickle.load(file))  # ours: it was checked
            where = f"of {call.text} cannot be loaded in the job"
            function = load(file, f"the function {where}")
            file.seek(call.offset)
            arguments, keywords = load(file, f"an argument {where}")
    except FileNotFoundError as error:
        raise MachineError(
            f"{call.file} is gone, which holds the function and its arguments; submit it again"
        ) from error
    return function, arguments, keywords


def _extend_search_path(submitters: Sequence[str]) -> None:
    sys.path[:] = dict.fromkeys([*submitters, *sys.path])
