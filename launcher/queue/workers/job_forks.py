"""Forks of a job: a fork is a copy of its worker, which must neither continue as the worker nor report for it."""

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

Handler = Callable[[int, FrameType | None], object]
_HANDLED = (signal.SIGTERM, signal.SIGHUP)


class ProcessLocalHandler:
    """A handler of SIGTERM or SIGHUP for this process alone: its forks die of them, as any program does."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle

    def __call__(self, signal_number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self._handle(signal_number, frame)


class _Forking(threading.local):
    """The signals that a forking thread had blocked before; None if nothing had to be blocked."""

    mask: set[int] | None = None


_forking = _Forking()


def _before_fork() -> None:
    """Hold signals back: Python forgets in a fork those that come before it is all there."""
    inherited = any(
        isinstance(signal.getsignal(number), ProcessLocalHandler) for number in _HANDLED
    )
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED) if inherited else None


def _after_fork_in_parent() -> None:
    if _forking.mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _after_fork_in_child() -> None:
    for number in _HANDLED:
        if isinstance(signal.getsignal(number), ProcessLocalHandler):
            signal.signal(number, signal.SIG_DFL)
    _after_fork_in_parent()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)


@contextlib.contextmanager
def exit_in_forks() -> Iterator[None]:
    """End a fork that leaves the block, because only its parent may report the result of the block.

    It ends as a script of Python does, with 0, with 1 after an exception, or as `sys.exit` says.
    """
    owner = os.getpid()
    try:
        yield
    except BaseException as error:
        if os.getpid() != owner:
            _exit_fork(error)
        raise
    if os.getpid() != owner:
        _exit_fork(None)


def _exit_fork(error: BaseException | None) -> NoReturn:
    code = 0 if error is None else 1
    try:
        if isinstance(error, SystemExit) and isinstance(error.code, int | None):
            code = error.code or 0
        elif isinstance(error, SystemExit):
            sys.stderr.write(f"{error.code}\n")
        elif error is not None:
            traceback.print_exception(error)
    finally:
        try:
            _flush()
        finally:
            os._exit(code & 0xFF)


def _flush() -> None:
    """Flush the printed text, even if a job has replaced the streams."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
