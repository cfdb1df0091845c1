"""Tables for other programs: CSV for spreadsheets, Markdown for texts, JSON for the rest."""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from launcher.screens.format import harmless
from launcher.screens.result_table import read_metric

Cell = str | int | float | None
_SPECIAL = re.compile(r"([\\`*_~|<\[\]&])")  # what Markdown takes for more than a character
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would compute a cell that begins so


def json_text(record: object) -> str:
    """Return a record as JSON; null stands for what it has no number for: NaN and infinity."""
    try:
        return json.dumps(record, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(record))


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return list(map(_finite, value)) if isinstance(value, list | tuple) else value


def csv_text(rows: Iterable[Sequence[Cell]]) -> str:
    """Return rows as CSV (RFC 4180): numbers in full, nothing where there is none.

    A text that a spreadsheet would take for a formula gets a `'` before it, as OWASP advises.
    """
    text = io.StringIO()
    csv.writer(text).writerows([_guarded(cell) for cell in row] for row in rows)
    return text.getvalue()


def _guarded(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def markdown_text(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> str:
    """Return rows as a table of Markdown, the first as its head; those in `right` end together."""
    head, *below = rows
    rule = ["--:" if index in right else "---" for index in range(len(head))]
    lines = [map(_plain, head), rule, *(map(_plain, row) for row in below)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _plain(cell: str) -> str:
    return _SPECIAL.sub(r"\\\1", harmless(cell))


def long_rows(rows: Sequence[Mapping[str, Any]]) -> list[list[Cell]]:
    """Return records as rows below the names of their columns, nothing left out.

    A number with an interval makes three columns: accuracy, accuracy_low, accuracy_high; a mean two
    more, accuracy_sd and accuracy_n.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row))
    further = {key: _further([row.get(key) for row in rows]) for key in keys}
    head = [title for key in keys for title in (key, *(f"{key}_{part}" for part in further[key]))]
    return [list[Cell](head)] + [
        [cell for key in keys for cell in _cells(row.get(key), further[key])] for row in rows
    ]


def _further(values: Sequence[object]) -> tuple[str, ...]:
    """Return what is known of a column's numbers besides their values."""
    metrics = [
        metric
        for value in values
        if isinstance(value, Mapping) and (metric := read_metric(value)) is not None
    ]
    means = any(metric.n is not None for metric in metrics)
    return (("low", "high") if metrics else ()) + (("sd", "n") if means else ())


def _cells(value: Any, further: tuple[str, ...]) -> tuple[Cell, ...]:
    metric = read_metric(value)
    if further:
        parts = (None if metric is None else getattr(metric, part) for part in further)
        return (None if metric is None else metric.value, *parts)
    if metric is not None:
        return (metric.value,)
    if value is None or isinstance(value, str):
        return (value,)
    return (json.dumps(value),)
