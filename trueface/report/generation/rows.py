"""Rows of a results table as what a page shows: a number, its deviation over seeds, or nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trueface.report.json_fields import number_of, text_of
from trueface.report.svg import number
from trueface.report.tables import NO_VALUE
from trueface.runtime.files import Json

DEVIATION = "_sd"  # behind the key of a mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A mean over seeds."""

    mean: float
    sd: float | None = None  # None: one seed

    def text(self, digits: int) -> str:
        """Return "0.117 ± 0.003"."""
        spread = "" if self.sd is None else f" ± {self.sd:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread}"

    def cell(self, digits: int) -> str:
        """Return the same for a cell of a table, the deviation in small below."""
        spread = "" if self.sd is None else f"<small>± {self.sd:.{digits}f}</small>"
        return f"{self.mean:.{digits}f}{spread}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A method: a purifier, or a way of erasing."""

    name: str
    record: Mapping[str, Json]

    def value(self, key: str) -> Value | None:
        """Return a column; None where it was not measured."""
        mean = number_of(self.record, key)
        if mean is None:
            return None
        return Value(mean=mean, sd=number_of(self.record, key + DEVIATION))

    def mean(self, key: str) -> float | None:
        """Return the mean of a column; None where it was not measured."""
        return number_of(self.record, key)

    def cell(self, key: str, digits: int) -> str:
        """Return a column for a cell of a table; a dash where it was not measured."""
        value = self.value(key)
        return NO_VALUE if value is None else value.cell(digits)

    def short(self, key: str, factor: float = 1.0) -> str:
        """Return a column in three digits, for seconds and counts."""
        mean = self.mean(key)
        return NO_VALUE if mean is None else number(float(f"{mean * factor:.3g}"))


def rows_of(records: Sequence[Mapping[str, Json]]) -> tuple[Row, ...]:
    """Return the rows that name a method, in their order."""
    several = has_several(records)
    return tuple(
        Row(name=named(record, several=several), record=record)
        for record in records
        if text_of(record, "method")
    )


def has_several(records: Iterable[Mapping[str, Json]]) -> bool:
    """Tell whether records are of more than one concept."""
    return len({text_of(record, "concept") for record in records}) > 1


def named(record: Mapping[str, Json], *, several: bool) -> str:
    """Return the method of a record; with its concept where a run has several."""
    method, concept = text_of(record, "method"), text_of(record, "concept")
    return f"{method} ({concept})" if several and concept else method
