"""The formats of output, and the rows of CSV for spreadsheets and of Parquet."""

import csv
import io
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import click

from launcher.experiments.results.metric import Metric, format_value, read_metric
from launcher.experiments.results.table import distinct_names, replace_surrogates
from launcher.frontends.cli.option_types import Command, json_option
from launcher.frontends.screens.command_output import CommandOutput, print_output
from launcher.frontends.screens.table_formats import latex_text, markdown_text
from launcher.system.errors import MachineError, UsageError
from launcher.system.installation import install_command
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import TextTable, one_line_text, table_of_texts

CellValue = str | int | float | None
ABSENT = "–"
# a spreadsheet would evaluate a cell with such a prefix that is not a number, such as `-1e-5`
_FORMULA = re.compile(
    r"[=@\t\r]|[+-](?!(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?\Z)", re.ASCII | re.IGNORECASE
)


class Format(StrEnum):
    """The format of output."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "markdown"
    TABS = "tabs"
    LATEX = "latex"
    PARQUET = "parquet"


def form_options(command: Command) -> Command:
    """Add the options `form` and `as_json`, which select the format."""
    return click.option(
        "--format",
        "form",
        type=click.Choice([form.value for form in Format]),
        help="Output format.  [default: table in a terminal, tabs in a pipe]",
    )(json_option(command))


def choose_format(form: str | None, *, as_json: bool) -> Format:
    """Return the selected format.

    Raises:
        UsageError: the options contradict each other, or a terminal would get binary output.
    """
    if as_json and form not in {None, Format.JSON}:
        raise UsageError(f"--json cannot be combined with --format {form}. Remove one of them.")
    if as_json:
        return Format.JSON
    if form == Format.PARQUET and sys.stdout.isatty():
        raise UsageError(
            "--format parquet writes binary data. Redirect it to a file: > results.parquet"
        )
    if form:
        return Format(form)
    return Format.TABLE if sys.stdout.isatty() else Format.TABS


def write(output: CommandOutput, form: Format) -> None:
    """Write output to the standard output; a pipe gets nothing if there are no rows."""
    match form:
        case Format.CSV:
            text = csv_text(output.cells())
            if sys.stdout.isatty():  # names must not contain control sequences for a terminal
                text = "".join(f"{sanitize_terminal(line)}\n" for line in text.split("\r\n")[:-1])
            click.echo(text, nl=False)
        case Format.PARQUET:
            head, *rows = output.cells()
            click.echo(parquet_bytes([str(name) for name in head], rows), nl=False)
        case Format.MARKDOWN:
            click.echo("\n\n".join(map(markdown_text, output.tables())))
        case Format.LATEX:
            click.echo("\n\n".join(map(latex_text, (output.latex or output.tables)())))
        case _:
            print_output(output, as_json=form is Format.JSON, for_terminal=form is Format.TABLE)


def table_from_cells(cells: Sequence[Sequence[Any]]) -> TextTable:
    """Return a table for users; the first row is its head."""
    head, *rows = cells
    numbers = frozenset(
        index
        for index in range(len(head))
        if any(isinstance(row[index], int | float) for row in rows)
        and all(row[index] is None or isinstance(row[index], int | float) for row in rows)
    )
    return table_of_texts(
        [*map(sanitize_terminal, head)], [tuple(map(cell_text, row)) for row in rows], numbers
    )


def cell_text(cell: Any) -> str:
    """Return a cell for users; a dash for None."""
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return ABSENT
    return format_value(cell) if isinstance(cell, float) else one_line_text(cell)


def csv_text(rows: Iterable[Sequence[CellValue]]) -> str:
    """Return rows as CSV (RFC 4180): complete numbers, empty cells for None.

    A text that a spreadsheet would read as a formula gets the prefix `'`, as OWASP recommends.
    """
    text = io.StringIO()
    csv.writer(text).writerows([_escape_formula(cell) for cell in row] for row in rows)
    return text.getvalue()


def _escape_formula(cell: CellValue) -> CellValue:
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def long_rows(
    rows: Sequence[Mapping[str, Any]], *, pads_means: bool = False
) -> list[list[CellValue]]:
    """Return records as complete rows below the names of their columns.

    A number with an interval gives three columns: accuracy, accuracy_low, accuracy_high. A mean also gives accuracy_sd
    and accuracy_n. If values are missing from a mean, it also gives accuracy_expected and accuracy_note.

    Args:
        rows: A record for each row; the union of their names gives the columns.
        pads_means: Write a mean as text with at least the decimals of a terminal.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row))
    further = {key: _extra_parts([row.get(key) for row in rows]) for key in keys}
    head = [title for key in keys for title in (key, *(f"{key}_{part}" for part in further[key]))]
    return [list[CellValue](head)] + [
        [cell for key in keys for cell in _cells(row.get(key), further[key], pads_means)]
        for row in rows
    ]


def _extra_parts(values: Sequence[object]) -> tuple[str, ...]:
    """Return the further values of a column's numbers, such as intervals."""
    found = [read_metric(value) for value in values if isinstance(value, Mapping)]
    metrics: list[Metric] = [metric for metric in found if metric is not None]
    means = any(metric.n is not None for metric in metrics)
    incomplete = any(metric.note is not None for metric in metrics)
    parts = (("low", "high") if metrics else ()) + (("sd", "n") if means else ())
    return parts + (("expected", "note") if incomplete else ())


def _cells(value: Any, extra_parts: tuple[str, ...], pads_means: bool) -> tuple[CellValue, ...]:
    metric = read_metric(value)
    if metric is not None:
        number = metric.complete_text() if pads_means else metric.value
        return (number, *(getattr(metric, part) for part in extra_parts))
    if extra_parts:
        return (None,) * (1 + len(extra_parts))
    return (value if value is None or isinstance(value, str) else json.dumps(value),)


def parquet_bytes(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """Return a table as a Parquet file; the type of a column can represent all of its values.

    Args:
        columns: Names of the columns; a duplicate name gets a number.
        rows: Cells with text, numbers, bytes, or None.

    Raises:
        MachineError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MachineError(
            f"--format parquet needs the package pyarrow. Install it: {install_command('data')}"
        ) from error
    table = pyarrow.table(
        [
            pyarrow.array(_to_one_type([row[index] for row in rows]))
            for index in range(len(columns))
        ],
        names=list(distinct_names(columns)),
    )
    file = io.BytesIO()
    parquet.write_table(table, file, compression="zstd")
    return file.getvalue()


def _to_one_type(values: list[Any]) -> list[Any]:
    """Return values with a common type: numbers unchanged, mixed values as texts."""
    kinds = {type(value) for value in values if value is not None}
    large = kinds == {int} and any(not -(1 << 63) <= value < 1 << 63 for value in values if value)
    if not large and len(kinds) <= 1 and kinds != {str}:
        return values
    of_all = float if kinds <= {int, float} else _text
    return [None if value is None else of_all(value) for value in values]


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return replace_surrogates(str(value))
