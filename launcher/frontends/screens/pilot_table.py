"""The pilots as the scheduler last saw them: values, and lines for screens.

Output of pilots and engines is made harmless to a terminal. A table lists the pilots on nodes. Lines below it show what
each backend waits for.
"""

from collections import Counter
from textwrap import wrap

from launcher.queue.backends.pilot_status import BackendRow, PilotRow, PilotStatus
from launcher.queue.texts import first_line, iso_time_or_none, time_of_day
from launcher.system.files import Json
from launcher.system.text_table import Cell, Column, TextLine, TextSpan, TextStyle, TextTable, line
from launcher.system.units import format_seconds

LOCAL = "local"  # the name of this machine among nodes, as in `--on`
_RECORD_NAMES = {"stage": "state", "attempts": "jobs"}  # field → key
_TIMES = frozenset({"since", "starts_at", "heard_at"})
MOST = 16  # pilots that are listed one by one
LOG_LINES = 3  # lines of the log of a pilot that did not start
STALE_S = 30.0  # the scheduler writes every few seconds while there are pilots
# by the words of `pilot_rules.PilotState`, which is not light
_GLYPHS = {
    "running": ("●", TextStyle.OURS),
    "starting": ("◐", TextStyle.PLAIN),
    "leaving": ("○", TextStyle.DIM),
    "silent": ("▲", TextStyle.WARN),
    "stranded": ("▲", TextStyle.WARN),
    "missing": ("▲", TextStyle.WARN),
    "expired": ("✗", TextStyle.BAD),
    "ended": ("○", TextStyle.DIM),
}
_PLAIN = ("●", TextStyle.PLAIN)
_UNRESPONSIVE = frozenset({"silent", "stranded", "missing"})
_STAGE_NOTES = {  # facts that the word alone does not show
    "stranded": "ended, but its node does not respond",
    "missing": "its engine has no record of it",
}
_ON_THEIR_WAY = frozenset({"submitted", "waiting"})
_COLUMNS = (
    Column("PILOTS", least=10),
    Column("STATE"),
    Column("NODE", least=6),
    Column("CORES", right=True, drop=2),
    Column("GPUS", right=True, drop=3),
    Column("JOBS", right=True),
    Column("TIME", right=True, drop=1),
    Column("WHY", least=20, rows=3),
)


def pilots_record(pilots: PilotStatus) -> dict[str, Json]:
    """Return pilots and their backends for JSON."""
    return {
        "backends": [_record(row) for row in pilots.backends],
        "pilots": [_record(row) for row in pilots.pilots],
    }


def _record(row: BackendRow | PilotRow) -> dict[str, Json]:
    """Return a row for JSON: times in UTC, null if there is no word."""
    return {
        _RECORD_NAMES.get(name, name): iso_time_or_none(value)
        if name in _TIMES
        else value
        if value != ""
        else None
        for name, value in row._asdict().items()
    }


def draw_pilots(pilots: PilotStatus, now: float, width: int) -> list[TextLine]:
    """Return the lines of a section; none if there is neither a pilot nor one that is missed.

    Args:
        pilots: pilots as the scheduler last saw them.
        now: seconds since 1970.
        width: columns.
    """
    there = [pilot for pilot in pilots.pilots if pilot.stage not in _ON_THEIR_WAY]
    there.sort(key=lambda pilot: (pilot.backend, pilot.node, pilot.since))
    lines = TextTable(_COLUMNS, [_cells(pilot, now) for pilot in there[:MOST]]).to_lines(width)
    if len(there) > MOST:
        counts = Counter(pilot.stage for pilot in there[MOST:])
        more = ", ".join(f"{number:,} {stage}" for stage, number in counts.items())
        lines.append(line(f"and {len(there) - MOST:,} more: {more}", TextStyle.DIM).truncate(width))
    lines += [
        text for backend in pilots.backends for text in _backend_lines(backend, pilots, width)
    ]
    if lines and abs(now - pilots.at) > STALE_S:
        lines.append(
            line(f"as the scheduler saw them at {time_of_day(pilots.at)}", TextStyle.DIM).truncate(
                width
            )
        )
    return lines


def _cells(pilot: PilotRow, now: float) -> tuple[Cell, ...]:
    glyph, tone = _GLYPHS.get(pilot.stage, _PLAIN)
    return (
        TextSpan(f"{glyph} {pilot.backend}", tone),
        TextSpan(pilot.stage, tone),
        pilot.node,
        str(pilot.cpus),
        str(pilot.gpus or ""),
        str(pilot.attempts or ""),
        format_seconds(max(0.0, now - pilot.since)) if pilot.since else "",
        TextSpan(_why(pilot, now), tone),
    )


def _why(pilot: PilotRow, now: float) -> str:
    silent_s = pilot.silent_s(now)
    mute = pilot.stage in _UNRESPONSIVE and silent_s is not None
    silence = f"silent for {format_seconds(round(silent_s or 0.0))}" if mute else ""
    parts = (_STAGE_NOTES.get(pilot.stage, ""), silence, first_line(pilot.reason))
    return "; ".join(filter(None, parts))


def _backend_lines(backend: BackendRow, pilots: PilotStatus, width: int) -> list[TextLine]:
    """Return what a backend waits for, with the last words of a pilot that did not start."""
    if not backend.reason:
        return []
    there = any(pilot.backend == backend.name for pilot in pilots.pilots)
    tone = TextStyle.PLAIN if there and not backend.failures else TextStyle.WARN
    name = f"{backend.name}: "
    texts = wrap(f"{name}{first_line(backend.reason)}", width, subsequent_indent=" " * len(name))
    lines = [line(text, tone) for text in texts]
    lines += [
        line(f"{' ' * len(name)}│ {text}", TextStyle.DIM).truncate(width)
        for text in backend.log.splitlines()[-LOG_LINES:]
    ]
    return lines
