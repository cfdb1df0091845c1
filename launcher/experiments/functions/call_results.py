"""The result of a call in the folder of its attempt: the returned value, or the exception with its traceback."""

import io
import pickle
import traceback
from contextlib import suppress
from pathlib import Path

from launcher.experiments.functions.pickling import dump, load
from launcher.experiments.functions.private_files import open_private, write_private
from launcher.system.errors import JobError

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
    """Store the return value of a function.

    Raises:
        CannotPickle: it cannot be pickled.
        OSError: the disk is full.
    """
    (folder / VALUE).unlink(missing_ok=True)  # in part, of a try that found no room
    with write_private(folder / VALUE) as file:
        dump(value, file, f"the return value of {name}", _REMEDY)


def write_exception(folder: Path, error: BaseException) -> None:
    """Store the exception of a function, with its traceback.

    Raises:
        OSError: the disk is full.
    """
    text = "".join(traceback.format_exception(error))
    words = traceback.format_exception_only(error)[-1].strip()
    (folder / EXCEPTION).unlink(missing_ok=True)  # likewise
    with write_private(folder / EXCEPTION) as file:
        pickle.dump((words, text, _pickle_error(error)), file)


def _pickle_error(error: BaseException) -> bytes | None:
    """Return an exception as a pickle, None if it cannot be restored from one."""
    file = io.BytesIO()
    try:
        dump(error, file, "", "")
        pickle.loads(file.getvalue())  # our own; many exceptions need other arguments
    except Exception:  # noqa: BLE001  # whatever its class raises
        return None
    return file.getvalue()


def read_value(folder: Path, name: str) -> object:
    """Return the stored return value of a function; `name` is that of its job.

    Raises:
        CannotLoad: it cannot be loaded here.
        FileNotFoundError: nothing is stored.
        MachineError: the file may be another user's.
    """
    with open_private(folder / VALUE) as file:
        return load(file, f"the return value of {name} cannot be loaded here")


def read_exception(folder: Path) -> BaseException | None:
    """Return the exception of a function, caused by the traceback of its process. None if nothing is stored.

    Raises:
        MachineError: the file may be another user's.
    """
    try:
        with open_private(folder / EXCEPTION) as file:
            words, text, pickled = pickle.load(file)  # our own file, whose owner was checked
    except FileNotFoundError:
        return None
    error: BaseException = JobError(words)
    if pickled is not None:
        with suppress(Exception):  # the exception's module is not installed here
            error = pickle.loads(pickled)  # likewise
    error.__cause__ = RemoteTraceback(text)
    return error
