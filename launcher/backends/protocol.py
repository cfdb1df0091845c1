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

NOWHERE: Mapping[str, str] = MappingProxyType({})


class EngineError(MachineError):
    """An engine did not do what it was asked, or did not answer; nothing is known then."""


class Refused(EngineError):
    """An engine took none of the pilots, and will take none until a configuration changes."""


class Stage(StrEnum):
    """How far the engine is with a pilot."""

    WAITING = "waiting"  # in the engine's queue
    RUNNING = "running"  # on a node, whether or not it has spoken yet
    ENDED = "ended"  # the engine says that it is over
    UNKNOWN = "unknown"  # the engine answers, and knows no such pilot


class Cause(StrEnum):
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

    stage: Stage
    reason: str = ""  # why it waits or has ended, in the engine's words: "Resources"
    cause: Cause | None = None  # of its end
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
        self, tokens: Collection[str], nodes: Mapping[str, str] = NOWHERE
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


Maker = Callable[[BackendSettings, Home], Backend]


def backend_of(settings: BackendSettings, home: Home) -> Backend:
    """Return the engine of a table of config.toml; the module of its kind, imported only now, has a function `make`."""
    module = import_module(f"launcher.backends.{settings.kind}")
    make: Maker = module.make
    return make(settings, home)


Answer = TypeVar("Answer")

HUNG_S = 120.0  # a call that takes longer is no longer waited for; commands have shorter limits
MOST_HUNG = 4  # threads that are left to themselves

logger = logging.getLogger(__name__)


class _Call:
    """A call under way; `finish` is there when it has come back."""

    def __init__(self, failed: Callable[[EngineError], None], since: float) -> None:
        self.failed, self.since = failed, since
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
            ask: the call; made in a thread of its own.
            done: takes in the answer, in the thread that calls `take_in`.
            failed: likewise, where the engine did not do it.
        """
        assert self._call is None, "an engine handles one call at a time"
        call, engine = _Call(failed, self._clock()), self._engine

        def run() -> None:
            try:
                if not engine:
                    engine.append(self._make())
                call.finish = partial(done, ask(engine[0]))
            except EngineError as error:
                call.finish = partial(failed, error)
            except Exception as error:  # whatever it is, it ends no queue: it is reported
                logger.warning("engine trouble=%r", str(error), exc_info=error)
                call.finish = partial(failed, EngineError(f"{type(error).__name__}: {error}"))
            self._wake()

        self._thread = threading.Thread(target=run, name="engine", daemon=True)
        self._thread.start()
        self._call = call

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
        """Have the next call make the engine anew; a call under way goes on with the one that it has."""
        self._engine = []
