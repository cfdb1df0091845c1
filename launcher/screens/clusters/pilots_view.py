"""The pilots as lines: those on nodes in a table, and below it what each backend waits for."""

from collections import Counter
from collections.abc import Sequence
from textwrap import wrap

from launcher.backends.pilots_file import BackendRow, PilotRow
from launcher.screens.clusters.pilots_now import Pilots
from launcher.screens.format import clock, first_line
from launcher.screens.text_table import Column, Line, Span, Tone, line, table
from launcher.units import format_seconds

MOST = 16  # pilots that are listed one by one
LOG_LINES = 3  # of a pilot that did not start
STALE_S = 30.0  # the scheduler writes every few seconds while there are pilots
# by the words of `pilot_rules.Life`, which is not light
_GLYPHS = {
    "running": ("●", Tone.OURS),
    "starting": ("◐", Tone.PLAIN),
    "leaving": ("○", Tone.DIM),
    "silent": ("▲", Tone.WARN),
    "stranded": ("▲", Tone.WARN),
    "missing": ("▲", Tone.WARN),
    "expired": ("✗", Tone.BAD),
    "ended": ("○", Tone.DIM),
}
_PLAIN = ("●", Tone.PLAIN)
_MUTE = frozenset({"silent", "stranded", "missing"})
_MEANS = {  # what the word alone does not say
    "stranded": "ended, but its node does not answer",
    "missing": "its engine has forgotten it",
}
_ON_THEIR_WAY = frozenset({"submitted", "waiting"})
_COLUMNS = (
    Column(title="PILOTS", least=10),
    Column(title="STATE"),
    Column(title="NODE", least=6),
    Column(title="CORES", right=True, drop=2),
    Column(title="GPUS", right=True, drop=3),
    Column(title="JOBS", right=True),
    Column(title="TIME", right=True, drop=1),
    Column(title="WHY", least=20, rows=3),
)


def draw_pilots(pilots: Pilots, now: float, width: int) -> list[Line]:
    """Return the lines of a section; none where there is neither a pilot nor one that is missed.

    Args:
        pilots: as the scheduler last saw them.
        now: seconds since 1970.
        width: columns.
    """
    there = [pilot for pilot in pilots.pilots if pilot.stage not in _ON_THEIR_WAY]
    there.sort(key=lambda pilot: (pilot.backend, pilot.node, pilot.since))
    rows = [(_cells(pilot, now), None) for pilot in there[:MOST]]
    lines = table(_COLUMNS, rows, width)
    if len(there) > MOST:
        counts = Counter(pilot.stage for pilot in there[MOST:])
        more = ", ".join(f"{number:,} {stage}" for stage, number in counts.items())
        lines.append(line(f"and {len(there) - MOST:,} more: {more}", Tone.DIM).cut(width))
    lines += [text for backend in pilots.backends for text in _backend(backend, pilots, width)]
    if lines and abs(now - pilots.at) > STALE_S:
        lines.append(line(f"as the scheduler saw them at {clock(pilots.at)}", Tone.DIM).cut(width))
    return lines


def _cells(pilot: PilotRow, now: float) -> Sequence[Span]:
    glyph, tone = _GLYPHS.get(pilot.stage, _PLAIN)
    return (
        Span(f"{glyph} {pilot.backend}", tone),
        Span(pilot.stage, tone),
        Span(pilot.node),
        Span(str(pilot.cpus)),
        Span(str(pilot.gpus) if pilot.gpus else ""),
        Span(str(pilot.attempts) if pilot.attempts else ""),
        Span(format_seconds(max(0.0, now - pilot.since)) if pilot.since else ""),
        Span(_why(pilot, now), tone),
    )


def _why(pilot: PilotRow, now: float) -> str:
    silent_s = pilot.silent_s(now)
    mute = pilot.stage in _MUTE and silent_s is not None
    silence = f"silent for {format_seconds(round(silent_s or 0.0))}" if mute else ""
    parts = (_MEANS.get(pilot.stage, ""), silence, first_line(pilot.reason))
    return "; ".join(filter(None, parts))


def _backend(backend: BackendRow, pilots: Pilots, width: int) -> list[Line]:
    """Return what a backend waits for, with the last words of a pilot that did not start."""
    if not backend.reason:
        return []
    there = any(pilot.backend == backend.name for pilot in pilots.pilots)
    tone = Tone.PLAIN if there and not backend.failures else Tone.WARN
    name = f"{backend.name}: "
    texts = wrap(f"{name}{first_line(backend.reason)}", width, subsequent_indent=" " * len(name))
    lines = [line(text, tone) for text in texts]
    lines += [
        line(f"{' ' * len(name)}│ {text}", Tone.DIM).cut(width)
        for text in backend.log.splitlines()[-LOG_LINES:]
    ]
    return lines
