"""What a queue did as lines: of a screen at any width, and of a pipe."""

from collections.abc import Sequence

from launcher.errors import counted
from launcher.screens.format import harmless
from launcher.screens.text_table import Cell, Column, Line, Span, Tone, line, table
from launcher.states import ReasonCode
from launcher.store.history import Day, FailureGroup, Memory, NodeUse, Past, Run
from launcher.system.files import Json
from launcher.units import format_bytes, format_seconds

DAY, RUN, CAUSE, MEMORY, NODE = SECTIONS = ("day", "run", "cause", "memory", "node")
MOST = {DAY: 14, RUN: 12, CAUSE: 12, MEMORY: 12, NODE: 12}  # lines of a section among others
_NO_FAULT = frozenset({ReasonCode.CANCELLED, ReasonCode.STOPPED})
_LEAST = 0.01  # hours that are worth a number

Rows = Sequence[tuple[Sequence[Cell], int | None]]


def draw(past: Past, width: int, sections: Sequence[str] = ()) -> list[Line]:
    """Return the sections as tables.

    Args:
        past: the history to show.
        width: columns of the screen.
        sections: which; those that are named are shown whole, others, where none is, in short.
    """
    lines: list[Line] = []
    for section in sections or _usual(past):
        columns, rows = _TABLES[section](past)
        most = len(rows) if sections else MOST[section]
        drawn = table(columns, rows[:most], width)
        if len(rows) > most:
            text = f"{len(rows) - most:,} more: launcher history --by {section}"
            drawn.append(line(text, Tone.DIM).cut(width))
        if drawn:
            lines += [line(""), *drawn] if lines else drawn
    return lines


def headline(past: Past) -> str:
    """Return all of it in one line."""
    sums = {
        name: sum(getattr(day, name) for day in past.days)
        for name in ("done", "failed", "cancelled", "skipped", "gpu_hours", "cpu_hours")
    }
    parts = [f"{sums['done']:,} done"]
    parts += [f"{sums[name]:,} {name}" for name in ("failed", "cancelled", "skipped") if sums[name]]
    parts += [f"{_hours(sums['gpu_hours'])} GPU-hours"] if sums["gpu_hours"] else []
    parts += [f"{_hours(sums['cpu_hours'])} core-hours"] if sums["cpu_hours"] else []
    return " · ".join([*parts, f"on {counted(len(past.days), 'day')}"])


