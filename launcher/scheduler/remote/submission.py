"""A submission: folders are made, then the engine gets the pilots; runs in the engine's thread."""

from collections.abc import Sequence
from pathlib import Path

from launcher import __version__
from launcher.backends.protocol import Backend, EngineError, Refused
from launcher.backends.settings import BackendSettings
from launcher.errors import MachineError
from launcher.pilots.folder import PilotFolder, PilotSpec, make_pilot_folder
from launcher.scheduler.remote.backend_folder import clear_folder, take_folder
from launcher.system.paths import Home


class NotSubmitted(EngineError):
    """The engine was not asked at all: none of the pilots can be there."""


class Submission:
    """Pilots on their way to an engine."""

    def __init__(self, pilots: Sequence[tuple[PilotFolder, PilotSpec]], root: Path, home: Home):
        """Begin.

        Args:
            pilots: whose records are written.
            root: the folder in which theirs are made.
            home: the queue's.
        """
        self._pilots, self._root, self._home = pilots, root, home
        self.withdrawn = False  # nobody waits for it any more

    def __call__(self, backend: Backend) -> None:
        """Make the folders, and submit.

        Raises:
            Refused: the engine took none of them.
            NotSubmitted: the folders cannot be made, or are another queue's.
            EngineError: the engine did not take all of them; it may have taken some.
        """
        try:
            take_folder(self._root, self._home)
            for folder, spec in self._pilots:
                make_pilot_folder(folder, spec)
        except (OSError, MachineError) as error:
            for folder, _ in self._pilots:
                clear_folder(folder)
            raise NotSubmitted(_why(error, self._root)) from error
        if self.withdrawn:  # a file system that hung for minutes
            raise NotSubmitted(f"the folder {self._root} could not be written for minutes")
        try:
            backend.submit(self._pilots)
        except Refused:
            for folder, _ in self._pilots:
                clear_folder(folder)
            raise


def _why(error: OSError | MachineError, root: Path) -> str:
    if isinstance(error, OSError):
        return f"no folder for pilots can be made in {root}: {error.strerror or error}"
    return str(error)


def pilot_spec(settings: BackendSettings, token: str, paths: tuple[str, ...]) -> PilotSpec:
    """Return what a new pilot of a backend is to be."""
    return PilotSpec(
        token=token,
        backend=settings.name,
        version=__version__,
        cpus=settings.cpus,
        gpus=settings.gpus,
        memory=settings.memory,
        time_s=settings.time_s,
        lease_s=settings.lease_s,
        beat_s=settings.beat_s,
        idle_s=settings.idle_s,
        single=not settings.pilot,
        paths=paths,
    )
