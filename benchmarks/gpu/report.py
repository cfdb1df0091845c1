"""Results of the parts: rows and checks, as JSON and as a Markdown table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from benchmarks.measured import MARKS, Measurement, judged
from launcher.system.files import write_atomic

SCHEMA = 1
ABSENT = "–"

Value = float | int | str | bool | None


class State(StrEnum):
    """How a part ended."""

    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure, or one expectation that holds or does not."""

    what: str
    measured: Value
    unit: str = ""
    beside: Mapping[str, Value] = field(default_factory=dict)  # figures of the same unit, by name
    holds: bool | None = None  # whether it is as expected; None: nothing was expected
    note: str = ""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Row":
        """Return the row that `asdict` was given."""
        return cls(**record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A part that ran, or why it did not."""

    part: str
    title: str
    state: State
    why: str = ""  # it failed or was skipped
    seconds: float = 0.0
    rows: Sequence[Row] = ()

    @property
    def refuted(self) -> list[Row]:
        """The expectations that do not hold."""
        return [row for row in self.rows if row.holds is False]


@dataclass(slots=True, kw_only=True)
class Report:
    """All parts so far, and the machine that they ran on."""

    machine: Mapping[str, Value]
    results: list[Result] = field(default_factory=list)
    # rows of benchmarks/RESULTS.md by the name that the part and its row make; they have the targets
    known: Mapping[str, Measurement] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether a part failed."""
        return any(result.state is State.FAILED for result in self.results)

    def record(self) -> dict[str, Any]:
        """Return the report as JSON has it."""
        return {
            "schema": SCHEMA,
            "machine": dict(self.machine),
            "parts": [asdict(result) for result in self.results],
        }

    def values(self, *, only: str) -> dict[str, tuple[str, str]]:
        """Return values and references for benchmarks/RESULTS.md.

        Args:
            only: `filling` for the part of this name, anything else for all other parts.
        """
        return {
            name_of(result, row): (text(row.measured), reference(row))
            for result in self.results
            if (result.part == "filling") == (only == "filling")
            for row in result.rows
            if row.measured is not None and row.holds is not False
        }

    def markdown(self) -> str:
        """Return the report as markdown tables, one for each part."""
        facts = ", ".join(f"{key} {value}" for key, value in self.machine.items())
        lines = ["# Measured on a GPU", "", f"{facts}.", ""]
        for result in self.results:
            lines += [f"## {result.title}", "", *self._section(result), ""]
        return "\n".join(lines)

    def _section(self, result: Result) -> list[str]:
        lines = []
        if result.why:
            lines += [f"{str(result.state).capitalize()}: {_cell(result.why)}", ""]
        if result.rows:
            heads = ("what", "measured", "beside", "target", "holds", "note")
            lines += [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
            for row in result.rows:
                target = _target(row, self.known.get(name_of(result, row)))
                what, measured, beside, holds, note = cells(row)
                shown = (what, measured, beside, target, holds, note)
                lines += [f"| {' | '.join(map(_cell, shown))} |"]
        return lines

    def write(self, json_file: Path, markdown_file: Path) -> None:
        """Write both files, each as a whole."""
        write_atomic(json_file, json.dumps(self.record(), indent=1) + "\n")
        write_atomic(markdown_file, self.markdown())


def name_of(result: Result, row: Row) -> str:
    """Return the name by which benchmarks/RESULTS.md knows a row of a part."""
    return f"{result.part}, {row.what}"


def reference(row: Row) -> str:
    """Return the figures beside a row's, as benchmarks/RESULTS.md has them."""
    return cells(row)[2].replace(" · ", "; ")


def _target(row: Row, known: Measurement | None) -> str:
    """Return the target of a row, and whether it is met; empty without one."""
    if known is None or not known.target:
        return ""
    status = judged(known._replace(value=text(row.measured), reference=reference(row)))
    return known.goal if row.measured is None else f"{known.goal} {MARKS[status]}"


def cells(row: Row) -> tuple[str, str, str, str, str]:
    """Return a row as texts: what, the figure, the figures beside it, whether it holds, the note."""
    beside = " · ".join(
        f"{name.replace('_', ' ')}: {text(value)}"
        for name, value in row.beside.items()
        if value is not None
    )
    holds = {True: "yes", False: "**no**", None: ""}[row.holds]
    return row.what, f"{text(row.measured)} {row.unit}".strip(), beside, holds, row.note


def text(value: Value) -> str:
    """Return a figure with three digits that matter."""
    match value:
        case None:
            return ABSENT
        case bool():
            return "yes" if value else "no"
        case float() if abs(value) < 1000:
            return f"{value:.3g}"
        case float() | int():
            return f"{value:,.0f}"
    return value


def _cell(words: str) -> str:
    return " ".join(words.replace("|", "\\|").split())