def columns(past: Past, sections: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """Return all as lines for a pipe: the section's name, then its values, a dash for the unknown."""
    return [
        (section, *(_plain(value) for key, value in row.values().items() if key != "reason_code"))
        for section in sections or _usual(past)
        for row in _of(past, section)
    ]


def record(past: Past, sections: Sequence[str] = ()) -> dict[str, Json]:
    """Return all for JSON; a section that was not asked for is left out."""
    names = {DAY: "days", RUN: "runs", CAUSE: "causes", MEMORY: "memory", NODE: "nodes"}
    return {
        names[section]: [row.values() for row in _of(past, section)]
        for section in sections or SECTIONS
    }


def _usual(past: Past) -> Sequence[str]:
    """Return the sections that are shown where none is named: nodes only where there are several."""
    return SECTIONS if len(past.nodes) > 1 else [name for name in SECTIONS if name != NODE]


def _of(past: Past, section: str) -> Sequence[Day | Run | FailureGroup | Memory | NodeUse]:
    by_section: dict[str, Sequence[Day | Run | FailureGroup | Memory | NodeUse]] = {
        DAY: past.days,
        RUN: past.runs,
        CAUSE: past.failures,
        MEMORY: past.memory,
        NODE: past.nodes,
    }
    return by_section[section]


def _days(past: Past) -> tuple[Sequence[Column], Rows]:
    names = ("DONE", "FAILED", "CANCELLED", "SKIPPED", "GPU-HOURS", "CORE-HOURS", "MEDIAN")
    drops = (0, 0, 2, 3, 0, 4, 1)
    right = [
        Column(title=name, right=True, drop=drop) for name, drop in zip(names, drops, strict=True)
    ]
    rows = [
        (
            (
                Span(day.day),
                _count(day.done),
                _count(day.failed, Tone.BAD),
                _count(day.cancelled, Tone.DIM),
                _count(day.skipped, Tone.WARN),
                _hours_cell(day.gpu_hours),
                _hours_cell(day.cpu_hours),
                Span("" if day.median_s is None else format_seconds(day.median_s)),
            ),
            None,
        )
        for day in past.days
    ]
    return (Column(title="DAY"), *right), rows


def _runs(past: Past) -> tuple[Sequence[Column], Rows]:
    names = ("JOBS", "DONE", "FAILED", "ATTEMPTS", "GPU-HOURS", "CORE-HOURS")
    drops = (2, 0, 0, 3, 0, 4)
    right = [
        Column(title=name, right=True, drop=drop) for name, drop in zip(names, drops, strict=True)
    ]
    rows = [
        (
            (
                Span(harmless(run.run)),
                _count(run.jobs),
                _count(run.done),
                _count(run.failed, Tone.BAD),
                _count(run.attempts),
                _hours_cell(run.gpu_hours),
                _hours_cell(run.cpu_hours),
            ),
            None,
        )
        for run in past.runs
    ]
    return (Column(title="RUN", least=12, middle=True), *right), rows


def _causes(past: Past) -> tuple[Sequence[Column], Rows]:
    rows = []
    for group in past.failures:
        tone = Tone.DIM if group.code in _NO_FAULT else Tone.PLAIN
        cells = (
            Span(harmless(group.text), tone),
            _count(group.attempts),
            Span(format_seconds(group.seconds)),
            Span(f"launcher show {group.job}", Tone.DIM),
        )
        rows.append((cells, group.job))
    return (
        Column(title="NOT DONE, BECAUSE", least=24, middle=True),
        Column(title="TIMES", right=True),
        Column(title="TIME LOST", right=True),
        Column(title="THE LAST ONE", drop=1),
    ), rows


def _memory(past: Past) -> tuple[Sequence[Column], Rows]:
    rows = []
    for memory in past.memory:
        beyond = f"{memory.beyond:,} took more" if memory.beyond else ""
        learned = "" if memory.declared else "learned by itself"
        text = "; ".join(filter(None, (beyond, memory.hint or learned)))
        tone = Tone.WARN if memory.beyond else Tone.DIM if not memory.hint else Tone.PLAIN
        cells = (
            Span(harmless(memory.name)),
            _count(memory.attempts),
            Span(format_bytes(memory.asked)),
            Span(format_bytes(memory.peak)),
            Span(f"{memory.wasted_gib_hours:,.1f}"),
            Span(text, tone),
        )
        rows.append((cells, memory.job))
    return (
        Column(title="MEMORY OF JOBS LIKE", least=16, middle=True),
        Column(title="TIMES", right=True, drop=2),
        Column(title="ASKED", right=True),
        Column(title="TOOK", right=True),
        Column(title="WASTED GiB·h", right=True, drop=1),
        Column(title="NEXT TIME", least=20, rows=3),
    ), rows


def _nodes(past: Past) -> tuple[Sequence[Column], Rows]:
    names = ("ATTEMPTS", "DONE", "GPU-HOURS", "CORE-HOURS")
    right = [
        Column(title=name, right=True, drop=drop)
        for name, drop in zip(names, (2, 0, 0, 1), strict=True)
    ]
    rows = [
        (
            (
                Span(node.node or "unknown"),
                Span(node.backend),
                _count(node.attempts),
                _count(node.done),
                _hours_cell(node.gpu_hours),
                _hours_cell(node.cpu_hours),
            ),
            None,
        )
        for node in past.nodes
    ]
    return (Column(title="NODE", least=12, middle=True), Column(title="OF"), *right), rows


_TABLES = {DAY: _days, RUN: _runs, CAUSE: _causes, MEMORY: _memory, NODE: _nodes}


def _count(number: int, tone: Tone = Tone.PLAIN) -> Span:
    return Span(f"{number:,}", tone) if number else Span("")


def _hours_cell(hours: float) -> Span:
    return Span(_hours(hours)) if hours else Span("")


def _hours(hours: float) -> str:
    """Return hours as a person reads them: a small number keeps digits, a tiny one needs none."""
    if 0 < hours < _LEAST:
        return f"<{_LEAST:g}"
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}" if hours >= 1 else f"{hours:.2g}"


def _plain(value: Json) -> str:
    """Return a value as a pipe gets it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return harmless(str(value))
