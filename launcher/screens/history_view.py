"""What a queue did as lines: of a screen at any width, and of a pipe."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from launcher.errors import counted
from launcher.screens.format import harmless
from launcher.screens.text_table import Cell, Column, Line, Span, Tone, line, table
from launcher.states import ReasonCode
from launcher.store.history import HOUR_S, Day, FailureGroup, Memory, NodeUse, Past, Run
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
        rows, shown = _of(past, section), _TABLES[section]
        most = len(rows) if sections else MOST[section]
        cells = [[cell(row) for _, cell in shown] for row in rows[:most]]
        drawn = table([column for column, _ in shown], cells, width)
        if len(rows) > most:
            text = f"{len(rows) - most:,} more: launcher history --by {section}"
            drawn.append(line(text, Tone.DIM).cut(width))
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
    beyond = f"{memory.beyond:,} took more" if memory.beyond else ""
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


def _right(title: str, drop: int = 0) -> Column:
    return Column(title, right=True, drop=drop)


def _name(title: str, least: int = 12) -> Column:
    return Column(title, least=least, middle=True)


_Shown = tuple[Column, Callable[[Any], Cell]]  # a column, and what stands in it of a row
_TONES = {"failed": Tone.BAD, "cancelled": Tone.DIM, "skipped": Tone.WARN}


def _counted(name: str, drop: int = 0, title: str = "") -> _Shown:
    tone = _TONES.get(name, Tone.PLAIN)

    def cell(row: Any) -> Span:
        number: int = getattr(row, name)
        return Span(f"{number:,}" if number else "", tone)

    return _right(title or name.upper(), drop), cell


def _spent(what: str, drop: int = 0) -> _Shown:
    column = _right(f"{what.upper()}-HOURS", drop)
    return column, lambda row: _hours(getattr(row, f"{what}_seconds"))


# by section
_TABLES: Mapping[str, Sequence[_Shown]] = {
    DAY: (
        (Column("DAY"), lambda day: day.day),
        _counted("done"),
        _counted("failed"),
        _counted("cancelled", 2),
        _counted("skipped", 3),
        _spent("gpu"),
        _spent("core", 4),
        (_right("MEDIAN", 1), lambda day: _span(day.median_seconds)),
    ),
    RUN: (
        (_name("RUN"), lambda run: harmless(run.run)),
        _counted("jobs", 2),
        _counted("done"),
        _counted("failed"),
        _counted("attempts", 3),
        _spent("gpu"),
        _spent("core", 4),
    ),
    CAUSE: (
        (_name("NOT DONE, BECAUSE", 24), _cause),
        _counted("attempts", title="TIMES"),
        (_right("TIME LOST"), lambda group: _span(group.seconds)),
        (
            Column("THE LAST ONE", drop=1),
            lambda group: Span(f"launcher show {group.job}", Tone.DIM),
        ),
    ),
    MEMORY: (
        (_name("MEMORY OF JOBS LIKE", 16), lambda memory: harmless(memory.name)),
        _counted("attempts", 2, "TIMES"),
        (_right("ASKED"), lambda memory: format_bytes(memory.asked)),
        (_right("TOOK"), lambda memory: format_bytes(memory.peak)),
        (_right("WASTED GiB·h", 1), lambda memory: f"{memory.wasted_gib_hours:,.1f}"),
        (Column("NEXT TIME", least=20, rows=3), _next_time),
    ),
    NODE: (
        (_name("NODE"), lambda node: node.node or "unknown"),
        (Column("OF"), lambda node: node.backend),
        _counted("attempts", 2),
        _counted("done"),
        _spent("gpu"),
        _spent("core", 1),
    ),
}
