"""The history of a queue, as lines of a screen with any width and of a pipe."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from launcher.queue.jobs.states import ReasonCode
from launcher.queue.store.failure_groups import FailureGroup
from launcher.queue.store.history_report import (
    HOUR_S,
    DaySummary,
    HistoryReport,
    MemorySummary,
    NodeSummary,
    RunSummary,
)
from launcher.system.errors import pluralize
from launcher.system.files import Json
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import Cell, Column, TextLine, TextSpan, TextStyle, TextTable, line
from launcher.system.units import format_bytes, format_seconds

DAY, RUN, CAUSE, MEMORY, NODE = SECTIONS = ("day", "run", "cause", "memory", "node")
_PARTS = dict(zip(SECTIONS, HistoryReport._fields, strict=True))  # section → field of the report
MOST = {DAY: 14, RUN: 12, CAUSE: 12, MEMORY: 12, NODE: 12}  # lines of a section among others
# a row of a section
HistoryRow = DaySummary | RunSummary | FailureGroup | MemorySummary | NodeSummary
_NO_FAULT = frozenset({ReasonCode.CANCELLED, ReasonCode.SEARCH_ENDED, ReasonCode.STOPPED})
_LEAST = 0.01  # hours that are worth a number


def draw(history: HistoryReport, width: int, sections: Sequence[str] = ()) -> list[TextLine]:
    """Return the sections as tables.

    Args:
        history: the history to show.
        width: columns of the screen.
        sections: names of sections to show in full; by default, the main sections in short.
    """
    lines: list[TextLine] = []
    for section in sections or _default_sections(history):
        rows = _section_rows(history, section)
        left = 0 if sections else len(rows) - MOST[section]
        more = [line(f"{left:,} more: launcher history --by {section}", TextStyle.DIM)]
        shown = rows[: len(rows) - max(0, left)]
        drawn = TextTable(_COLUMNS[section], shown, notes=more if left > 0 else ()).to_lines(width)
        if drawn:
            lines += [line(""), *drawn] if lines else drawn
    return lines


def headline(history: HistoryReport) -> str:
    """Return the whole history in one line."""
    amounts = ("done", "failed", "cancelled", "skipped", "gpu_seconds", "core_seconds")
    sums = {name: sum(getattr(day, name) for day in history.days) for name in amounts}
    parts = [f"{sums['done']:,} done"]
    parts += [f"{sums[name]:,} {name}" for name in ("failed", "cancelled", "skipped") if sums[name]]
    parts += [f"{_hours(sums['gpu_seconds'])} GPU-hours"] if sums["gpu_seconds"] else []
    parts += [f"{_hours(sums['core_seconds'])} core-hours"] if sums["core_seconds"] else []
    return " · ".join([*parts, f"on {pluralize(len(history.days), 'day')}"])


def columns(history: HistoryReport, sections: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """Return all as lines for a pipe: the section's name, then its values, a dash for the unknown."""
    return [
        (section, *(_pipe_text(value) for key, value in _values(row) if key != "reason_code"))
        for section in sections or _default_sections(history)
        for row in _section_rows(history, section)
    ]


def history_to_json(history: HistoryReport, sections: Sequence[str] = ()) -> dict[str, Json]:
    """Return all as JSON; a section that was not requested is left out."""
    return {
        _PARTS[section]: [dict(_values(row)) for row in _section_rows(history, section)]
        for section in sections or SECTIONS
    }


def _values(row: HistoryRow) -> Iterator[tuple[str, Json]]:
    """Give the columns of a row, numbers as a program wants them."""
    for name, value in row._asdict().items():
        digits = 4 if name == "wasted_gib_hours" else 3
        yield name, round(value, digits) if isinstance(value, float) else value


def _default_sections(history: HistoryReport) -> Sequence[str]:
    """Return the sections that are shown by default: nodes only if there are several."""
    return SECTIONS if len(history.nodes) > 1 else [name for name in SECTIONS if name != NODE]


def _section_rows(history: HistoryReport, section: str) -> Sequence[HistoryRow]:
    shown: Sequence[HistoryRow] = getattr(history, _PARTS[section])
    return shown


