"""Old pickles, read as the data that they hold: nothing in them is imported, built or run.

A pickle is a program. This module executes only the instructions that plain data needs, on values of its
own, also in pickles within the pickle. It creates numbers, texts, bytes, lists, tuples and dicts of texts.
A name such as `os.system` is never looked up: the caller supplies a value for it, or the pickle is
rejected. So the machinery of `pickle`, with its registries, classes and hooks, cannot be attacked, and
the cost of a pickle is limited.
"""

import io
from collections.abc import Mapping
from pathlib import Path

from trueface.runtime.errors import DataError
from trueface.runtime.original.pickle_machine import Budget, Refusal, run

MAX_FILE = 64 << 20  # bytes; a record of 200,000 images has 15 MB, a score file of them 3 MB
HOW_TO_GO_ON = "Nothing in it was executed. Get the file again from its author."


def load(
    path: Path, allowed_names: Mapping[str, object], *, budget: Budget | None = None
) -> object:
    """Return the one value of a pickle.

    Args:
        path: the file.
        allowed_names: what stands for each name that the file may use, by "module.name": a function
            that is called instead, or any other value, which its functions find in `Named`.
        budget: shared with the stand-ins that count on it.

    Raises:
        DataError: the file cannot be read, is truncated or too large, or requests any other name.
    """
    return decode(path, read(path), allowed_names, budget=budget)


def read(path: Path) -> bytes:
    """Return what a file holds.

    Raises:
        DataError: there is none, it cannot be read, or it is larger than any old file.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            raise DataError(f"{path} does not exist. Give an old score file or poison record.")
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if len(data) > MAX_FILE:
        raise DataError(f"{path} has more than {MAX_FILE} bytes, more than old files have")
    return data


def decode(
    path: Path,
    data: bytes,
    allowed_names: Mapping[str, object],
    *,
    start: int = 0,
    budget: Budget | None = None,
) -> object:
    """Return the value of the pickle that `data` holds from `start` to its end; see `load`."""
    if data.startswith(b"PK"):
        raise DataError(
            f"{path} is a zip archive of torch.save, not an old score file or poison record"
        )
    stream = io.BytesIO(data)
    stream.seek(start)
    try:
        value = run(stream, allowed_names, budget or Budget())
    except Refusal as refusal:
        raise DataError(f"{path} is refused: {refusal}. {HOW_TO_GO_ON}") from refusal
    if stream.tell() < len(data):
        raise DataError(
            f"{path} is refused: {len(data) - stream.tell()} bytes follow the end of its pickle, "
            f"as in a file of torch.save. {HOW_TO_GO_ON}"
        )
    return value
