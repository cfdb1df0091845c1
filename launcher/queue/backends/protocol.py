"""Interface of backends: submit, observe and cancel pilots, and collect their logs.

Calls to a backend are made one at a time, each in its own thread. A call that hangs blocks no turn of the scheduler.

Jobs and their outcomes are exchanged only through the files between scheduler and pilot (`launcher.pilots`). A backend
is never asked about a job. If it does not answer, the states of its pilots are unknown. A new kind of backend is a
module of this package and a word of `KINDS`.
"""

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from functools import partial
from importlib import import_module
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeVar

from launcher.queue.backends.pilot_folder import PilotFolder, PilotSpec
from launcher.queue.backends.settings import BackendSettings
from launcher.queue.home.paths import Home
from launcher.system.background_query import BackgroundQuery
from launcher.system.errors import MachineError

NO_NODES: Mapping[str, str] = MappingProxyType({})


class EngineError(MachineError):
    """A backend failed or did not answer. The states of its pilots are unknown then."""


class SubmissionRefused(EngineError):
    """A backend accepted no pilot and will accept none until its configuration changes."""


class AllocationState(StrEnum):
    """State of a pilot in its backend."""

    WAITING = "waiting"  # in the queue of the backend
    RUNNING = "running"  # on a node, registered or not
    ENDED = "ended"  # the backend reports the pilot's end
    UNKNOWN = "unknown"  # the backend answers and does not list the pilot


class AllocationEndCause(StrEnum):
    """Cause of the end of a pilot, as its backend reports it."""

    COMPLETED = "completed"  # the pilot ended by itself
    PREEMPTED = "preempted"
    NODE_FAILED = "node failed"
    TIME_LIMIT = "time limit"
    MEMORY = "out of memory"
    CANCELLED = "cancelled"
    FAILED = "failed"
    UNKNOWN = "unknown"  # the backend no longer lists the pilot


class Observation(NamedTuple):
    """Report of a backend about one pilot."""

    stage: AllocationState
    reason: str = ""  # why the pilot waits or has ended, as the backend words it: "Resources"
    cause: AllocationEndCause | None = None  # cause of the pilot's end
    node: str = ""  # name of the node in the backend
    starts_at: float | None = None  # seconds since 1970, estimated by the backend; None if unknown
    ends_at: float | None = (
        None  # seconds since 1970, when the backend will end the pilot; None if unknown
    )
    # False if the node is down or silent; the pilot's processes may still run
    node_answers: bool = True
    emptied: bool = False  # the pilot has ended, and the backend has killed all its processes


class Estimate(NamedTuple):
    """Estimate of a backend for a pilot that is not submitted, for the dry run."""

    possible: bool
    why: str = ""  # reason, as the backend words it
    starts_at: float | None = None  # seconds since 1970


class Backend(Protocol):
    """A backend. Each call may take seconds and runs in its own thread, one at a time."""

    def submit(self, pilots: Sequence[tuple[PilotFolder, PilotSpec]]) -> None:
        """Submit pilots whose folders exist; each runs `python -P -m launcher.pilots FOLDER`.

        Raises:
            SubmissionRefused: The backend accepts no such pilots; contains its message.
            EngineError: The backend did not accept all pilots; contains its message. `observe` shows which ones
                it accepted.
        """

    def observe(
        self, tokens: Collection[str], nodes: Mapping[str, str] = NO_NODES
    ) -> Mapping[str, Observation]:
        """Return the state of each of these pilots. The backend is polled once for all of them.

        Args:
            tokens: Tokens of the pilots.
            nodes: Node of each registered pilot, by token. A backend that no longer lists a pilot may know its node.
                A report about another node is about another process.

        Raises:
            EngineError: The backend does not answer. No state is known or changed.
        """

    def cancel(self, tokens: Collection[str]) -> None:
        """End pilots and everything that runs in them, at once. Unknown tokens are ignored.

        Raises:
            EngineError: The backend does not answer. The call is to be repeated.
        """

    def collect(self, pilot: PilotFolder) -> str:
        """Return the last output lines of a pilot and the site's prologue; '' if there is no output."""

    def estimate(self, spec: PilotSpec) -> Estimate:
        """Return whether such a pilot could be started, and when. Nothing is submitted.

        Raises:
            EngineError: The backend does not answer.
        """


