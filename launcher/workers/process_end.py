"""The end of a worker's process, as Python ends: a job is done when its threads, child processes and handlers are.

The worker is a fork whose stack it must not leave, so it cannot let the interpreter end itself.
"""

import atexit
import gc
import io
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from launcher.workers.job_forks import ProcessLocalHandler
from launcher.workers.log_stream import LogFile

_FILE: Any = io.IOBase.__base__  # not the ABC, whose instance check may run code of the object
_PYTHON = {"_io", "io"}  # modules of Python's own files
_ends_here = False  # whether this process belongs to one job, and its end is still to come


def begin_process() -> None:
    """Begin the work of this process: handlers of the process that it was forked from are not run at its end.

    The modules of Python that are imported already get their handlers again.
    """
    global _ends_here
    _ends_here = True
    atexit._clear()  # noqa: SLF001  # as multiprocessing does
    for finalizer in getattr(weakref.finalize, "_registry", ()):
        finalizer.atexit = False
    setattr(weakref.finalize, "_registered_with_atexit", False)  # noqa: B010  # the next one registers itself
    for module, function in (("logging", "shutdown"), ("multiprocessing.util", "_exit_function")):
        if module in sys.modules:
            atexit.register(getattr(sys.modules[module], function))


def ends_here() -> bool:
    """Return whether this process ends after its job. Then its threads may need what the job has installed."""
    return _ends_here


def end_process(stop: threading.Event, warn: Callable[[str], None]) -> None:
    """Wait for threads and child processes, call the handlers of `atexit`, and flush files.

    If the job is asked to end, the wait is over, but the handlers are called.

    Args:
        stop: set when the job is asked to end.
        warn: called with a line about each file that cannot be written.

    Raises:
        KeyboardInterrupt: the job was asked to end meanwhile.
    """
    global _ends_here
    if not _ends_here:
        return
    _ends_here, was_asked = False, stop.is_set()
    with interrupted_by_signals(stop):
        if not was_asked:
            with suppress(KeyboardInterrupt):
                threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001  # likewise
        if stop.is_set() and (processes := sys.modules.get("multiprocessing.util")):
            # it waits for child processes
            atexit.unregister(processes._exit_function)  # noqa: SLF001  # likewise
        with suppress(KeyboardInterrupt):
            atexit._run_exitfuncs()  # noqa: SLF001  # as multiprocessing does
        with suppress(KeyboardInterrupt):
            _flush_files(warn)
    if stop.is_set() and not was_asked:
        raise KeyboardInterrupt("the job was asked to end before its process had ended")


@contextmanager
def interrupted_by_signals(stop: threading.Event) -> Iterator[None]:
    """Raise KeyboardInterrupt in a block when the job is asked to end, for code that does not check the event."""

    def interrupt(number: int, _: FrameType | None) -> None:
        stop.set()
        raise KeyboardInterrupt(f"the job was asked to end ({signal.Signals(number).name})")

    handler = ProcessLocalHandler(interrupt)
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _flush_files(warn: Callable[[str], None]) -> None:
    """Write what files hold in buffers: text, then what compresses or encodes it, then bytes.

    Files of other classes than Python's are closed, as Python does before it deletes them.
    """
    streams = [*map(id, (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__))]
    files = [each for each in gc.get_objects() if issubclass(type(each), _FILE)]
    text = [file.flush for file in files if issubclass(type(file), io.TextIOWrapper)]
    others = [
        file.close
        for file in files
        if not (type(file).__module__ in _PYTHON or id(file) in streams or type(file) is LogFile)
    ]
    byte_files = (io.BufferedWriter, io.BufferedRandom)
    data = [file.flush for file in files if issubclass(type(file), byte_files)]
    errors = [error for write in (*text, *others, *data) if (error := _attempt(write))]
    for reason in dict.fromkeys(map(str, errors)):  # text and its bytes fail for the same reason
        warn(f"launcher: an open file could not be written to its end: {reason}")
    if library := sys.modules.get("ctypes"):  # the buffers of C are used by extension modules only
        library.CDLL(None).fflush(None)


def _attempt(write: Callable[[], None]) -> OSError | None:
    try:
        write()
    except OSError as error:
        return error
    except Exception:  # noqa: BLE001  # a closed file, or what its class raises
        return None
    return None
