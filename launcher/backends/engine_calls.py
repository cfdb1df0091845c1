"""Calls to the engine of a backend, one at a time, each in a thread beside the scheduler: one that hangs stops no turn."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

from launcher.backends.protocol import Backend, EngineError

Answer = TypeVar("Answer")

LATE_S = 15.0  # an engine that takes longer is reported
HUNG_S = 120.0  # a call that takes longer is no longer waited for; commands have shorter limits
MOST_HUNG = 4  # threads that are left to themselves

logger = logging.getLogger(__name__)


class _Call:
    """A call under way; `finish` is there when it has come back."""

    def __init__(
        self,
        run: Callable[[Backend], Callable[[], None]],
        failed: Callable[[EngineError], None],
        since: float,
    ) -> None:
        self.run, self.failed, self.since = run, failed, since
        self.finish: Callable[[], None] | None = None


class _Worker:
    """A thread, and the engine that only it talks to."""

    def __init__(self, make: Callable[[], Backend], wake: Callable[[], None]) -> None:
        self._make, self._wake = make, wake
        self.inbox: SimpleQueue[_Call | None] = SimpleQueue()
        self.thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        backend: Backend | None = None
        while (call := self.inbox.get()) is not None:
            try:
                if backend is None:
                    backend = self._make()
                call.finish = call.run(backend)
            except EngineError as error:
                call.finish = partial(call.failed, error)
            except Exception as error:  # whatever it is, it ends no queue: it is reported
                logger.warning("engine trouble=%r", str(error), exc_info=error)
                call.finish = partial(call.failed, EngineError(f"{type(error).__name__}: {error}"))
            self._wake()


class EngineCalls:
    """Calls to one engine, one at a time."""

    def __init__(
        self, make: Callable[[], Backend], wake: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        """Begin without a thread.

        Args:
            make: returns the engine; called in the thread that talks to it.
            wake: called in that thread when a call has come back.
            clock: tells the time in seconds; nobody sets it.
        """
        self._make, self._wake, self._clock = make, wake, clock
        self._worker: _Worker | None = None
        self._call: _Call | None = None
        self._thread: threading.Thread | None = None  # of the call under way
        self._hung: list[threading.Thread] = []
        self.answered = False  # it has come back from a call, with whatever it said

    @property
    def busy(self) -> bool:
        """Whether a call is under way, or its answer has not been taken in."""
        return self._call is not None

    @property
    def ready(self) -> bool:
        """Whether `take_in` has something to do."""
        call = self._call
        return call is not None and (call.finish is not None or self.late_s > HUNG_S)

    @property
    def late_s(self) -> float:
        """How long the call under way has taken."""
        return 0.0 if self._call is None else self._clock() - self._call.since

    def begin(
        self,
        ask: Callable[[Backend], Answer],
        done: Callable[[Answer], None],
        failed: Callable[[EngineError], None],
    ) -> None:
        """Begin a call while none is under way.

        Args:
            ask: the call; made in the engine's thread.
            done: takes in the answer, in the thread that calls `take_in`.
            failed: likewise, where the engine did not do it.
        """
        assert self._call is None, "an engine is asked one thing at a time"
        if self._worker is None:
            self._worker = _Worker(self._make, self._wake)
        self._thread = self._worker.thread
        self._call = _Call(lambda backend: partial(done, ask(backend)), failed, self._clock())
        self._worker.inbox.put(self._call)

    def take_in(self) -> bool:
        """Take in the answer that has come; False where there is none."""
        call = self._call
        if call is None:
            return False
        if call.finish is not None:
            self._call, self.answered = None, True
            call.finish()
            return True
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        if self.late_s <= HUNG_S or len(self._hung) >= MOST_HUNG or self._thread is None:
            return False
        # whatever it still does, its answer is not taken in: what it did is seen by asking anew
        self._hung.append(self._thread)
        self.renew()
        self._call = None
        call.failed(EngineError(f"no answer for {HUNG_S:.0f} s"))
        return True

    def renew(self) -> None:
        """Let the thread end after its call; the next call makes another one, and the engine anew."""
        if self._worker is not None:
            self._worker.inbox.put(None)
            self._worker = None
