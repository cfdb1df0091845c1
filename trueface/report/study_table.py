"""Tables of studies: their columns and entries. A number has one column, which all forms of output show.

`trueface.cli.text_tables` renders tables for terminals, pipes and LaTeX, `trueface.cli.studies` as CSV and
JSON, `trueface.report.tables` for pages. Only a page has room for small lines below a value.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from trueface.evaluation.estimate import Difference, Estimate, ends_record
from trueface.evaluation.over_seeds import NO_VALUE, SeedSummary
from trueface.runtime.files import Json

Better = Literal["up", "down", ""]
MEASURE = "measure"  # column of CSV that names the number of a line
TEXT = "text"  # key of an entry without a number
# columns of CSV that belong to a number, in this order
NUMBER_COLUMNS = (MEASURE, "value", "sd", "n", "low", "high", "why")


class NumberForm(NamedTuple):
    """The digits of a column's numbers."""

    value: Callable[[float], str]
    # a deviation or an end of an interval with the digits that fit its value; None: as `value`
    spread: Callable[[float, float], str] | None = None

    def spread_text(self, number: float, value: float) -> str:
        """Return a deviation, or an end of an interval, of a value."""
        return self.value(number) if self.spread is None else self.spread(number, value)

    def ends_text(self, measure: Estimate | Difference, joint: str = " to ") -> str:
        """Return "0.967 to 0.993", or "no interval: 50 of 368 reals"."""
        if measure.interval is None:
            return measure.ends_text("")
        low, high = (self.spread_text(end, measure.value) for end in measure.interval)
        return ", ".join(filter(None, (f"{low}{joint}{high}", measure.note)))

    def measure_text(self, measure: Estimate | Difference, *, brackets: bool = False) -> str:
        """Return "0.980 (0.967 to 0.993)", or with brackets "0.980 [0.967, 0.993]"."""
        value, joint = self.value(measure.value), ", " if brackets else " to "
        ends = self.ends_text(measure, joint)
        return f"{value} [{ends}]" if brackets else f"{value} ({ends})"

    def summary_text(self, summary: SeedSummary) -> str:
        """Return "63.0 ± 3.1", or "63.0" of one seed."""
        return f"{self.value(summary.mean)}{self.deviation_text(summary, ' ')}"

    def deviation_text(self, summary: SeedSummary, prefix: str = "") -> str:
        """Return "± 3.1" with a text before it; "" of one seed."""
        if summary.sd is None:
            return ""
        return f"{prefix}± {self.spread_text(summary.sd, summary.mean)}"


def decimals(digits: int, *, factor: float = 1.0, sign: str = "") -> NumberForm:
    """Return the form of fixed decimals, such as percent with the factor 100; `sign` "+" shows plus signs."""
    return NumberForm(lambda number: f"{factor * number:{sign}.{digits}f}")


class Column(NamedTuple):
    """A column: its titles, and the form of its numbers."""

    title: str  # on a page
    unit: str = ""
    plain: str | None = None  # title and unit in plain text, if others
    key: str = ""  # name for programs; "": the title in plain text
    header: str = ""  # title in a pipe; "": the title in plain text
    below: str = ""  # second line of the title on a page
    form: NumberForm = decimals(3)
    page_form: NumberForm | None = None  # on a page, if another
    is_text: bool = False  # its cells are words, not numbers
    is_wide: bool = False  # on a page, its words need room
    joins: bool = False  # a page shows title and cells below those of the column before
    better: Better = ""  # "": neither end is best
    meaning: str = ""  # for readers who have not read the papers

    @property
    def plain_title(self) -> str:
        """Title and unit in plain text."""
        return f"{self.title} {self.unit}".rstrip() if self.plain is None else self.plain

    @property
    def name(self) -> str:
        """The name of its entries in CSV and JSON."""
        return self.key or self.plain_title


class StudyEntry(NamedTuple):
    """A value in a cell, and the facts that limit it."""

    value: SeedSummary | Estimate | Difference | float | str | None = None
    plain: str | None = None  # a text in the place of the value in plain text
    only: Estimate | None = None  # the value of the only seed, with its interval over images
    floor: SeedSummary | None = None  # 95th percentile of shuffled groups
    note: str = ""  # the groups with a value, "2 of 3 groups"
    why: str = ""  # why there is no value
    below: tuple[str, ...] = ()  # lines on a page
    reason: str = ""  # reason for the value, with model IDs, on a page
    hint: str = ""  # text on a page that appears under the pointer
    mark: str = ""  # sign of a note below a table for LaTeX

    def plain_text(self, form: NumberForm, *, brackets: bool = False) -> str:
        """Return the cell in plain text: "63.0 ± 3.1 [9.2] (2 of 3 groups)".

        Args:
            form: of the column.
            brackets: whether intervals are "[0.967, 0.993]", for programs.
        """
        floor = "" if self.floor is None else f" [{form.value(self.floor.mean)}]"
        note = f" ({self.note})" if self.note else ""
        return f"{self._plain_value(form, brackets=brackets)}{floor}{note}"

    def _plain_value(self, form: NumberForm, *, brackets: bool) -> str:
        if self.plain is not None:
            return self.plain
        match self.value:
            case None:
                return NO_VALUE
            case str() as text:
                return text
            case SeedSummary() as summary:
                part = f" ({summary.seeds_note})" if summary.seeds_note else ""
                if self.only is None:
                    return f"{form.summary_text(summary)}{part}"
                return f"{form.measure_text(self.only, brackets=brackets)}{part}"
            case Estimate() | Difference() as measure:
                return form.measure_text(measure, brackets=brackets)
            case number:
                return form.value(number)

    @property
    def is_empty(self) -> bool:
        """Whether there is no value and no text."""
        return self.value is None or self.value == ""

    @property
    def missing_interval(self) -> str:
        """Why the value has no interval; "" if it has one, or needs none."""
        measure = self.value if isinstance(self.value, Estimate) else self.only
        return "" if measure is None or measure.interval is not None else measure.why

    @property
    def json_record(self) -> dict[str, Json]:
        """The text, or the number with its deviation, interval and floor, and what limits them."""
        notes = {"note": self.note, "why": self.why, "mark": self.mark}
        record = {**self._value_record(), **{key: text for key, text in notes.items() if text}}
        return record if self.floor is None else {**record, "floor": self.floor.mean}

    def _value_record(self) -> dict[str, Json]:
        match self.value:
            case SeedSummary() as summary:
                record: dict[str, Json] = {
                    "value": summary.mean, "sd": summary.sd, "n": len(summary.values)
                }  # fmt: skip
                return record if self.only is None else {**record, **_ends(self.only)}
            case Difference() as difference:
                ends = _ends(difference)
                return {"value": difference.value, **ends, "verdict": difference.word}
            case Estimate() as estimate:
                return {"value": estimate.value, **_ends(estimate)}
            case str() as text:
                return {TEXT: text}
            case value:
                return {"value": value}


