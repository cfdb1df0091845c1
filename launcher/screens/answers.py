"""An answer that is printed once: lines for people, JSON or CSV for programs."""

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import click

from launcher.screens.terminal import remark, say, terminal_width
from launcher.screens.text_table import Line, Table, tabbed


class Answer(NamedTuple):
    """What there is to print once, each part made when it is asked for; each form has one renderer."""

    record: Callable[[], Mapping[str, Any]]  # the object, without its schema
    tables: Callable[[], Iterable[Table]] = tuple  # as people read it
    # of what has other forms, too: the names of the columns with rows in full precision
    cells: Callable[[], Sequence[Sequence[Any]]] = tuple
    rows: Callable[[], Iterable[Sequence[Any]]] = tuple  # for a pipe, where that is neither of both
    # what a terminal of so many columns gets, where that is more than the tables
    drawn: Callable[[int], Iterable[Line | str]] | None = None
    # with the titles and intervals of LaTeX, where people read others
    latex: Callable[[], Iterable[Table]] | None = None


def tell(answer: Answer, *, as_json: bool, drawn: bool | None = None) -> None:
    """Print an answer; a pipe gets nothing where there is no row.

    Args:
        answer: what to print.
        as_json: print the object.
        drawn: print what a terminal gets, or what a pipe gets; None: as the standard output is.
    """
    if as_json:
        say_json(answer.record())
    elif sys.stdout.isatty() if drawn is None else drawn:
        width = terminal_width()
        if answer.drawn is None:
            say(row for table in answer.tables() for row in table.drawn(width))
        else:
            say(answer.drawn(width))
    else:
        rows = answer.rows() or answer.cells()
        rows = rows or (row for table in answer.tables() for row in table.cells)
        click.echo(tabbed(rows), nl=False)


def tell_table(record: Mapping[str, Any], table: Table, *, as_json: bool, nothing: str) -> None:
    """Print what a verb lists.

    Args:
        record: the object of `--json`, without its schema.
        table: the same for people.
        as_json: print the object.
        nothing: what is said on stderr where there is no row.
    """
    if table.rows or as_json:
        tell(Answer(lambda: record, lambda: [table]), as_json=as_json)
    else:
        remark(nothing)


def say_json(record: Mapping[str, Any]) -> None:
    """Print the object of `--json`; null stands for what it has no number for: NaN and infinity."""
    record = {"schema": 1, **record}
    try:
        text = json.dumps(record, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(record))
    click.echo(text)


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return list(map(_finite, value)) if isinstance(value, list | tuple) else value
