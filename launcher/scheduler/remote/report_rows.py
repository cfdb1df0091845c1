"""Pilots and backends as rows of pilots.json."""

import math

from launcher.backends.settings import BackendSettings
from launcher.scheduler.remote.pilot import Pilot
from launcher.scheduler.remote.pilot_rules import OVER, Life
from launcher.scheduler.remote.report import BackendRow, PilotRow
from launcher.scheduler.remote.submission_pace import Pace
from launcher.scheduler.remote.waiting_reasons import GONE_FOR_GOOD, line


def backend_row(settings: BackendSettings, pace: Pace, reason: str) -> BackendRow:
    """Return a backend as screens get it.

    Args:
        settings: its table of config.toml.
        pace: what became of its last pilots.
        reason: why work waits for it.
    """
    return BackendRow(
        name=settings.name,
        kind=settings.kind,
        reason=reason,
        pilots=settings.pilots,
        failures=pace.failures,
        log=pace.log or "",
    )


def pilot_row(pilot: Pilot, backend: str, wall: float) -> PilotRow:
    """Return a pilot as screens get it.

    Args:
        pilot: as it is now.
        backend: its backend's name.
        wall: seconds since 1970.
    """
    observation, spec, record = pilot.observation, pilot.record.spec, pilot.record
    ours = record.given_up or record.cancelled or "; ".join(pilot.troubles)
    of_engine = "" if observation is None else observation.reason or str(observation.cause or "")
    if pilot.attempts and pilot.life in OVER:  # what ended there cannot be read yet
        ours = ours or pilot.link.trouble
    why = ours or of_engine
    if pilot.life is Life.STRANDED:
        why = f"{why}; {GONE_FOR_GOOD}"
    silent_s = pilot.silent_s if pilot.spoke else math.inf
    return PilotRow(
        backend=backend,
        token=pilot.token,
        stage=pilot.life,
        reason=line(why),
        node=pilot.node,
        job=pilot.job,
        starts_at=None if observation is None else observation.starts_at,
        since=record.since,
        cpus=spec.cpus,
        gpus=spec.gpus,
        attempts=pilot.attempts,
        heard_at=wall - silent_s if math.isfinite(silent_s) else None,
        log=pilot.log or "",
    )
