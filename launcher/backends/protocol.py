"""What an engine is asked: to start pilots, to say what became of them, to end them, to show their logs.

Calls to it are made one at a time, each in a thread beside the scheduler: one that hangs stops no turn.

Whatever can go wrong twice stands in the files between scheduler and pilot (`launcher.pilots`); an engine is never
asked about a job, never trusted to know how one ended, and where it does not answer, nothing is known. A new kind of
engine is a module of this room and a word of `KINDS`.
"""

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from functools import partial
from importlib import import_module
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeVar

from launcher.backends.pilot_folder import PilotFolder, PilotSpec
from launcher.backends.settings import BackendSettings
from launcher.errors import MachineError
from launcher.system.paths import Home

NO_NODES: Mapping[str, str] = MappingProxyType({})


class EngineError(MachineError):
    """An engine did not do what it was asked, or did not answer; nothing is known then."""


class SubmissionRefused(EngineError):
    """An engine took none of the pilots, and will take none until a configuration changes."""


class AllocationState(StrEnum):
    """How far the engine is with a pilot."""

    WAITING = "waiting"  # in the engine's queue
    RUNNING = "running"  # on a node, whether or not it has spoken yet
    ENDED = "ended"  # the engine says that it is over
    UNKNOWN = "unknown"  # the engine answers, and knows no such pilot


class AllocationEndCause(StrEnum):
    """Why a pilot has ended, as its engine tells."""

    COMPLETED = "completed"  # by itself
    PREEMPTED = "preempted"
    NODE_FAILED = "node failed"
    TIME_LIMIT = "time limit"
    MEMORY = "out of memory"
    CANCELLED = "cancelled"
    FAILED = "failed"
    UNKNOWN = "unknown"  # the engine has forgotten it


class Observation(NamedTuple):
    """What an engine says of one pilot."""

    stage: AllocationState
    reason: str = ""  # why it waits or has ended, in the engine's words: "Resources"
    cause: AllocationEndCause | None = None  # of its end
    node: str = ""  # the engine's name for the node
    starts_at: float | None = None  # seconds since 1970, as the engine estimates; None: it does not
    ends_at: float | None = None  # seconds since 1970, when the engine will end it; None: not known
    node_answers: bool = True  # False: the node is down or silent, and what ran there may run on
    emptied: bool = False  # it has ended, and the engine has made sure that nothing of it lives


class Estimate(NamedTuple):
    """What an engine says of a pilot that was not submitted: for the dry run."""

    possible: bool
    why: str = ""  # in the engine's words
    starts_at: float | None = None  # seconds since 1970


class Backend(Protocol):
    """An engine. Each call may take seconds, and is made in a thread of its own, one at a time."""

    def submit(self, pilots: Sequence[tuple[PilotFolder, PilotSpec]]) -> None:
        """Submit pilots whose folders are made; each runs `python -P -m launcher.pilots FOLDER`.

        Raises:
            Refused: it takes no such pilots; what the engine said.
            EngineError: none of them, or not all of them were taken; what the engine said. Whether one was is
                seen by `observe`.
        """

    def observe(
        self, tokens: Collection[str], nodes: Mapping[str, str] = NO_NODES
    ) -> Mapping[str, Observation]:
        """Return what the engine says of each of these pilots; it is asked once for all of them.

        Args:
            tokens: the pilots.
            nodes: by token, where some say that they are: an engine that has forgotten them may know their nodes, and
                what it says of another node is about another process.

        Raises:
            EngineError: it does not answer; nothing is known, and nothing has changed.
        """

    def cancel(self, tokens: Collection[str]) -> None:
        """End pilots with all that runs in them, at once; of unknown ones nothing happens.

        Raises:
            EngineError: it does not answer; to be tried again.
        """

    def collect(self, pilot: PilotFolder) -> str:
        """Return the last lines that a pilot and the site's prologue printed; '' where there are none."""

    def estimate(self, spec: PilotSpec) -> Estimate:
        """Tell whether such a pilot could be started, and when; nothing is submitted.

        Raises:
            EngineError: it does not answer.
        """


