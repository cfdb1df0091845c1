"""Work in a folder that may not answer, such as a folder of a dead server; the work is abandoned after a time.

A thread that waits there cannot be ended. It is left alone, and there is at most one per folder. Until it returns,
nothing else is tried in that folder. When it returns, its work takes effect late. So the work must be safe to do twice.
"""

import _thread
import errno
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

WorkResult = TypeVar("WorkResult")

TIMEOUT_S = 1.0  # all other work waits this long, once for each folder that hangs
MOST_HANG = 64  # threads that are left alone


class FilesystemTimeout(OSError):
    """A folder does not answer; its `strerror` says which."""

    def __init__(self, folder: str) -> None:
        super().__init__(errno.ETIMEDOUT, f"the folder {folder} does not respond")


# folder → queue for the late result, which is not used
_abandoned_work: dict[str, SimpleQueue[Any]] = {}


def run_with_timeout(folder: Path | str, work: Callable[[], WorkResult]) -> WorkResult:
    """Do work in a folder, if that answers in time.

    Args:
        folder: key under which waiting work is recorded.
        work: is done in another thread, and may end long after it was abandoned.

    Raises:
        FilesystemTimeout: it was abandoned, or earlier work in this folder was and has not returned.
    """
    name = str(folder)
    if name in _abandoned_work or len(_abandoned_work) >= MOST_HANG:
        for back in [there for there, late in _abandoned_work.items() if not late.empty()]:
            del _abandoned_work[back]
        if name in _abandoned_work or len(_abandoned_work) >= MOST_HANG:
            raise FilesystemTimeout(name)
    answers: SimpleQueue[tuple[WorkResult, None] | tuple[None, BaseException]] = SimpleQueue()

    def answer() -> None:
        try:
            answers.put((work(), None))
        except BaseException as error:  # noqa: BLE001  # it is raised where the answer is waited for
            answers.put((None, error))

    _thread.start_new_thread(answer, ())
    try:
        value, error = answers.get(timeout=TIMEOUT_S)
    except Empty:
        _abandoned_work[name] = answers
        raise FilesystemTimeout(name) from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # a value exists if there is no error
