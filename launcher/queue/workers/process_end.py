"""The end of a worker's process, as Python ends: a job is done when its threads, child processes and handlers are.

The worker is a fork whose stack it must not leave, so it cannot let the interpreter end itself.
"""

import atexit
import gc
import io
import select
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from launcher.queue.workers.job_forks import ProcessLocalHandler
from launcher.queue.workers.log_stream import LogFile
from launcher.system.text import sanitize_terminal

_FILE: Any = io.IOBase.__base__  # not the ABC, whose instance check may run code of the object
_PYTHON = {"_io", "io"}  # modules of Python's own files
_NOTE_AFTER_S = 2.0  # seconds; most threads and child processes have ended by then
_MOST_NAMED = 3  # threads and child processes in a message
_HANDLERS = "handlers of atexit"
_UNKNOWN = (OSError, ValueError)  # a child process was closed while its name was read
_ends_here = False  # whether this process belongs to one job and has not ended yet


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


class WaitInterrupted(KeyboardInterrupt):
    """The job was asked to end while its process waited; its text names the reason for the wait."""


def end_process(
    stop: threading.Event, warn: Callable[[str], None], end_text: str = "returned"
) -> None:
    """Wait for threads and child processes, call the handlers of `atexit`, and flush files.

    If the job is asked to end, the wait is over, but the handlers are called.

    Args:
        stop: set when the job is asked to end.
        warn: called with a line about each file that cannot be written, and once if the wait takes long.
        end_text: what the job's function has done.

    Raises:
        WaitInterrupted: the job was asked to end meanwhile.
    """
    global _ends_here
    if not _ends_here:
        return
    _ends_here = False
    with _note_of_wait(stop, warn, end_text):
        was_asked, awaited = stop.is_set(), _HANDLERS
        with interrupted_by_signals(stop):
            if not was_asked:
                with suppress(KeyboardInterrupt):
                    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001  # likewise
            with suppress(KeyboardInterrupt, *_UNKNOWN):
                awaited = (
                    _list_awaited()
                )  # now, or next: the handlers of atexit suppress an interrupt
            if stop.is_set() and (processes := sys.modules.get("multiprocessing.util")):
                # it waits for child processes
                atexit.unregister(processes._exit_function)  # noqa: SLF001  # likewise
            with suppress(KeyboardInterrupt):
                atexit._run_exitfuncs()  # noqa: SLF001  # as multiprocessing does
            with suppress(KeyboardInterrupt):
                _flush_files(warn)
    if stop.is_set() and not was_asked:
        raise WaitInterrupted(f"the function had {end_text}, and its process waited for {awaited}")


@contextmanager
def _note_of_wait(
    stop: threading.Event, warn: Callable[[str], None], end_text: str
) -> Iterator[None]:
    """Write once what a block waits for, if it takes long."""

    def write() -> None:
        with suppress(*_UNKNOWN):
            if not stop.is_set():
                warn(f"note: the function has {end_text}; its process waits for {_list_awaited()}")

    timer = threading.Timer(_NOTE_AFTER_S, write)
    timer.daemon = True  # the end of the process does not wait for the timer
    with suppress(RuntimeError):  # no more threads can be started
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _list_awaited() -> str:
    """Return the names of the threads and child processes for which Python waits at its end."""
    names = [
        f"thread {sanitize_terminal(thread.name)}"
        for thread in threading.enumerate()
        if not thread.daemon and thread is not threading.main_thread()
    ]
    if library := sys.modules.get("multiprocessing.process"):
        # `active_children` would collect them, while the main thread waits for them
        children = [child for child in {*library._children} if not child.daemon]  # noqa: SLF001
        names += [f"process {child.pid}" for child in children if not _has_ended(child.sentinel)]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{', '.join(names[:_MOST_NAMED])}{more}" or _HANDLERS


def _has_ended(sentinel: int) -> bool:
    """Return whether a child process has ended, by its file descriptor."""
    poll = select.poll()
    poll.register(sentinel, select.POLLIN)
    return bool(poll.poll(0))


@contextmanager
def interrupted_by_signals(stop: threading.Event) -> Iterator[None]:
    """Raise KeyboardInterrupt in a block when the job is asked to end, for code that does not check the event."""

    def interrupt(signal_number: int, _: FrameType | None) -> None:
        stop.set()
        raise KeyboardInterrupt(f"the job was asked to end ({signal.Signals(signal_number).name})")

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
