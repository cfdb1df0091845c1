"""What a worker does for a job of the kind `function`: it loads the call, makes it, and stores what came of it."""

import contextlib
import errno
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

from launcher.functions.calls import call_of, read_call
from launcher.functions.outcome_files import write_exception, write_value
from launcher.functions.pickling import CannotLoad, name_of
from launcher.functions.plain_values import shown
from launcher.system.files import Json
from launcher.workers.forks import NotInherited, forks_end_here
from launcher.workers.job import Job

ROOM_PAUSE_S = 1.0  # before a value that did not fit on the disk is written again
_FULL = {errno.ENOSPC, errno.EDQUOT}


def call(job: Job) -> Mapping[str, Json]:
    """Make the call of a job; return what of its value screens and tables can show.

    Raises:
        BaseException: what the function raised; KeyboardInterrupt where the job was asked to end.
    """
    folder = job.attempt_folder
    try:
        with forks_end_here(), _interrupted_by(signal.SIGTERM, signal.SIGHUP, job=job):
            function, arguments, keywords = read_call(call_of(job.settings))
            value = function(*arguments, **keywords)
        _with_room(lambda: write_value(folder, name_of(function), value))
    except BaseException as error:
        if isinstance(error, CannotLoad):  # whose words do not say where it failed
            traceback.print_exception(error.__cause__)
        if not job.stop.is_set():  # else it is run again, or was cancelled
            with contextlib.suppress(OSError):  # a full disk must not hide the error itself
                write_exception(folder, error)
        raise
    return shown(value)


@contextlib.contextmanager
def _interrupted_by(*signals: signal.Signals, job: Job) -> Iterator[None]:
    """Raise KeyboardInterrupt in the function when its job is asked to end: it looks at no event."""

    def interrupt(number: int, _: FrameType | None) -> None:
        job.stop.set()
        raise KeyboardInterrupt(f"the job was asked to end ({signal.Signals(number).name})")

    handler = NotInherited(interrupt)
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        if job.stop.is_set():  # it came before
            raise KeyboardInterrupt("the job was asked to end")
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _with_room(write: Callable[[], None]) -> None:
    """Write, and wait for room where the disk is full: the value may have taken days to compute.

    Raises:
        OSError: another one.
    """
    warned = False
    while True:
        try:
            write()
        except OSError as error:
            if error.errno not in _FULL:
                raise
            if not warned:
                text = (
                    f"launcher: the call is done, and its value waits for room: {error.strerror}\n"
                )
                os.write(2, text.encode())
            warned = True
            time.sleep(ROOM_PAUSE_S)
        else:
            return
