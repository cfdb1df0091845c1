"""What a queue did as lines: of a screen at any width, and of a pipe."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from launcher.errors import counted
from launcher.screens.format import harmless
from launcher.screens.text_table import Cell, Column, Line, Span, Table, Tone, line
from launcher.states import ReasonCode
from launcher.store.failure_groups import FailureGroup
from launcher.store.history_report import HOUR_S, Day, Memory, NodeUse, Past, Run
from launcher.system.files import Json
from launcher.units import format_bytes, format_seconds

DAY, RUN, CAUSE, MEMORY, NODE = SECTIONS = ("day", "run", "cause", "memory", "node")
_PARTS = dict(zip(SECTIONS, Past._fields, strict=True))  # of the past
MOST = {DAY: 14, RUN: 12, CAUSE: 12, MEMORY: 12, NODE: 12}  # lines of a section among others
Shown = Day | Run | FailureGroup | Memory | NodeUse  # a row of a section
_NO_FAULT = frozenset({ReasonCode.CANCELLED, ReasonCode.STOPPED})
_LEAST = 0.01  # hours that are worth a number


def draw(past: Past, width: int, sections: Sequence[str] = ()) -> list[Line]:
    """Return the sections as tables.

    Args:
        past: the history to show.
        width: columns of the screen.
        sections: which; those that are named are shown whole, others, where none is, in short.
    """
    lines: list[Line] = []
    for section in sections or _usual(past):
        rows = _of(past, section)
        left = 0 if sections else len(rows) - MOST[section]
        more = [line(f"{left:,} more: launcher history --by {section}", Tone.DIM)]
        shown = rows[: len(rows) - max(0, left)]
        drawn = Table(_COLUMNS[section], shown, notes=more if left > 0 else ()).drawn(width)
        if drawn:
            lines += [line(""), *drawn] if lines else drawn
    return lines


def headline(past: Past) -> str:
    """Return all of it in one line."""
    amounts = ("done", "failed", "cancelled", "skipped", "gpu_seconds", "core_seconds")
    sums = {name: sum(getattr(day, name) for day in past.days) for name in amounts}
    parts = [f"{sums['done']:,} done"]
    parts += [f"{sums[name]:,} {name}" for name in ("failed", "cancelled", "skipped") if sums[name]]
    parts += [f"{_hours(sums['gpu_seconds'])} GPU-hours"] if sums["gpu_seconds"] else []
    parts += [f"{_hours(sums['core_seconds'])} core-hours"] if sums["core_seconds"] else []
    return " · ".join([*parts, f"on {counted(len(past.days), 'day')}"])


def columns(past: Past, sections: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """Return all as lines for a pipe: the section's name, then its values, a dash for the unknown."""
    return [
        (section, *(_plain(value) for key, value in _values(row) if key != "reason_code"))
        for section in sections or _usual(past)
        for row in _of(past, section)
    ]


def record(past: Past, sections: Sequence[str] = ()) -> dict[str, Json]:
    """Return all for JSON; a section that was not asked for is left out."""
    return {
        _PARTS[section]: [dict(_values(row)) for row in _of(past, section)]
        for section in sections or SECTIONS
    }


def _values(row: Shown) -> Iterator[tuple[str, Json]]:
    """Give the columns of a row, numbers as a program wants them."""
    for name, value in row._asdict().items():
        digits = 4 if name == "wasted_gib_hours" else 3
        yield name, round(value, digits) if isinstance(value, float) else value


def _usual(past: Past) -> Sequence[str]:
    """Return the sections that are shown where none is named: nodes only where there are several."""
    return SECTIONS if len(past.nodes) > 1 else [name for name in SECTIONS if name != NODE]


def _of(past: Past, section: str) -> Sequence[Shown]:
    shown: Sequence[Shown] = getattr(past, _PARTS[section])
    return shown


def _next_time(memory: Memory) -> Span:
    beyond = f"{memory.beyond:,} used more" if memory.beyond else ""
    learned = "" if memory.declared else "learned by itself"
    text = "; ".join(filter(None, (beyond, memory.hint or learned)))
    tone = Tone.WARN if memory.beyond else Tone.DIM if not memory.hint else Tone.PLAIN
    return Span(harmless(text), tone)


def _cause(group: FailureGroup) -> Span:
    return Span(harmless(group.text), Tone.DIM if group.reason_code in _NO_FAULT else Tone.PLAIN)


def _span(seconds: float | None) -> str:
    return "" if seconds is None else format_seconds(seconds)


def _hours(seconds: float) -> str:
    """Return hours as a person reads them: a small number keeps digits, a tiny one needs none."""
    hours = seconds / HOUR_S
    if not hours:
        return ""
    if hours < _LEAST:
        return f"<{_LEAST:g}"
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}" if hours >= 1 else f"{hours:.2g}"


def _plain(value: Json) -> str:
    """Return a value as a pipe gets it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return harmless(str(value))


_TONES = {"failed": Tone.BAD, "cancelled": Tone.DIM, "skipped": Tone.WARN}


def _name(title: str, of: Callable[[Any], Cell], least: int = 12) -> Column:
    return Column(title, least=least, middle=True, of=of)


def _right(title: str, of: Callable[[Any], Cell], drop: int = 0) -> Column:
    return Column(title, right=True, drop=drop, of=of)


def _counted(name: str, drop: int = 0, title: str = "") -> Column:
    tone = _TONES.get(name, Tone.PLAIN)

    def cell(row: Any) -> Span:
        number: int = getattr(row, name)
        return Span(f"{number:,}" if number else "", tone)

    return _right(title or name.upper(), cell, drop)


def _spent(what: str, drop: int = 0) -> Column:
    return _right(
        f"{what.upper()}-HOURS", lambda row: _hours(getattr(row, f"{what}_seconds")), drop
    )


# by section
_COLUMNS: Mapping[str, Sequence[Column]] = {
    DAY: (
        Column("DAY", of=lambda day: day.day),
        _counted("done"),
        _counted("failed"),
        _counted("cancelled", 2),
        _counted("skipped", 3),
        _spent("gpu"),
        _spent("core", 4),
        _right("MEDIAN", lambda day: _span(day.median_seconds), 1),
    ),
    RUN: (
        _name("RUN", lambda run: run.run),
        _counted("jobs", 2),
        _counted("done"),
        _counted("failed"),
        _counted("attempts", 3),
        _spent("gpu"),
        _spent("core", 4),
    ),
    CAUSE: (
        _name("CAUSE", _cause, 24),
        _counted("attempts", title="TIMES"),
        _right("TIME LOST", lambda group: _span(group.seconds)),
        Column("LAST JOB", drop=1, of=lambda group: Span(f"launcher show {group.job}", Tone.DIM)),
    ),
    MEMORY: (
        _name("SIMILAR JOBS", lambda memory: memory.name, 16),
        _counted("attempts", 2, "TIMES"),
        _right("REQUESTED", lambda memory: format_bytes(memory.asked)),
        _right("USED", lambda memory: format_bytes(memory.peak)),
        _right("WASTED GiB·h", lambda memory: f"{memory.wasted_gib_hours:,.1f}", 1),
        Column("NEXT REQUEST", least=20, rows=3, of=_next_time),
    ),
    NODE: (
        _name("NODE", lambda node: node.node or "unknown"),
        Column("OF", of=lambda node: node.backend),
        _counted("attempts", 2),
        _counted("done"),
        _spent("gpu"),
        _spent("core", 1),
    ),
}
