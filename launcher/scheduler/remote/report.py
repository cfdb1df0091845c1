"""pilots.json: the pilots as the scheduler last saw them, for screens; and its reader."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

from launcher.scheduler.remote.nodes_file import NodesFile
from launcher.system.files import Json, read_json, write_json
from launcher.system.paths import Home
from launcher.system.stored_fields import Unreadable, known_of

logger = logging.getLogger(__name__)

SCHEMA = 1
EVERY_S = 1.0  # written at most so often
FRESH_S = 5.0  # and so often while there are pilots, as they were heard since

Row = TypeVar("Row", "PilotRow", "BackendRow")


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotRow:
    """One pilot."""

    backend: str
    token: str
    stage: str  # a `Life`
    reason: str = ""  # why it waits, ended, or is to end
    node: str = ""
    job: str = ""  # the engine's number of it, as far as it has told; it may be given out again
    starts_at: float | None = None  # seconds since 1970, as the engine estimates
    since: float = 0.0  # seconds since 1970 when it was submitted
    cpus: int = 0
    gpus: int = 0
    attempts: int = 0  # that are there
    heard_at: float | None = None  # seconds since 1970; None: it never spoke
    log: str = ""  # the last lines of what it printed, where it did not start

    def silent_s(self, now: float) -> float | None:
        """Return how long it has been silent, None where it never spoke.

        Args:
            now: seconds since 1970.
        """
        return None if self.heard_at is None else max(0.0, now - self.heard_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendRow:
    """One backend that pilots are, or were, submitted to."""

    name: str
    kind: str
    reason: str = ""  # why nothing more is submitted, or what it waits for
    pilots: int = 0  # that may be there at once
    failures: int = 0  # pilots in a row that could not work
    log: str = ""  # the last lines of what the last of them printed


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotsReport:
    """All of them, at a time."""

    at: float = 0.0  # seconds since 1970; 0: never
    backends: tuple[BackendRow, ...] = ()
    pilots: tuple[PilotRow, ...] = ()


def read_pilots(home: Home) -> PilotsReport:
    """Return what the scheduler last saw; nothing where there is no such file, or none that we know."""
    try:
        record = read_json(home.folder / "pilots.json")
    except OSError:
        record = None
    if record is None or record.get("schema") != SCHEMA:
        return PilotsReport()
    at = record.get("at")
    return PilotsReport(
        at=float(at) if isinstance(at, int | float) and math.isfinite(at) else 0.0,
        backends=_rows(BackendRow, record.get("backends")),
        pilots=_rows(PilotRow, record.get("pilots")),
    )


def _rows(kind: type[Row], stored: Json) -> tuple[Row, ...]:
    rows = (_row(kind, entry) for entry in (stored if isinstance(stored, list) else []))
    return tuple(row for row in rows if row is not None)


def _row(kind: type[Row], entry: Json) -> Row | None:
    """Return a row, None where it is none that we know."""
    try:
        row = known_of(kind, entry, "a row")
    except (Unreadable, TypeError):
        return None
    numbers = (value for value in asdict(row).values() if isinstance(value, float))
    return row if all(map(math.isfinite, numbers)) else None


class PilotsFile:
    """The file, written when something has changed."""

    def __init__(self, home: Home) -> None:
        """Begin without having written it."""
        self._path = home.folder / "pilots.json"
        self._written: tuple[object, ...] | None = None
        self._at = -math.inf  # monotonic
        self._nodes = NodesFile(home)

    def due(self, now: float) -> bool:
        """Tell whether it may be written again now, by a clock that nobody sets."""
        return now >= self._at + EVERY_S

    def write(
        self,
        backends: Sequence[BackendRow],
        pilots: Sequence[PilotRow],
        now: float,
        wall: float | None = None,
    ) -> None:
        """Write it where that is due, and something has changed; a full disk stops nothing.

        Args:
            backends: those with pilots, or with work that waits.
            pilots: all of them.
            now: by a clock that nobody sets.
            wall: seconds since 1970.
        """
        self._nodes.add(pilots)
        lasting = (*backends, *(replace(row, heard_at=None) for row in pilots))
        if lasting == (self._written or ()) and (not pilots or now < self._at + FRESH_S):
            return
        self._written, self._at = lasting, now
        record: dict[str, Json] = {
            "schema": SCHEMA,
            "at": time.time() if wall is None else wall,
            "backends": [asdict(row) for row in backends],
            "pilots": [asdict(row) for row in pilots],
        }
        try:
            write_json(self._path, record, mode=0o600, durable=False)
        except OSError as error:
            logger.warning("pilots.json trouble=%r", str(error))
