"""A record of each pilot in the queue folder: written before the submission, deleted after nothing of the pilot is left.

If the scheduler dies at any point, its successor reads from the records which pilots may exist.

The module also finds the folder of a backend's pilots, and its owner: two queues in one folder are refused.

A submission first creates the folders, then passes the pilots to the engine. It runs in the engine's thread.
"""

import contextlib
import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from launcher import __version__
from launcher.queue.backends.pilot_folder import PilotFolder, PilotSpec, make_pilot_folder
from launcher.queue.backends.protocol import Backend, EngineError, SubmissionRefused
from launcher.queue.backends.settings import KINDS, BackendSettings
from launcher.queue.home.home_checks import home_id, machine_identity, resolve_links
from launcher.queue.home.paths import Home
from launcher.system.errors import MachineError
from launcher.system.files import Json, read_bytes, read_json, sync, write_json
from launcher.system.lazy_regex import compile_lazily
from launcher.system.mounts import file_system, is_remote, read_mountinfo
from launcher.system.stored_fields import (
    Unreadable,
    parse_record,
    read_texts,
    restore_known_fields,
)

logger = logging.getLogger(__name__)

SCHEMA = 1
_TOKEN = compile_lazily(r"launcher-[0-9a-f]{20}(_[0-9]{1,4})?")


class PilotRecord(NamedTuple):
    """Facts about a pilot that the next scheduler needs if this one dies."""

    folder: Path  # on a file system that the nodes see
    spec: PilotSpec
    settings: BackendSettings  # settings that find the pilot after config.toml has changed
    since: float  # seconds since 1970 when the pilot was to be submitted
    cancelled: str = ""  # why the pilot has to end; it gets no more work then
    given_up: str = ""  # why the pilot's attempts are lost; its later messages are ignored
    buried: bool = False  # the pilot's attempts were ended in the queue

    @property
    def token(self) -> str:
        """Its name."""
        return self.spec.token

    @property
    def pilot_folder(self) -> PilotFolder:
        """Its folder."""
        return PilotFolder(self.folder)


def new_token() -> str:
    """Return a name that nobody guesses: the engine's job is known, and ended, by it alone."""
    return f"launcher-{os.urandom(10).hex()}"


def new_tokens(number: int) -> list[str]:
    """Return names of pilots that an engine gets as one array: with the number of the element behind the name."""
    name = new_token()
    return [f"{name}_{element}" for element in range(number)] if number > 1 else [name]


def is_token(name: str) -> bool:
    """Return whether this is a name that `new_token` may have returned."""
    return _TOKEN.fullmatch(name) is not None


