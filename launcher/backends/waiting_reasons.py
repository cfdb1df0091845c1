"""Why work waits for pilots of a backend: what is there, what the engine says of it, and what to do.

Pilots and backends as rows of pilots.json.
"""

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.backends.pilot import Pilot
from launcher.backends.pilot_rules import OVER, TRIES, Life, Pace
from launcher.backends.pilots_file import BackendRow, PilotRow
from launcher.backends.settings import BackendSettings
from launcher.system.text import harmless
from launcher.units import format_estimate, format_seconds

NEVER_S = 1.0  # an engine that has never answered is late then
MOST = 600  # characters of what an engine said
GONE_FOR_GOOD = (
    "if that node is gone for good: launcher cancel, then launcher retry, the jobs there"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is known of a backend."""

    settings: BackendSettings
    pilots: Sequence[Pilot]
    configured: bool
    trouble: str  # why the engine does not answer
    trouble_since: float  # seconds since 1970
    answered: bool  # the engine has ever come back
    disk: str  # why the home cannot be written
    late_s: float  # the engine has been asked so long ago
    refusal: str  # what it said to the last submission
    failures: int
    failure: str
    log: str | None  # what the last of these printed; None: not known, or not to be shown
    folder: str  # of the pilots, where it printed nothing
    pause_s: float  # until failures and refusals allow a submission
    wait_s: float  # until everything does
    now: float  # seconds since 1970


def line(text: str) -> str:
    """Return what a program said as a line that can be shown."""
    joined = " ".join(text.split())
    return harmless(joined if len(joined) <= MOST else f"{joined[: MOST - 1]}…")


def reason(situation: Situation, *, late_after_s: float) -> str:
    """Return why no further pilot takes the work that waits, in a line; '' where nothing is known to say."""
    if not situation.answered and situation.late_s > NEVER_S:  # of no pilot anything is known
        return (
            f"it has not answered since {_clock(situation.now - situation.late_s, situation.now)}"
        )
    parts = [_obstacle(situation, late_after_s), *_on_their_way(situation)]
    if not any(parts):
        parts = [_full(situation)]
    return "; ".join(filter(None, parts))


def _obstacle(situation: Situation, late_after_s: float) -> str:
    name = situation.settings.name
    if not situation.configured:
        return (
            f"config.toml has no [backends.{name}] any more: its pilots end when nothing runs there"
        )
    if situation.disk:
        return f"no pilot is submitted to {name}: {line(situation.disk)}"
    if situation.trouble:
        since = f"since {_clock(situation.trouble_since, situation.now)}"
        return f"it does not answer {since} ({line(situation.trouble)}): nothing is submitted until it does"
    if situation.late_s > late_after_s:
        return f"it has not answered for {format_seconds(situation.late_s)}"
    if situation.refusal:
        again = f"tried again in {format_seconds(situation.pause_s)}" if situation.pause_s else ""
        return f"it took no pilot: {line(situation.refusal)}{f'; {again}' if again else ''}"
    if situation.failures:
        return _failures(situation)
    return ""


def _clock(at: float, now: float) -> str:
    """Return a time of the day, before today with its date; unlike a span it does not change while it is shown."""
    then = time.localtime(at)
    today = then[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M" if today else "%Y-%m-%d %H:%M", then)


def _failures(situation: Situation) -> str:
    number, name = situation.failures, situation.settings.name
    what = f"the last pilot of {name}" if number == 1 else f"the last {number} pilots of {name}"
    text = f"{what} could not work: {line(situation.failure)}"
    if situation.log and situation.failure not in situation.log:
        text += f"; its log ends: {line(situation.log)}"
    if situation.folder:
        text += f"; it printed nothing: do the nodes see {situation.folder}?"
    if situation.pause_s and number >= TRIES:
        text += (
            f"; the next one is tried in {format_seconds(situation.pause_s)}, "
            f"or at once when [backends.{name}] is changed"
        )
    return text


def _on_their_way(situation: Situation) -> list[str]:
    name = situation.settings.name
    waiting = [pilot for pilot in situation.pilots if pilot.life is Life.WAITING]
    starting = [
        pilot for pilot in situation.pilots if pilot.life in {Life.STARTING, Life.SUBMITTED}
    ]
    silent = [pilot for pilot in situation.pilots if pilot.life in {Life.SILENT, Life.STRANDED}]
    parts = []
    if waiting:
        parts.append(
            f"{_pilots(len(waiting), 'waits', 'wait')} in {name}{_why(waiting, situation)}"
        )
    if starting:
        parts.append(f"{_pilots(len(starting), 'starts', 'start')} in {name}{_where(starting)}")
    parts += [f"{pilot.label} is {_silence(pilot)}" for pilot in silent[:1]]
    return parts


def _pilots(number: int, singular: str, plural: str) -> str:
    return f"1 pilot {singular}" if number == 1 else f"{number} pilots {plural}"


def _why(waiting: Sequence[Pilot], situation: Situation) -> str:
    seen = [pilot.observation for pilot in waiting if pilot.observation is not None]
    reasons = [
        name for name, _ in Counter(filter(None, (each.reason for each in seen))).most_common(2)
    ]
    starts = [each.starts_at for each in seen if each.starts_at is not None]
    parts = [line(" and ".join(reasons))] if reasons else []
    if starts and (estimate := format_estimate(min(starts), situation.now)):
        parts.append(f"estimated {estimate.removeprefix('at ')}")
    return f": {', '.join(parts)}" if parts else ""


def _where(pilots: Sequence[Pilot]) -> str:
    nodes = sorted({pilot.node for pilot in pilots} - {""})
    more = f" and {len(nodes) - 2} more" if len(nodes) > 3 else ""
    return f" on {', '.join(nodes[: 2 if more else 3])}{more}" if nodes else ""


def _silence(pilot: Pilot) -> str:
    span = format_seconds(min(pilot.silent_s, 1e9))
    if pilot.life is Life.STRANDED:
        return (
            "ended, says its engine, but its node does not answer: what runs there may run on "
            f"(silent for {span}); {GONE_FOR_GOOD}"
        )
    return f"silent for {span}: what runs there is not started again before its engine says that it ended"


def _full(situation: Situation) -> str:
    settings = situation.settings
    held = sum(pilot.held for pilot in situation.pilots)
    if held >= settings.pilots:
        which = "the pilot" if held == 1 else f"all {held} pilots"
        return (
            f"{which} of {settings.name} {'is' if held == 1 else 'are'} busy, and no more may be there "
            f"at once: [backends.{settings.name}] pilots = {settings.pilots}"
        )
    if situation.wait_s > 0:
        return (
            f"the next pilot is submitted to {settings.name} in {format_seconds(situation.wait_s)}"
        )
    return ""


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
