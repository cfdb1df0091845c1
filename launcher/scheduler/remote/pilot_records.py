"""A record of each pilot in the home: written before it is submitted, deleted after nothing of it is left.

Whatever the scheduler was doing when it died, its successor knows from the records which pilots there may be.
"""

import logging
import math
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from launcher.backends.settings import KINDS, BackendSettings
from launcher.pilots.folder import PilotFolder, PilotSpec
from launcher.system.files import read_bytes, sync, write_json
from launcher.system.paths import Home
from launcher.system.stored_fields import Unreadable, known_of, parsed, restored, texts

logger = logging.getLogger(__name__)

SCHEMA = 1
_TOKEN = re.compile(r"launcher-[0-9a-f]{20}(_[0-9]{1,4})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotRecord:
    """What must be known of a pilot after the scheduler died."""

    folder: Path  # on a file system that the nodes see
    spec: PilotSpec
    settings: BackendSettings = field(
        repr=False
    )  # it is found by these when config.toml has others
    since: float  # seconds since 1970 when it was to be submitted
    cancelled: str = ""  # why it is to end; it gets no work then
    given_up: str = ""  # why what runs there is lost; nothing that it says counts any more
    buried: bool = False  # its attempts have been ended in the queue

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
    return f"launcher-{secrets.token_hex(10)}"


def new_tokens(number: int) -> list[str]:
    """Return names of pilots that an engine gets as one array: with the number of the element behind the name."""
    name = new_token()
    return [f"{name}_{element}" for element in range(number)] if number > 1 else [name]


def is_token(name: str) -> bool:
    """Tell whether this is a name that `new_token` may have given."""
    return _TOKEN.fullmatch(name) is not None


class PilotRecords:
    """The records in a home."""

    def __init__(self, home: Home) -> None:
        """Begin; the folder is made by the first record."""
        self._folder = home.folder / "pilots"

    def write(self, record: PilotRecord, *, durable: bool = True) -> None:
        """Write a record, or replace it.

        Args:
            record: of a pilot.
            durable: it survives a power cut.

        Raises:
            OSError: the disk is full, or the home cannot be written; the old record is there.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        stored: dict[str, Any] = {
            "schema": SCHEMA,
            "folder": str(record.folder),
            "spec": _fields_of(record.spec),
            "settings": _settings_record(record.settings),
            "since": record.since,
            "cancelled": record.cancelled,
            "given_up": record.given_up,
            "buried": record.buried,
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
        """Tell whether there is a record of a pilot, whether or not it can be understood."""
        return self._path(token).exists()

    def tokens(self) -> list[str]:
        """Return the pilots of which there is a record, whether or not it can be understood."""
        return [path.stem for path in self._paths()]

    def _paths(self) -> list[Path]:
        paths = sorted(self._folder.glob("launcher-*.json"))
        return [path for path in paths if is_token(path.stem)]

    def read(self) -> Iterator[PilotRecord]:
        """Give all records; one that cannot be understood stays where it is, and the log tells."""
        for path in self._paths():
            try:
                record = _record(parsed(read_bytes(path).decode(errors="replace"), "its record"))
                if record.token != path.stem or record.folder.name != path.stem:
                    raise Unreadable("its record is another pilot's")  # noqa: TRY301  # likewise
            except (OSError, Unreadable) as error:
                logger.warning("pilot=%s trouble=%r", path.stem, str(error))
            else:
                yield record

    def _path(self, token: str) -> Path:
        return self._folder / f"{token}.json"


def _record(stored: dict[str, Any]) -> PilotRecord:
    if stored.pop("schema", None) != SCHEMA:
        raise Unreadable("its record is of another version of launcher")
    spec, folder = stored.get("spec"), stored.get("folder")
    if not isinstance(spec, dict) or not isinstance(folder, str) or not folder.startswith("/"):
        raise Unreadable("its record has no spec, or no folder")
    restored_spec = restored(
        PilotSpec, {**spec, "paths": texts(spec.get("paths", ()), "'paths'")}, "its spec"
    )
    for span in (restored_spec.beat_s, restored_spec.idle_s, restored_spec.lease_s):
        if span is not None and not (math.isfinite(span) and span > 0):
            raise Unreadable("a time of its spec is none")
    parts = {
        "folder": Path(folder),
        "spec": restored_spec,
        "settings": _settings(stored.get("settings")),
    }
    return restored(PilotRecord, {**stored, **parts}, "its record")


def _settings_record(settings: BackendSettings) -> dict[str, Any]:
    folder = None if settings.folder is None else str(settings.folder)
    return {**_fields_of(settings), "folder": folder}


def _fields_of(part: PilotSpec | BackendSettings) -> dict[str, Any]:
    """Return the fields as JSON has them; `asdict` would copy each of them, which is slow for hundreds of pilots."""
    return {name.name: getattr(part, name.name) for name in fields(part)}


def _settings(stored: object) -> BackendSettings:
    if not isinstance(stored, dict):
        raise Unreadable("its record has no settings")
    folder = stored.get("folder")
    parts = {
        "options": texts(stored.get("options", ()), "'options'"),
        "wrap": texts(stored.get("wrap", ()), "'wrap'"),
        "folder": Path(folder) if isinstance(folder, str) else None,
    }
    # what a newer launcher added to it is not needed to find a pilot
    settings = known_of(BackendSettings, {**stored, **parts}, "its settings")
    if settings.kind not in KINDS:
        raise Unreadable(f"its kind of engine is {settings.kind!r}")
    return settings
