"""pilots.json: the pilots as the scheduler last saw them, for screens. Its reader removes control characters.

nodes.jsonl records the node of each pilot, for screens that show attempts there. It is kept after a pilot's end.
"""

import contextlib
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from launcher.queue.home.paths import Home
from launcher.system.files import Json, read_json, write_json
from launcher.system.stored_fields import Unreadable, restore_known_fields
from launcher.system.text import sanitize_terminal

MOST_NODE_LINES = 20_000  # lines; older ones are not read any more
_NODES_FILE = "nodes.jsonl"
UNKNOWN_PLACE = "a pilot"  # text for a pilot about which nothing more is known

SCHEMA = 1
WRITE_EVERY_S = 1.0  # the shortest time between two writes
REWRITE_EVERY_S = 5.0  # the longest time while there are pilots, as they sent messages since
LATEST_TIME = 1e11  # seconds since 1970; no calendar goes much further


class PastPilot(NamedTuple):
    """Where a pilot is or was."""

    token: str
    backend: str = ""
    node: str = ""


def read_past_pilots(home: Home) -> dict[str, PastPilot]:
    """Return the nodes of pilots by token, as far back as they are recorded, without control characters."""
    try:
        text = (home.folder / _NODES_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pilots = {}
    for line in [*filter(None, text.splitlines())][-MOST_NODE_LINES:]:
        try:
            pilot = _row(PastPilot, json.loads(line))
        except (ValueError, RecursionError, TypeError):
            continue  # cut off by a power cut, or written by a newer launcher
        pilots[pilot.token] = pilot
    return pilots


class NodesFile:
    """The file, with one line for each pilot whose node is known."""

    def __init__(self, home: Home) -> None:
        """Begin. The file is read when the first pilot is added."""
        self._home = home
        self._recorded_tokens: set[str] | None = None

    def add(self, pilots: Iterable["PilotRow"]) -> None:
        """Record the node of each pilot once. A full disk is only logged."""
        there = [pilot for pilot in pilots if pilot.node]
        if not there:
            return
        if self._recorded_tokens is None:
            self._recorded_tokens = set(read_past_pilots(self._home))
        fresh = [pilot for pilot in there if pilot.token not in self._recorded_tokens]
        if not fresh:
            return
        lines = [
            json.dumps(PastPilot(pilot.token, pilot.backend, pilot.node)._asdict())
            for pilot in fresh
        ]
        try:
            with (self._home.folder / _NODES_FILE).open("a", encoding="utf-8") as file:
                # the file may end in the middle of a line
                file.write("".join(f"\n{line}\n" for line in lines))
        except OSError as error:
            _log_trouble(_NODES_FILE, error)
            return
        self._recorded_tokens.update(pilot.token for pilot in fresh)


Row = TypeVar("Row", "PilotRow", "BackendRow", PastPilot)


class PilotRow(NamedTuple):
    """One pilot."""

    token: str
    backend: str
    stage: str  # a `PilotState`
    node: str = ""
    job: str = ""  # the engine's number of the pilot, if known; it may be reused
    reason: str = ""  # why the pilot waits, ended, or has to end
    since: float = 0.0  # seconds since 1970 when the pilot was submitted
    starts_at: float | None = None  # seconds since 1970, as the engine estimates
    cpus: int = 0
    gpus: int = 0
    attempts: int = 0  # attempts that are there
    # seconds since 1970 of the pilot's last message; None: there was none
    heard_at: float | None = None
    log: str = ""  # the last lines of the pilot's output, if it did not start

    def silent_s(self, now: float) -> float | None:
        """Return the seconds since its last message, None if there was none.

        Args:
            now: seconds since 1970.
        """
        return None if self.heard_at is None else max(0.0, now - self.heard_at)


class BackendRow(NamedTuple):
    """One backend that pilots are, or were, submitted to."""

    name: str
    kind: str
    pilots: int = 0  # pilots that may be there at once
    reason: str = ""  # why nothing more is submitted, or what the backend waits for
    failures: int = 0  # pilots in a row that could not work
    log: str = ""  # the last lines of the output of the last of them


class PilotStatus(NamedTuple):
    """All pilots at one moment."""

    at: float = 0.0  # seconds since 1970 when the scheduler wrote this; 0: never
    backends: tuple[BackendRow, ...] = ()
    pilots: tuple[PilotRow, ...] = ()

    @property
    def nodes(self) -> Mapping[str, str]:
        """The node of each pilot by its token; of one that is on none yet its backend's name."""
        return {pilot.token: pilot.node or pilot.backend for pilot in self.pilots}


NO_PILOTS = PilotStatus()


def read_pilot_status(home: Home) -> PilotStatus:
    """Return the pilots as the scheduler last saw them. Empty if there is no file of a known version."""
    try:
        record = read_json(home.folder / "pilots.json")
    except OSError:
        record = None
    if record is None or record.get("schema") != SCHEMA:
        return NO_PILOTS
    at = record.get("at")
    return PilotStatus(
        at=float(at) if isinstance(at, int | float) and math.isfinite(at) else 0.0,
        backends=tuple(_rows(BackendRow, record.get("backends"))),
        pilots=tuple(map(_with_valid_times, _rows(PilotRow, record.get("pilots")))),
    )


def _rows(kind: type[Row], stored_record: Json) -> Iterator[Row]:
    for entry in stored_record if isinstance(stored_record, list) else []:
        with contextlib.suppress(Unreadable, TypeError):  # none that we know
            row = _row(kind, entry)
            values: Iterable[object] = row
            if all(math.isfinite(value) for value in values if isinstance(value, float)):
                yield row


def _row(kind: type[Row], entry: object) -> Row:
    """Return a row without control characters, as an engine may report any text.

    Raises:
        Unreadable: the record is not a row.
    """
    record = entry if isinstance(entry, dict) else {}
    words = {
        name: sanitize_terminal(text) for name, text in record.items() if isinstance(text, str)
    }
    return restore_known_fields(kind, record | words, "a row")


def _with_valid_times(row: PilotRow) -> PilotRow:
    """Return a pilot with valid times."""
    return row._replace(
        since=_valid_time(row.since) or 0.0,
        starts_at=_valid_time(row.starts_at),
        heard_at=_valid_time(row.heard_at),
    )


def _valid_time(timestamp: float | None) -> float | None:
    return timestamp if timestamp is not None and 0 <= timestamp <= LATEST_TIME else None


class PilotsFile:
    """The file, written when something has changed."""

    def __init__(self, home: Home) -> None:
        """Begin without having written it."""
        self._path = home.folder / "pilots.json"
        self._written: tuple[object, ...] | None = None
        self._written_at = -math.inf  # monotonic
        self._nodes = NodesFile(home)

    def is_due(self, now: float) -> bool:
        """Return whether it may be written again at this time of a monotonic clock."""
        return now >= self._written_at + WRITE_EVERY_S

    def write(
        self,
        backends: Sequence[BackendRow],
        pilots: Sequence[PilotRow],
        now: float,
        wall: float | None = None,
    ) -> None:
        """Write it if something has changed, and every REWRITE_EVERY_S while there are pilots. A full disk is only logged.

        Args:
            backends: backends with pilots, or with work that waits.
            pilots: all of them.
            now: time of a monotonic clock.
            wall: seconds since 1970.
        """
        self._nodes.add(pilots)
        lasting = (*backends, *(row._replace(heard_at=None) for row in pilots))
        if lasting == (self._written or ()) and (
            not pilots or now < self._written_at + REWRITE_EVERY_S
        ):
            return
        self._written, self._written_at = lasting, now
        record: dict[str, Json] = {
            "schema": SCHEMA,
            "at": time.time() if wall is None else wall,
            "backends": [row._asdict() for row in backends],
            "pilots": [row._asdict() for row in pilots],
        }
        try:
            write_json(self._path, record, mode=0o600, durable=False)
        except OSError as error:
            _log_trouble("pilots.json", error)


def _log_trouble(file: str, error: OSError) -> None:
    import logging  # 2 ms; commands only read these files

    logging.getLogger(__name__).warning("%s trouble=%r", file, str(error))
