"""The forms in which a table is written: for people, for texts, for other programs."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from math import isfinite
from typing import Any, TypeVar

import click

from launcher.cli.output import Cell, csv_text, json_text, markdown_text
from launcher.errors import UsageError
from launcher.results.latex import latex_text
from launcher.results.parquet import parquet_bytes
from launcher.screens.format import columns, harmless, tabbed
from launcher.screens.result_table import short

Command = TypeVar("Command", bound=Callable[..., Any])
NONE = "–"


class Format(StrEnum):
    """How a table is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "markdown"
    TABS = "tabs"
    LATEX = "latex"
    PARQUET = "parquet"


def form_options(command: Command) -> Command:
    """Add the options that choose the form, `form` and `as_json`."""
    command = click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object (schema 1)."
    )(command)
    return click.option(
        "--format",
        "form",
        type=click.Choice([form.value for form in Format]),
        help="Output format.  [default: table in a terminal, lines with tabs in a pipe]",
    )(command)


def chosen_form(form: str | None, *, as_json: bool) -> Format:
    """Return the form that the options choose.

    Raises:
        UsageError: they contradict each other, or a terminal would get a binary file.
    """
    if as_json and form not in {None, Format.JSON}:
        raise UsageError(f"say --json or --format {form}, not both")
    if as_json:
        return Format.JSON
    if form == Format.PARQUET and sys.stdout.isatty():
        raise UsageError("Parquet is a binary format; send it to a file: `> results.parquet`")
    if form:
        return Format(form)
    return Format.TABLE if sys.stdout.isatty() else Format.TABS


def write_table(
    head: Sequence[str],
    rows: Sequence[Sequence[Any]],
    form: Format,
    record: Mapping[str, Any],
) -> None:
    """Write a table to the standard output.

    Args:
        head: names of the columns.
        rows: cells in full precision.
        form: how.
        record: the table as JSON has it.
    """
    match form:
        case Format.JSON:
            click.echo(json_text(record))
        case Format.CSV:
            write_csv([tuple(head), *rows])
        case Format.PARQUET:
            click.echo(parquet_bytes(head, rows), nl=False)
        case Format.TABS:
            click.echo(tabbed([tuple(map(_tab, row)) for row in (head, *rows)]))
        case _:
            lines = [tuple(map(shown_cell, row)) for row in rows]
            write_texts([tuple(map(harmless, head)), *lines], form, numbers(rows, len(head)))


def write_texts(rows: Sequence[Sequence[str]], form: Format, right: frozenset[int]) -> None:
    """Write cells that are texts, the first row as the head; those in `right` end together."""
    if form is Format.MARKDOWN:
        click.echo(markdown_text(rows, right=right))
    elif form is Format.LATEX:
        click.echo(latex_text(rows, right=right))
    else:
        click.echo("\n".join(columns([tuple(map(harmless, row)) for row in rows], right=right)))


def write_csv(rows: Iterable[Sequence[Cell]]) -> None:
    """Write rows as CSV; in a terminal without what could steer it."""
    text = csv_text(rows)
    if sys.stdout.isatty():  # which no name may steer
        text = "".join(f"{harmless(line)}\n" for line in text.split("\r\n")[:-1])
    click.echo(text, nl=False)


def numbers(rows: Sequence[Sequence[Any]], count: int) -> frozenset[int]:
    """Return which of so many columns hold numbers alone."""
    return frozenset(
        index
        for index in range(count)
        if any(isinstance(row[index], int | float) for row in rows)
        and all(row[index] is None or isinstance(row[index], int | float) for row in rows)
    )


def shown_cell(cell: Any) -> str:
    """Return a cell as people read it; a dash where there is nothing."""
    if cell is None or (isinstance(cell, float) and not isfinite(cell)):
        return NONE
    if isinstance(cell, float):
        return short(cell)
    return harmless(cell if isinstance(cell, str) else _tab(cell))


def _tab(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bytes):
        return f"{len(cell)} bytes"
    return harmless(str(cell))
