"""Results as a person asks for them: means over repetitions, the best ones, in an order, or one flat table.

A table is written for people, for texts, or for other programs.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any, TypeVar

import click

from launcher.cli.output import Cell, csv_text, json_text, long_rows, markdown_text
from launcher.errors import UsageError, counted
from launcher.kinds import find_kinds
from launcher.results.columns import (
    DATA,
    DESCENDING,
    MODEL,
    POOLED,
    RunResults,
    best,
    in_order,
    lower_is_better,
    metric_of,
)
from launcher.results.latex import latex_text
from launcher.results.over import COUNT, in_step, over
from launcher.results.parquet import parquet_bytes
from launcher.results.rows import JOB
from launcher.screens.format import columns, harmless, tabbed
from launcher.screens.result_table import Metric, short
from launcher.screens.terminal import terminal_width
from launcher.screens.text_table import Column, Span, table, width_of
from launcher.store.rows import JobRow

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


# of the metrics of a detector those that a table shows; JSON and CSV have all
MAIN = ("balanced_accuracy", "accuracy", "auc", "eer", "ece", "loss")
_ALWAYS = (JOB, MODEL, DATA, COUNT)
_SHORTEST = 20  # columns of a name


def shown_columns(results: RunResults, first: Sequence[str] = ()) -> list[str]:
    """Return the columns that people see: what rows differ in, and the metrics that matter.

    Args:
        results: of a run.
        first: metrics that were asked for; they come before the others.
    """
    varying = {*results.varying, *_ALWAYS} - {POOLED}
    named = [name for name in results.columns if name in varying and name in results.names]
    metrics = results.metrics
    main = [name for name in MAIN if name in metrics] or metrics
    return list(dict.fromkeys([*named, *(n for n in first if n not in results.columns), *main]))


def flat_texts(results: RunResults, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the cells of some columns as people read them, their names first."""
    head = tuple(map(harmless, names))
    return [head, *(tuple(_text(row.get(name)) for name in names) for row in results.rows)]


def flat_numbers(results: RunResults, names: Sequence[str]) -> frozenset[int]:
    """Return which of some columns hold numbers."""
    return frozenset(
        index
        for index, name in enumerate(names)
        if any(metric_of(row.get(name)) is not None for row in results.rows)
    )


def draw_flat(results: RunResults, names: Sequence[str], width: int) -> str:
    """Return the table for a terminal; columns that have no room are named below it.

    Args:
        results: of a run.
        names: of the columns.
        width: columns of the terminal.
    """
    texts = flat_texts(results, names)
    if _wide(texts) > width:  # then without intervals
        texts = [texts[0], *(tuple(_brief(row.get(n)) for n in names) for row in results.rows)]
    right = flat_numbers(results, names)
    kept = [index for index, name in enumerate(names) if name in _ALWAYS]
    shapes = [
        Column(
            title=title,
            right=index in right,
            drop=0 if index in kept else index,
            least=0 if index in right else min(_SHORTEST, width),
            middle=index not in right,
        )
        for index, title in enumerate(texts[0])
    ]
    lines = table(shapes, (([Span(cell) for cell in row], None) for row in texts[1:]), width)
    head = lines[0].text.split() if lines else []
    hidden = [title for title in texts[0] if title not in head and any(_filled(texts, title))]
    more = [f"not shown: {', '.join(hidden)} (--format csv has all columns)"] if hidden else []
    return "\n".join([*(line.text for line in lines), *([""] if more else []), *more])


def _filled(texts: Sequence[Sequence[str]], title: str) -> list[bool]:
    index = list(texts[0]).index(title)
    return [bool(row[index].strip()) for row in texts[1:]]


def _wide(texts: Sequence[Sequence[str]]) -> int:
    widths = [max(width_of(row[index]) for row in texts) for index in range(len(texts[0]))]
    return sum(widths) + 2 * (len(widths) - 1)


def _text(cell: Any) -> str:
    metric = metric_of(cell)
    return shown_cell(cell) if metric is None or not _has_more(metric) else metric.text()


def _brief(cell: Any) -> str:
    metric = metric_of(cell)
    if metric is None or not _has_more(metric):
        return shown_cell(cell)
    return Metric(value=metric.value, sd=metric.sd).text()


def _has_more(metric: Metric) -> bool:
    return metric.low is not None or metric.sd is not None or isinstance(metric.value, float)


_LOW, _HIGH = ":low", ":high"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a person asks of the rows; nothing of it: they stay as they are."""

    over: tuple[str, ...] = ()
    best: str = ""
    sort: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.over or self.best or self.sort or self.columns)


def listed(text: str | None) -> tuple[str, ...]:
    """Return the names in a list with commas."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def chosen(results: RunResults, choice: Choice, jobs: Sequence[JobRow]) -> RunResults:
    """Return the rows that a person asks for, in that order.

    Raises:
        UsageError: a column or a metric that there is not.
    """
    if not results.rows:
        raise UsageError("the run has no results yet; `launcher status` shows how far its jobs are")
    kinds = find_kinds(sorted({job.kind for job in jobs})).kinds
    if choice.over:
        settings: dict[str, str] = {}
        for kind in kinds.values():
            settings |= kind.settings.columns
        joined = over(results, choice.over, settings)
        _say_if_alone(results, joined, choice.over)
        results = joined
    if choice.best:
        metric = choice.best.removesuffix(_LOW).removesuffix(_HIGH)
        low = lower_is_better(metric, kinds.values())
        if choice.best != metric:
            low = choice.best.endswith(_LOW)
        results = best(results, metric, low=low)
        click.echo(
            harmless(f"of each set of data the {'lowest' if low else 'highest'} {metric}"), err=True
        )
    return in_order(results, choice.sort)


def _say_if_alone(before: RunResults, after: RunResults, names: Sequence[str]) -> None:
    """Say so where no two rows were taken together, and which columns keep them apart."""
    if any(row[COUNT] > 1 for row in after.rows):
        return
    also = in_step(before, names)
    hint = f"; these differ with it: --over {','.join([*names, *also])}" if also else ""
    click.echo(
        harmless(
            f"note: no two of {counted(len(after.rows), 'row')} differ in {', '.join(names)} alone{hint}"
        ),
        err=True,
    )


def write_chosen(results: RunResults, choice: Choice, run: str, form: Format) -> None:
    """Write rows that a person has chosen."""
    asked = [choice.best.removesuffix(_LOW).removesuffix(_HIGH)] if choice.best else []
    asked += [name.removeprefix(DESCENDING) for name in choice.sort]
    if choice.columns:
        names = [results.column(name) for name in choice.columns]
        results = _with_columns(results, names)
    else:
        names = shown_columns(results, asked)
    if form is Format.TABLE:
        click.echo(draw_flat(results, names, terminal_width()))
    elif form in {Format.MARKDOWN, Format.LATEX}:
        write_texts(flat_texts(results, names), form, flat_numbers(results, names))
    else:
        if form is Format.TABS:  # what a terminal without an end would show
            results = _with_columns(results, names)
        ordered = [
            {name: row[name] for name in results.names if name in row} for row in results.rows
        ]
        head, *rows = long_rows(ordered) if ordered else [list[Cell](results.names)]
        record = {"schema": 1, "run": run, "rows": ordered}
        write_table([str(name) for name in head], rows, form, record)


def _with_columns(results: RunResults, names: Sequence[str]) -> RunResults:
    return results._replace(
        rows=[{name: row.get(name) for name in names} for row in results.rows],
        columns=tuple(name for name in names if name in results.columns),
    )