BackendFactory = Callable[[BackendSettings, Home], Backend]


def load_backend(settings: BackendSettings, home: Home) -> Backend:
    """Return the engine of a table of config.toml; the module of its kind, imported only now, has a function `make`."""
    module = import_module(f"launcher.backends.{settings.kind}")
    make: BackendFactory = module.make
    return make(settings, home)


Answer = TypeVar("Answer")

CALL_TIMEOUT_S = (
    120.0  # a call that takes longer is no longer waited for; commands have shorter limits
)
MOST_HUNG_THREADS = 4  # threads that are left to themselves

logger = logging.getLogger(__name__)


class _Call:
    """A call under way; `finish` is there when it has come back."""

    def __init__(self, failed: Callable[[EngineError], None], since: float) -> None:
        self.on_error, self.started_at = failed, since
        self.finish: Callable[[], None] | None = None


class EngineCalls:
    """Calls to one engine, one at a time."""

    def __init__(
        self, make: Callable[[], Backend], wake: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        """Begin without an engine.

        Args:
            make: returns the engine; called in the thread that talks to it first.
            wake: called in such a thread when a call has come back.
            clock: tells the time in seconds; nobody sets it.
        """
        self._make, self._wake, self._clock = make, wake, clock
        self._engine: list[Backend] = []  # one at most
        self._call: _Call | None = None
        self._thread: threading.Thread | None = None  # of the call under way
        self._hung: list[threading.Thread] = []
        self.has_answered = False  # it has come back from a call, with whatever it said

    @property
    def is_busy(self) -> bool:
        """Whether a call is under way, or its answer has not been taken in."""
        return self._call is not None

    @property
    def has_result(self) -> bool:
        """Whether `deliver_result` has something to do."""
        call = self._call
        return call is not None and (call.finish is not None or self.elapsed_s > CALL_TIMEOUT_S)

    @property
    def elapsed_s(self) -> float:
        """How long the call under way has taken."""
        return 0.0 if self._call is None else self._clock() - self._call.started_at

    def begin(
        self,
        operation: Callable[[Backend], Answer],
        on_result: Callable[[Answer], None],
        on_error: Callable[[EngineError], None],
    ) -> None:
        """Begin a call while none is under way.

        Args:
            operation: the call; made in a thread of its own.
            on_result: takes in the answer, in the thread that calls `deliver_result`.
            on_error: likewise, where the engine did not do it.
        """
        assert self._call is None, "an engine handles one call at a time"
        call, engine = _Call(on_error, self._clock()), self._engine

        def run() -> None:
            try:
                if not engine:
                    engine.append(self._make())
                call.finish = partial(on_result, operation(engine[0]))
            except EngineError as error:
                call.finish = partial(on_error, error)
            except Exception as error:  # whatever it is, it ends no queue: it is reported
                logger.warning("engine trouble=%r", str(error), exc_info=error)
                call.finish = partial(on_error, EngineError(f"{type(error).__name__}: {error}"))
            self._wake()

        self._thread = threading.Thread(target=run, name="engine", daemon=True)
        self._thread.start()
        self._call = call

    def deliver_result(self) -> bool:
        """Take in the answer that has come; False where there is none."""
        call = self._call
        if call is None:
            return False
        if call.finish is not None:
            self._call, self.has_answered = None, True
            call.finish()
            return True
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        if (
            self.elapsed_s <= CALL_TIMEOUT_S
            or len(self._hung) >= MOST_HUNG_THREADS
            or self._thread is None
        ):
            return False
        # whatever it still does, its answer is not taken in: what it did is seen by asking anew
        self._hung.append(self._thread)
        self.reset_engine()
        self._call = None
        call.on_error(EngineError(f"no answer for {CALL_TIMEOUT_S:.0f} s"))
        return True

    def reset_engine(self) -> None:
        """Have the next call make the engine anew; a call under way goes on with the one that it has."""
        self._engine = []
