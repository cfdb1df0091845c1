"""Tables of studies: their columns and the values of their cells, which terminals, pages and LaTeX render.

`trueface.cli.text_tables` renders them as plain text and for LaTeX, `trueface.report.tables` for pages. Only a page
has room for small lines below a value.
"""

from collections.abc import Iterable
from typing import NamedTuple

from trueface.evaluation.estimate import Estimate
from trueface.evaluation.over_seeds import NO_VALUE, SeedSummary


class Heading(NamedTuple):
    """The title of a column."""

    title: str
    unit: str = ""
    plain: str | None = None  # title and unit in plain text, if others
    below: str = ""  # second line of the title on a page
    is_text: bool = False  # its cells are words, not numbers
    joins: bool = False  # a page shows title and cells below those of the column before

    @property
    def plain_title(self) -> str:
        """Title and unit in plain text."""
        return f"{self.title} {self.unit}".rstrip() if self.plain is None else self.plain


class StudyEntry(NamedTuple):
    """A value in a cell, and the facts that limit it."""

    value: SeedSummary | Estimate | float | str | None
    digits: int = 3
    plain: str | None = None  # a text in the place of the value in plain text
    only: Estimate | None = None  # the value of the only seed, with its interval over images
    floor: SeedSummary | None = None  # 95th percentile of shuffled groups
    note: str = ""  # the groups with a value, "2 of 3 groups"
    below: tuple[str, ...] = ()  # lines on a page
    reason: str = ""  # reason for the value, with model IDs, on a page
    hint: str = ""  # text on a page that appears under the pointer
    mark: str = ""  # sign of a note below a table for LaTeX

    @property
    def plain_text(self) -> str:
        """The cell in plain text: "63.0 ± 3.1 [9.2] (2 of 3 groups)"."""
        floor = "" if self.floor is None else f" [{self.floor.mean:.{self.digits}f}]"
        note = f" ({self.note})" if self.note else ""
        return f"{self._plain_value()}{floor}{note}"

    def _plain_value(self) -> str:
        if self.plain is not None:
            return self.plain
        match self.value:
            case None:
                return NO_VALUE
            case str() as text:
                return text
            case float() as number:
                return f"{number:.{self.digits}f}"
            case Estimate() as estimate:
                return estimate.text(f".{self.digits}f")
            case SeedSummary() as summary if self.only is None:
                return summary.text(self.digits)
            case SeedSummary() as summary:
                part = f" ({summary.seeds_note})" if summary.seeds_note else ""
                return f"{self.only.text(f'.{self.digits}f')}{part}"


class StudyRow(NamedTuple):
    """A row of a table."""

    name: str
    entries: tuple[StudyEntry, ...]
    model: str = ""  # model ID in plain text, in the place of the name
    below: str = ""  # model ID on a page, below the name
    kind: str = ""  # class of the style sheet


class StudyTable(NamedTuple):
    """A table of a study."""

    head: tuple[Heading, ...]  # the first one is the title of the rows' names
    rows: tuple[StudyRow, ...]
    notes: tuple[str, ...] = ()  # lines below the table for LaTeX, such as the reasons for marks

    @classmethod
    def of_rows(
        cls, head: Iterable[Heading], rows: Iterable[StudyRow], notes: Iterable[str] = ()
    ) -> "StudyTable":
        """Return a table of headings and rows."""
        return cls(tuple(head), tuple(rows), tuple(notes))

    @property
    def texts(self) -> frozenset[int]:
        """The columns of words, by position."""
        return frozenset(at for at, each in enumerate(self.head) if at == 0 or each.is_text)

    @property
    def plain_titles(self) -> tuple[str, ...]:
        """The titles in plain text."""
        return tuple(each.plain_title for each in self.head)

    @property
    def marked_cells(self) -> list[tuple[str, ...]]:
        """The rows in plain text with the marks of notes."""
        marks = [("", *(entry.mark for entry in row.entries)) for row in self.rows]
        return [
            tuple(map("".join, zip(*each, strict=True)))
            for each in zip(self.plain_cells, marks, strict=True)
        ]

    @property
    def plain_cells(self) -> list[tuple[str, ...]]:
        """The rows in plain text."""
        return [
            (row.model or row.name, *(entry.plain_text for entry in row.entries))
            for row in self.rows
        ]
