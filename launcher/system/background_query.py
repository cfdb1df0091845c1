"""Queries that may hang, each in a thread of its own: the newest answer, the error, and how long a query has been running."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class BackgroundQuery(Generic[Answer]):
    """One query at a time. A thread that never returns delays neither its owner nor the end of the process."""

    def __init__(
        self,
        name: str,
        wake: Callable[[], None] | None = None,
        *,
        expected_error: type[BaseException] | tuple[type[BaseException], ...] = Exception,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without a query.

        Args:
            name: name of the thread.
            wake: called in the thread at the end of a query.
            expected_error: errors that are only recorded. Another one also ends the thread with a traceback.
            clock: returns the time in seconds.
        """
        self._name, self._wake, self._expected, self._clock = name, wake, expected_error, clock
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._started_at: float | None = None  # None: no query is running
        self.finished_at: float | None = (
            None  # time at which the last query ended, with or without an error
        )
        self.answer: Answer | None = (
            None  # answer of the last query without an error; None: there was no such query
        )
        self.error: BaseException | None = None  # error of the last query

    @property
    def is_running(self) -> bool:
        """Whether a query is running."""
        return self._started_at is not None

    @property
    def elapsed_s(self) -> float:
        """Duration of the running query in seconds; 0 without one."""
        started_at = self._started_at
        return 0.0 if started_at is None else self._clock() - started_at

    def begin(self, query: Callable[[], Answer]) -> bool:
        """Begin a query unless one is running. Return whether it begins."""
        with self._lock:
            if self._started_at is not None:
                return False
            self._started_at = self._clock()
            self._thread = threading.Thread(
                target=self._run, args=(query,), name=self._name, daemon=True
            )
        try:
            self._thread.start()
        except RuntimeError:  # there are too many threads
            self.abandon()
            raise
        return True

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the running query for some time."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def abandon(self) -> threading.Thread | None:
        """Ignore the running query from now on, so that another one may begin. Return its thread."""
        with self._lock:
            thread, self._thread, self._started_at = self._thread, None, None
        return thread

    def _run(self, query: Callable[[], Answer]) -> None:
        answer, failure = None, None
        try:
            answer = query()
        except BaseException as error:
            failure = error
            if not isinstance(error, self._expected):
                raise
        finally:
            self._record(answer, failure)
            if self._wake is not None:
                self._wake()

    def _record(self, answer: Answer | None, failure: BaseException | None) -> None:
        with self._lock:
            if self._thread is not threading.current_thread():
                return  # the query was abandoned
            if failure is None:
                self.answer = answer
            self.error, self.finished_at = failure, self._clock()
            self._started_at = None  # set last: a reader that sees None reads the new answer
