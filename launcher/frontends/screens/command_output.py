"""An answer that is printed once: lines for people, JSON or CSV for programs."""

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import click

from launcher.system.terminal import print_lines, print_stderr, terminal_width
from launcher.system.text_table import TextLine, TextTable, tab_separated


class CommandOutput(NamedTuple):
    """The output of a command. Each part is computed when it is needed; each format has one renderer."""

    record: Callable[[], Mapping[str, Any]]  # the object, without its schema
    tables: Callable[[], Iterable[TextTable]] = tuple  # tables for people
    # for output that also has other formats: the column names, then rows in full precision
    cells: Callable[[], Sequence[Sequence[Any]]] = tuple
    # rows for a pipe, if they differ from cells and tables
    rows: Callable[[], Iterable[Sequence[Any]]] = tuple
    # lines for a terminal with this many columns, if it prints more than the tables
    draw_lines: Callable[[int], Iterable[TextLine | str]] | None = None
    # tables with titles and intervals in LaTeX, if they differ from those of `tables`
    latex: Callable[[], Iterable[TextTable]] | None = None


def print_output(output: CommandOutput, *, as_json: bool, for_terminal: bool | None = None) -> None:
    """Print the output of a command. Without rows nothing is printed to a pipe.

    Args:
        output: what to print.
        as_json: print the object.
        for_terminal: whether to print as to a terminal or as to a pipe; by default as the standard output is.
    """
    if as_json:
        print_json(output.record())
    elif sys.stdout.isatty() if for_terminal is None else for_terminal:
        width = terminal_width()
        if output.draw_lines is None:
            print_lines(row for table in output.tables() for row in table.to_lines(width))
        else:
            print_lines(output.draw_lines(width))
    else:
        rows = output.rows() or output.cells()
        rows = rows or (row for table in output.tables() for row in table.cells)
        click.echo(tab_separated(rows), nl=False)


def print_table(
    record: Mapping[str, Any], table: TextTable, *, as_json: bool, empty_text: str
) -> None:
    """Print the list of a verb.

    Args:
        record: the object of `--json`, without its schema.
        table: the same as a table.
        as_json: print the object.
        empty_text: the message on stderr if there is no row.
    """
    if table.rows or as_json:
        print_output(CommandOutput(lambda: record, lambda: [table]), as_json=as_json)
    else:
        print_stderr(empty_text)


def print_json(record: Mapping[str, Any]) -> None:
    """Print the object of `--json`, with NaN and infinity as null."""
    record = {"schema": 1, **record}
    try:
        text = json.dumps(record, allow_nan=False)
    except ValueError:
        text = json.dumps(_replace_nonfinite(record))
    click.echo(text)


def _replace_nonfinite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _replace_nonfinite(item) for key, item in value.items()}
    return list(map(_replace_nonfinite, value)) if isinstance(value, list | tuple) else value