def _next_request_cell(memory: MemorySummary) -> TextSpan:
    beyond = f"{memory.beyond:,} used more" if memory.beyond else ""
    learned = "" if memory.declared else "learned by itself"
    text = "; ".join(filter(None, (beyond, memory.hint or learned)))
    tone = (
        TextStyle.WARN if memory.beyond else TextStyle.DIM if not memory.hint else TextStyle.PLAIN
    )
    return TextSpan(sanitize_terminal(text), tone)


def _cause_cell(group: FailureGroup) -> TextSpan:
    return TextSpan(
        sanitize_terminal(group.text),
        TextStyle.DIM if group.reason_code in _NO_FAULT else TextStyle.PLAIN,
    )


def _duration_text(seconds: float | None) -> str:
    return "" if seconds is None else format_seconds(seconds)


def _hours(seconds: float) -> str:
    """Return hours as a person reads them: a small number keeps digits, a tiny one needs none."""
    hours = seconds / HOUR_S
    if not hours:
        return ""
    if hours < _LEAST:
        return f"<{_LEAST:g}"
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}" if hours >= 1 else f"{hours:.2g}"


def _pipe_text(value: Json) -> str:
    """Return a value as a pipe gets it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return sanitize_terminal(str(value))


_TONES = {"failed": TextStyle.BAD, "cancelled": TextStyle.DIM, "skipped": TextStyle.WARN}


def _name_column(title: str, read_cell: Callable[[Any], Cell], least: int = 12) -> Column:
    return Column(title, least=least, middle=True, cell_of=read_cell)


def _number_column(title: str, read_cell: Callable[[Any], Cell], drop: int = 0) -> Column:
    return Column(title, right=True, drop=drop, cell_of=read_cell)


def _count_column(name: str, drop: int = 0, title: str = "") -> Column:
    tone = _TONES.get(name, TextStyle.PLAIN)

    def cell(row: Any) -> TextSpan:
        number: int = getattr(row, name)
        return TextSpan(f"{number:,}" if number else "", tone)

    return _number_column(title or name.upper(), cell, drop)


def _hours_column(resource: str, drop: int = 0) -> Column:
    return _number_column(
        f"{resource.upper()}-HOURS", lambda row: _hours(getattr(row, f"{resource}_seconds")), drop
    )


# by section
_COLUMNS: Mapping[str, Sequence[Column]] = {
    DAY: (
        Column("DAY", cell_of=lambda day: day.day),
        _count_column("done"),
        _count_column("failed"),
        _count_column("cancelled", 2),
        _count_column("skipped", 3),
        _hours_column("gpu"),
        _hours_column("core", 4),
        _number_column("MEDIAN", lambda day: _duration_text(day.median_seconds), 1),
    ),
    RUN: (
        _name_column("RUN", lambda run: run.run),
        _count_column("jobs", 2),
        _count_column("done"),
        _count_column("failed"),
        _count_column("attempts", 3),
        _hours_column("gpu"),
        _hours_column("core", 4),
    ),
    CAUSE: (
        _name_column("CAUSE", _cause_cell, 24),
        _count_column("attempts", title="TIMES"),
        _number_column("TIME LOST", lambda group: _duration_text(group.seconds)),
        Column(
            "LAST JOB",
            drop=1,
            cell_of=lambda group: TextSpan(f"launcher show {group.job}", TextStyle.DIM),
        ),
    ),
    MEMORY: (
        _name_column("SIMILAR JOBS", lambda memory: memory.name, 16),
        _count_column("attempts", 2, "TIMES"),
        _number_column("REQUESTED", lambda memory: format_bytes(memory.asked)),
        _number_column("USED", lambda memory: format_bytes(memory.peak)),
        _number_column("WASTED GiB·h", lambda memory: f"{memory.wasted_gib_hours:,.1f}", 1),
        Column("NEXT REQUEST", least=20, rows=3, cell_of=_next_request_cell),
    ),
    NODE: (
        _name_column("NODE", lambda node: node.node or "unknown"),
        Column("OF", cell_of=lambda node: node.backend),
        _count_column("attempts", 2),
        _count_column("done"),
        _hours_column("gpu"),
        _hours_column("core", 1),
    ),
}