def _ends(measure: Estimate | Difference) -> dict[str, Json]:
    notes = {"why": measure.why, "note": measure.note}
    return {**ends_record(measure.interval), **{key: text for key, text in notes.items() if text}}


class StudyRow(NamedTuple):
    """A row of a table."""

    name: str
    entries: tuple[StudyEntry, ...]
    model: str = ""  # model ID in plain text, in the place of the name
    below: str = ""  # model ID on a page, below the name
    tag: str = ""  # verdict on a page, below the name
    kind: str = ""  # class of the style sheet
    alarms: tuple[str, ...] = ()  # lines on a page below the row
    notes: tuple[str, ...] = ()  # further lines there


class StudyTable(NamedTuple):
    """A table of a study."""

    head: tuple[Column, ...]  # the first one is that of the rows' names
    rows: tuple[StudyRow, ...]
    notes: tuple[str, ...] = ()  # lines below the table for LaTeX, such as the reasons for marks
    title: str = ""
    facts: Mapping[str, Json] = MappingProxyType({})  # facts of all rows, columns for programs

    @classmethod
    def of_rows(
        cls,
        head: Iterable[Column],
        rows: Iterable[StudyRow],
        notes: Iterable[str] = (),
        *,
        title: str = "",
        facts: Mapping[str, Json] = MappingProxyType({}),
    ) -> "StudyTable":
        """Return a table of columns and rows."""
        return cls(tuple(head), tuple(rows), tuple(notes), title, facts)

    def select(self, names: Iterable[str]) -> "StudyTable":
        """Return the table with the column of the rows' names and these further columns, in this order."""
        places = {column.name: at for at, column in enumerate(self.head)}
        chosen = [places[name] for name in names]
        rows = (
            row._replace(entries=tuple(row.entries[at - 1] for at in chosen)) for row in self.rows
        )
        return self._replace(
            head=(self.head[0], *(self.head[at] for at in chosen)), rows=tuple(rows)
        )

    def without_empty(self) -> "StudyTable":
        """Return the table without the columns of which no row has a value."""
        return self.select(
            column.name
            for at, column in enumerate(self.head[1:])
            if not all(row.entries[at].is_empty for row in self.rows)
        )

    @property
    def texts(self) -> frozenset[int]:
        """The columns of words, by position."""
        return frozenset(at for at, each in enumerate(self.head) if at == 0 or each.is_text)

    @property
    def plain_titles(self) -> tuple[str, ...]:
        """The titles in plain text."""
        return tuple(each.plain_title for each in self.head)

    def plain_cells(self, *, brackets: bool = False, marks: bool = False) -> list[tuple[str, ...]]:
        """Return the rows in plain text.

        Args:
            brackets: as of `StudyEntry.plain_text`.
            marks: with the signs of notes.
        """
        forms = [column.form for column in self.head[1:]]
        return [
            (
                row.model or row.name,
                *(
                    entry.plain_text(form, brackets=brackets) + (entry.mark if marks else "")
                    for form, entry in zip(forms, row.entries, strict=True)
                ),
            )
            for row in self.rows
        ]

    def _records(self) -> Iterator[tuple[StudyRow, dict[str, dict[str, Json]]]]:
        names = [column.name for column in self.head[1:]]
        for row in self.rows:
            records = (entry.json_record for entry in row.entries)
            yield row, dict(zip(names, records, strict=True))

    @property
    def json_record(self) -> dict[str, Json]:
        """The table as JSON: an object for each row, with an object for each entry."""
        first = self.head[0].name
        return {
            "title": self.title,
            **self.facts,
            "rows": [{first: row.model or row.name, **cells} for row, cells in self._records()],
            "notes": list(self.notes),
        }

    def long_rows(self) -> Iterator[dict[str, Json]]:
        """Yield a line of CSV for each number; its texts are repeated in each line of a row."""
        first = self.head[0].name
        for row, cells in self._records():
            texts = {name: cell[TEXT] for name, cell in cells.items() if TEXT in cell}
            for name, cell in cells.items():
                if TEXT not in cell:
                    yield {
                        **self.facts, first: row.model or row.name, **texts, MEASURE: name, **cell
                    }  # fmt: skip
