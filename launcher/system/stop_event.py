"""An event that a signal handler may set."""

import _thread
import threading


class StopEvent(threading.Event):
    """An event that a signal handler may set.

    A handler runs in the main thread between two of its instructions, so it may interrupt `wait`. There, `set` of the
    base class would wait forever for the lock that its own thread holds.
    """

    def __init__(self) -> None:
        """Begin unset."""
        super().__init__()
        self._is_requested = False

    def is_set(self) -> bool:
        """Return whether it was set, without waiting."""
        return self._is_requested

    def set(self) -> None:
        """Set it; waiting threads are woken by another thread."""
        self._is_requested = True
        try:
            _thread.start_new_thread(super().set, ())
        except RuntimeError:  # no thread can be started
            super().set()