class PilotRecords:
    """The records in a queue folder."""

    def __init__(self, home: Home) -> None:
        """Begin. The first record creates the folder."""
        self._folder = home.folder / "pilots"

    def write(self, record: PilotRecord, *, durable: bool = True) -> None:
        """Write a record, or replace it.

        Args:
            record: record of a pilot.
            durable: it survives a power cut.

        Raises:
            OSError: the disk is full, or the home cannot be written; the old record is there.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        settings = record.settings
        folder = None if settings.folder is None else str(settings.folder)
        stored: dict[str, Any] = {
            "schema": SCHEMA,
            **record._asdict(),
            "folder": str(record.folder),
            "spec": record.spec._asdict(),
            "settings": {**settings._asdict(), "folder": folder},
        }
        write_json(self._path(record.token), stored, mode=0o600, durable=durable)

    def delete(self, token: str) -> None:
        """Delete the record of a pilot of which nothing is left.

        Raises:
            OSError: the home cannot be written.
        """
        self._path(token).unlink(missing_ok=True)
        sync(self._folder)

    def has(self, token: str) -> bool:
        """Return whether there is a record of a pilot, even one that cannot be parsed."""
        return self._path(token).exists()

    def tokens(self) -> list[str]:
        """Return the pilots that have a record, even one that cannot be parsed."""
        return [path.stem for path in self._paths()]

    def _paths(self) -> list[Path]:
        paths = sorted(self._folder.glob("launcher-*.json"))
        return [path for path in paths if is_token(path.stem)]

    def read(self) -> Iterator[PilotRecord]:
        """Yield all records. One that cannot be parsed stays in place, and is logged."""
        for path in self._paths():
            try:
                record = _read_record(
                    parse_record(read_bytes(path).decode(errors="replace"), "its record")
                )
                if record.token != path.stem or record.folder.name != path.stem:
                    raise Unreadable("its record belongs to another pilot")  # noqa: TRY301  # likewise
            except (OSError, Unreadable) as error:
                logger.warning("pilot=%s trouble=%r", path.stem, str(error))
            else:
                yield record

    def _path(self, token: str) -> Path:
        return self._folder / f"{token}.json"


def _read_record(stored_record: dict[str, Any]) -> PilotRecord:
    if stored_record.pop("schema", None) != SCHEMA:
        raise Unreadable("its record was written by another version of launcher")
    spec, folder = stored_record.get("spec"), stored_record.get("folder")
    if not isinstance(spec, dict) or not isinstance(folder, str) or not folder.startswith("/"):
        raise Unreadable("its record has no spec, or no folder")
    # fields that another version added are not needed to have its pilot leave
    restored_spec = restore_known_fields(
        PilotSpec, {**spec, "paths": read_texts(spec.get("paths", ()), "'paths'")}, "its spec"
    )
    for span in (restored_spec.beat_s, restored_spec.idle_s, restored_spec.lease_s):
        if span is not None and not (math.isfinite(span) and span > 0):
            raise Unreadable("a time of its spec is not positive")
    parts = {
        "folder": Path(folder),
        "spec": restored_spec,
        "settings": _read_settings(stored_record.get("settings")),
    }
    return restore_known_fields(PilotRecord, {**stored_record, **parts}, "its record")


def _read_settings(stored_record: object) -> BackendSettings:
    if not isinstance(stored_record, dict):
        raise Unreadable("its record has no settings")
    folder = stored_record.get("folder")
    parts = {
        "options": read_texts(stored_record.get("options", ()), "'options'"),
        "wrap": read_texts(stored_record.get("wrap", ()), "'wrap'"),
        "folder": Path(folder) if isinstance(folder, str) else None,
    }
    settings = restore_known_fields(BackendSettings, {**stored_record, **parts}, "its settings")
    if settings.kind not in KINDS:
        raise Unreadable(f"its kind of engine is unknown: {settings.kind!r}")
    return settings


OWNER = "owner.json"
_MOST_ACQUIRE_TRIES = 3


class FolderTaken(MachineError):
    """The folder of a backend belongs to another queue."""


def pilots_root(settings: BackendSettings, home: Home) -> Path:
    """Return the folder in which each pilot of a backend gets one, for the user whose process this is."""
    user = Path(os.path.expanduser("~"))  # noqa: PTH111  # an unknown user is no error here
    return backend_folder(settings, home, user, read_mountinfo())


def backend_folder(settings: BackendSettings, home: Home, user: Path, mountinfo: str) -> Path:
    """Return the folder in which each pilot of a backend gets one.

    It is the configured one. Without one, it is in the queue folder. If only the user's home directory is on a
    network file system, it is in that one, as nodes see it.

    Args:
        settings: the backend's.
        home: the queue folder.
        user: the user's home directory.
        mountinfo: the text of /proc/self/mountinfo.
    """
    if settings.folder is not None:
        return settings.folder
    own = home.folder / "pilots"
    if settings.kind == "local" or is_remote(file_system(mountinfo, resolve_links(home.folder))):
        return own
    if is_remote(file_system(mountinfo, resolve_links(user))):
        mark = hashlib.sha256(f"{machine_identity()} {home.folder}".encode()).hexdigest()[:16]
        return user / ".local/state/launcher/pilots" / mark
    return own


def acquire_folder(folder: Path, home: Home) -> None:
    """See that a folder of pilots is this queue's; one that is nobody's becomes so.

    Raises:
        FolderTaken: it is another queue's, of this machine or of another one.
        OSError: it cannot be made or written.
    """
    record = folder / OWNER
    mine: dict[str, Json] = {
        "schema": 1,
        "machine": machine_identity(),
        "host": os.uname().nodename,
        "home": str(home.folder),
        "id": home_id(home.record),
    }
    for _ in range(_MOST_ACQUIRE_TRIES):
        owner = read_json(record)
        if owner is not None:
            if _is_ours(owner, home):
                return
            raise FolderTaken(
                f"the pilots' folder {folder} belongs to the queue {owner.get('home')} on host "
                f"{owner.get('host')!r} (set another `folder` in config.toml, or delete {record} if that "
                "queue no longer exists)"
            )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_owner(record, mine)
    raise FolderTaken(f"cannot parse {record} (delete it if no other queue uses {folder})")


def is_visible(folder: Path) -> bool:
    """Return whether a folder of pilots is visible. Its file system may not be mounted yet.

    Raises:
        OSError: the folder cannot be read now.
    """
    return (folder / OWNER).exists()


def _is_ours(owner: Mapping[str, Json], home: Home) -> bool:
    ours = machine_identity(), home_id(home.record) or str(home.folder)
    return (owner.get("machine"), owner.get("id") or owner.get("home")) == ours


def _write_owner(record: Path, owner: dict[str, Json]) -> None:
    """Write whose a folder is, unless that is written: of two that try at once, a link lets one through."""
    whole = record.with_name(f".{os.urandom(8).hex()}.tmp")
    write_json(whole, owner, mode=0o600)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(whole, record)
    finally:
        whole.unlink()


def delete_pilot_folder(folder: PilotFolder) -> bool:
    """Delete the folder of a pilot that has ended. Return False while it contains attempts that are kept."""
    try:
        with contextlib.suppress(FileNotFoundError):
            folder.attempts_folder.rmdir()
        with contextlib.suppress(FileNotFoundError):
            for path in folder.folder.iterdir():
                path.unlink(missing_ok=True)  # an engine may have written files, too
            folder.folder.rmdir()
    except OSError:
        return False
    return True


def delete_unrecorded_folders(root: Path, home: Home, has_record: Callable[[str], bool]) -> None:
    """Delete the folders of pilots that ended with attempts in them, after these attempts were deleted.

    Args:
        root: the parent of the folders. Nothing is deleted in that of another queue, whose pilots may live.
        home: the queue folder.
        has_record: returns whether there is a record of a pilot.
    """
    with contextlib.suppress(OSError):
        owner = read_json(root / OWNER)
        if owner is None or not _is_ours(owner, home):
            return
        for path in root.iterdir():
            if is_token(path.name) and not has_record(path.name):
                delete_pilot_folder(PilotFolder(path))


class NotSubmitted(EngineError):
    """The engine was not asked at all: none of the pilots can be there."""


@dataclass(slots=True)
class Submission:
    """Pilots on their way to an engine."""

    pilots: Sequence[tuple[PilotFolder, PilotSpec]]  # pilots whose records are written
    root: Path  # the folder that contains the folders of the pilots
    home: Home  # the queue's
    is_withdrawn: bool = False  # nobody waits for the submission any more

    def __call__(self, backend: Backend) -> None:
        """Make the folders, and submit.

        Raises:
            SubmissionRefused: the engine took none of them.
            NotSubmitted: the folders cannot be made, or are another queue's.
            EngineError: the engine did not take all of them; it may have taken some.
        """
        try:
            acquire_folder(self.root, self.home)
            for folder, spec in self.pilots:
                make_pilot_folder(folder, spec)
        except (OSError, MachineError) as error:
            for folder, _ in self.pilots:
                delete_pilot_folder(folder)
            why = str(error)
            if isinstance(error, OSError):
                reason = error.strerror or error
                why = f"cannot make a folder for pilots in {self.root}: {reason}"
            raise NotSubmitted(why) from error
        if self.is_withdrawn:  # a file system that hung for minutes
            raise NotSubmitted(f"the folder {self.root} could not be written for minutes")
        try:
            backend.submit(self.pilots)
        except SubmissionRefused:
            for folder, _ in self.pilots:
                delete_pilot_folder(folder)
            raise


def make_pilot_spec(settings: BackendSettings, token: str, paths: tuple[str, ...]) -> PilotSpec:
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
