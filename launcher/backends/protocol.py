"""What an engine is asked: to start pilots, to say what became of them, to end them, to show their logs.

Whatever can go wrong twice stands in the files between scheduler and pilot (`launcher.pilots`); an engine is never
asked about a job, never trusted to know how one ended, and where it does not answer, nothing is known. A new kind of
engine is a module of this room and a line of `_MODULES`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from importlib import import_module
from types import MappingProxyType
from typing import NamedTuple, Protocol

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

    @property
    def settings(self) -> BackendSettings:
        """Its table of config.toml."""

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

_MODULES = {
    "local": "local",
    "slurm": "slurm",
    "ray": "ray",
}  # imported when a backend of the kind is used


def backend_of(settings: BackendSettings, home: Home) -> Backend:
    """Return the engine of a table of config.toml; its module has a function `make`."""
    module = import_module(f"launcher.backends.{_MODULES[settings.kind]}")
    make: Maker = module.make
    return make(settings, home)
