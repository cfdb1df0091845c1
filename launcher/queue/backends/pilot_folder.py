"""The folder of a pilot on a shared file system, and the specification of the pilot in it."""

from pathlib import Path
from typing import NamedTuple

from launcher.queue.home.paths import Attempt
from launcher.queue.workers.lease import ABANDONED_FILE
from launcher.system.files import read_bytes, write_json
from launcher.system.stored_fields import Unreadable, parse_record, read_texts, restore_known_fields

TOKEN = "LAUNCHER_PILOT"  # in the environment of a pilot, its fork servers and supervisors: which pilot's they are


class PilotSpec(NamedTuple):
    """Specification of a pilot. It is written before the submission and never changed."""

    token: str  # unguessable; also the name of the engine's job
    backend: str  # the pilot's name in config.toml
    version: str  # version of launcher; a pilot of another version refuses
    cpus: int
    gpus: int = 0
    memory: int | None = None
    time_s: float | None = None
    lease_s: float | None = (
        None  # the pilot's attempts end after this time without the scheduler; None: never
    )
    beat_s: float = 5.0  # seconds between two heartbeats
    idle_s: float = 300.0  # the pilot leaves after this time without work
    single: bool = False  # the pilot is for one attempt, after which it is ordered to leave
    paths: tuple[str, ...] = ()  # paths that must exist on the node: roots of runs, interpreters


class PilotFolder(NamedTuple):
    """The folder of one pilot, on a file system that the submit host and the node share.

    Its files, with their writers:

    `spec.json` (scheduler): Specification, written before the submission.
    `to` (scheduler): Commands, one JSON line each, appended.
    `from` (pilot): Messages, one JSON line each, appended.
    `taken` (pilot): Created once. If the engine starts the pilot again, that pilot ends.
    `process.json` (engine): Identity of the pilot's process, if the engine is `local`.
    `engine.log` (engine): Standard output and error of the pilot and of the site's prologue.
    `buried` (scheduler): Empty until it abandons the pilot, whose processes then end and record that.
    `attempts/` (both): One folder per attempt, as in a queue folder.
    """

    folder: Path

    @property
    def token(self) -> str:
        """Its name, which is also that of the engine's job."""
        return self.folder.name

    @property
    def spec(self) -> Path:
        """Specification of the pilot."""
        return self.folder / "spec.json"

    @property
    def commands_file(self) -> Path:
        """Commands, one per line."""
        return self.folder / "to"

    @property
    def messages_file(self) -> Path:
        """Messages, one per line."""
        return self.folder / "from"

    @property
    def log(self) -> Path:
        """Output of the engine and the pilot."""
        return self.folder / "engine.log"

    @property
    def started_marker(self) -> Path:
        """Created by the pilot, once. If the engine starts it again, that pilot ends."""
        return self.folder / "taken"

    @property
    def process_file(self) -> Path:
        """Which process the pilot is, as the engine `local` has started it."""
        return self.folder / "process.json"

    @property
    def attempts_folder(self) -> Path:
        """One folder per attempt."""
        return self.folder / "attempts"

    @property
    def abandoned_file(self) -> Path:
        """Empty until the scheduler abandons the pilot and writes to it. Its processes then end."""
        return self.folder / ABANDONED_FILE

    def mark_abandoned(self) -> None:
        """Order all processes of the pilot to end.

        Raises:
            OSError: the disk is full, or the folder cannot be written. Then the processes do not get the order.
        """
        self.abandoned_file.write_bytes(b"given up\n")

    def attempt(self, name: str) -> Attempt:
        """Return the folder of the attempt with a name such as `63-2`."""
        return Attempt(self.attempts_folder / name)


def make_pilot_folder(folder: PilotFolder, spec: PilotSpec) -> None:
    """Make all that a pilot finds when it starts: later, a node might see a new name only after half a minute.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    folder.folder.mkdir(mode=0o700, parents=True)
    folder.attempts_folder.mkdir(mode=0o700)
    for path in (folder.commands_file, folder.messages_file, folder.log, folder.abandoned_file):
        path.touch(mode=0o600)
    # not synced: after a power cut, a pilot that finds no spec does not start
    write_json(folder.spec, {"schema": 1, **spec._asdict()}, mode=0o600, durable=False)


def read_pilot_spec(folder: PilotFolder) -> PilotSpec:
    """Return the specification of a pilot.

    Raises:
        OSError: it cannot be read.
        Unreadable: it is not a specification, or another version of launcher wrote it.
    """
    record = parse_record(read_bytes(folder.spec).decode(errors="replace"), "its spec")
    if record.pop("schema", None) != 1:
        raise Unreadable("its spec was written by another version of launcher")
    record["paths"] = read_texts(record.get("paths", ()), "'paths' of its spec")
    # a newer launcher may have written more fields; the pilot refuses another version
    return restore_known_fields(PilotSpec, record, "its spec")


def attempt_name(job: int, number: int) -> str:
    """Return the name of an attempt: `63-2` is the second one of job 63."""
    return f"{job}-{number}"


def parse_attempt_name(name: str) -> tuple[int, int]:
    """Return job and number of an attempt with a name.

    Raises:
        ValueError: the name is not that of an attempt.
    """
    job, _, number = name.partition("-")
    return int(job), int(number)
