"""The pilots as the scheduler last saw them, as screens show them: what they print is harmless to a terminal."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from launcher.backends.pilots_file import (
    BackendRow,
    PastPilot,
    PilotRow,
    past_pilots,
    read_pilots,
)
from launcher.screens.format import iso
from launcher.system.files import Json
from launcher.system.paths import Home
from launcher.system.text import harmless

LAST = 1e11  # seconds since 1970; no calendar goes much further
ELSEWHERE = "a pilot"  # of which nothing more is known
HERE = "local"  # this machine among nodes, by the word that `--on` has for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilots:
    """Pilots and their backends at one moment."""

    at: float = 0.0  # seconds since 1970 when the scheduler wrote this; 0: never
    backends: tuple[BackendRow, ...] = ()
    pilots: tuple[PilotRow, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.backends or self.pilots)

    @property
    def nodes(self) -> Mapping[str, str]:
        """The node of each pilot by its token; of one that is on none yet its backend's name."""
        return {pilot.token: pilot.node or pilot.backend for pilot in self.pilots}

    def record(self) -> dict[str, Json]:
        """Return both for JSON."""
        return {
            "backends": [
                {
                    "name": row.name,
                    "kind": row.kind,
                    "pilots": row.pilots,
                    "reason": row.reason or None,
                    "failures": row.failures,
                    "log": row.log or None,
                }
                for row in self.backends
            ],
            "pilots": [
                {
                    "token": row.token,
                    "backend": row.backend,
                    "state": row.stage,
                    "node": row.node or None,
                    "job": row.job or None,
                    "reason": row.reason or None,
                    "since": iso(row.since),
                    "starts_at": None if row.starts_at is None else iso(row.starts_at),
                    "cpus": row.cpus,
                    "gpus": row.gpus,
                    "jobs": row.attempts,
                    "heard_at": None if row.heard_at is None else iso(row.heard_at),
                    "log": row.log or None,
                }
                for row in self.pilots
            ],
        }


NO_PILOTS = Pilots()
NOT_KNOWN = PastPilot(token="")


def places_of(home: Home) -> dict[str, PastPilot]:
    """Return by token where pilots are or were; a name and a node are harmless to a terminal."""
    return {
        token: PastPilot(token=token, backend=harmless(past.backend), node=harmless(past.node))
        for token, past in past_pilots(home).items()
    }


def seen_pilots(home: Home) -> Pilots:
    """Return the pilots of a home as its scheduler last saw them."""
    report = read_pilots(home)
    return Pilots(
        at=report.at,
        backends=tuple(map(_backend, report.backends)),
        pilots=tuple(map(_pilot, report.pilots)),
    )


def _backend(row: BackendRow) -> BackendRow:
    return replace(
        row,
        name=harmless(row.name),
        kind=harmless(row.kind),
        reason=harmless(row.reason),
        log=harmless(row.log),
    )


def _pilot(row: PilotRow) -> PilotRow:
    """Return a pilot whose words are harmless and whose times are some: an engine may say anything."""
    return replace(
        row,
        backend=harmless(row.backend),
        token=harmless(row.token),
        stage=harmless(row.stage),
        reason=harmless(row.reason),
        node=harmless(row.node),
        job=harmless(row.job),
        log=harmless(row.log),
        since=_time(row.since) or 0.0,
        starts_at=_time(row.starts_at),
        heard_at=_time(row.heard_at),
    )


def _time(at: float | None) -> float | None:
    return at if at is not None and 0 <= at <= LAST else None