BackendFactory = Callable[[BackendSettings, Home], Backend]


def load_backend(settings: BackendSettings, home: Home) -> Backend:
    """Return the backend of a table of config.toml.

    The module of its kind is imported only now and has a function `make`.
    """
    module = import_module(f"launcher.queue.backends.{settings.kind}")
    make: BackendFactory = module.make
    return make(settings, home)


Answer = TypeVar("Answer")

CALL_TIMEOUT_S = 120.0  # a call that takes longer is abandoned; commands have shorter timeouts
MOST_HUNG_THREADS = 4  # abandoned threads

logger = logging.getLogger(__name__)


class EngineCalls:
    """Calls to one backend, one at a time."""

    def __init__(
        self, make: Callable[[], Backend], wake: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        """Initialize without a backend.

        Args:
            make: Returns the backend. Called in the thread of the first call.
            wake: Called in the thread of a call once it has returned.
            clock: Returns monotonic time in seconds.
        """
        self._make = make
        self._engine: list[Backend] = []  # at most one engine
        # a query returns the delivery of its result
        self._query = BackgroundQuery[Callable[[], None]]("engine", wake, clock=clock)
        # receives the error of the call that is not delivered yet; None: there is no such call
        self._on_error: Callable[[EngineError], None] | None = None
        self._hung: list[threading.Thread] = []
        self.has_answered = False  # a call has returned, with a result or an error

    @property
    def is_busy(self) -> bool:
        """Whether a call is running or its result has not been delivered."""
        return self._on_error is not None

    @property
    def has_result(self) -> bool:
        """Whether `deliver_result` has something to do."""
        return self.is_busy and (not self._query.is_running or self.elapsed_s > CALL_TIMEOUT_S)

    @property
    def elapsed_s(self) -> float:
        """Duration of the running call in seconds; 0 without one."""
        return self._query.elapsed_s

    def begin(
        self,
        operation: Callable[[Backend], Answer],
        on_result: Callable[[Answer], None],
        on_error: Callable[[EngineError], None],
    ) -> None:
        """Begin a call while none is running.

        Args:
            operation: The call. It runs in its own thread.
            on_result: Receives the result, in the thread that calls `deliver_result`.
            on_error: Receives the error, in the same thread.
        """
        assert self._on_error is None, "an engine handles one call at a time"
        engine = self._engine

        def call() -> Callable[[], None]:
            try:
                if not engine:
                    engine.append(self._make())
                return partial(on_result, operation(engine[0]))
            except EngineError as error:
                return partial(on_error, error)

        self._query.begin(call)
        self._on_error = on_error

    def deliver_result(self) -> bool:
        """Deliver the result of the call, or its timeout; return False if there is none."""
        on_error = self._on_error
        if on_error is None:
            return False
        if not self._query.is_running:
            self._on_error, self.has_answered = None, True
            error, deliver = self._query.error, self._query.answer
            if error is not None:  # no exception may end the queue; the error is reported
                logger.warning("engine trouble=%r", str(error), exc_info=error)
                on_error(EngineError(f"{type(error).__name__}: {error}"))
            elif deliver is not None:
                deliver()
            return True
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        if self.elapsed_s <= CALL_TIMEOUT_S or len(self._hung) >= MOST_HUNG_THREADS:
            return False
        # its late result is ignored; the next poll shows its effects
        self._hung += filter(None, [self._query.abandon()])
        self.reset_engine()
        self._on_error = None
        on_error(EngineError(f"no answer for {CALL_TIMEOUT_S:.0f} s"))
        return True

    def reset_engine(self) -> None:
        """Have the next call create the backend again. A running call keeps its backend."""
        self._engine = []
