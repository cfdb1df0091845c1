"""`launcher results`: what came out of a run, as a table."""

import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum

import click

from launcher.cli.complete import RUNS
from launcher.cli.option_types import RUN
from launcher.cli.output import Cell, csv_text, json_text, long_rows, markdown_text
from launcher.cli.plain_rows import is_plain, markdown_plain, tabbed_plain
from launcher.cli.run_results import (
    HEADER,
    NOTHING,
    Row,
    collect,
    draw,
    number_columns,
    result_cells,
    test_name,
)
from launcher.cli.select_jobs import RUN_PREFIX
from launcher.errors import UsageError, known_words, nearest
from launcher.kinds import find_kinds
from launcher.screens.format import columns, harmless, tabbed
from launcher.screens.result_table import (
    Measured,
    Metric,
    Pivot,
    metric_names,
    of_result,
    of_rows,
    pivot,
    short,
)
from launcher.screens.terminal import terminal_width
from launcher.screens.text_table import width_of
from launcher.states import State
from launcher.store.client import open_queue
from launcher.store.queue import Store
from launcher.store.rows import JobRow

MARKDOWN_HEADER = (*(title or "verdict" for title in HEADER), "sources")


class Format(StrEnum):
    """How a table is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "markdown"


@click.command()
@click.argument("run", required=False, shell_complete=RUNS)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Print a row for each model and data set, without pooling.",
)
@click.option(
    "--metric",
    metavar="NAME",
    help="Print only this metric, models × data: balanced_accuracy, eer, or any that the jobs returned.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice([form.value for form in Format]),
    help="Output format.  [default: table in a terminal, lines with tabs in a pipe]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
def command(
    run: str | None, everything: bool, metric: str | None, form: str | None, as_json: bool
) -> None:
    """Print the results of RUN, models × data; without RUN, those of the newest run.

    Where folders were made of others (images purified, for example), their table follows.
    Real images are joined with each set of fakes of the same modifier. Intervals are 95 % confidence
    intervals. CSV has full precision, with intervals in separate columns; with --metric it has the
    values only.

    \b
    Examples:
      launcher results quickstart
      launcher results quickstart --all --json
      launcher results quickstart --metric balanced_accuracy --format csv
    """
    if as_json and form not in {None, Format.JSON}:
        raise UsageError(f"say --json or --format {form}, not both")
    chosen = Format.JSON if as_json else Format(form) if form else None
    with open_queue() as (_, store):
        jobs = _run_of(store, run)
        rows = collect(jobs)
        returned = _returned(store, jobs) if metric is not None or not rows else []
    if metric is not None:
        table = pivot(metric, of_rows(rows), returned, everything=everything)
        _write_pivot(table, jobs[0].run, chosen)
    elif rows or chosen is Format.JSON:
        _write_rows(rows, jobs[0].run, chosen, everything=everything)
    else:
        names = metric_names(returned)
        hint = f"; --metric prints what its jobs returned: {', '.join(names)}" if names else ""
        click.echo(f"{NOTHING}{harmless(hint)}", err=True)


def _returned(store: Store, jobs: Sequence[JobRow]) -> list[Measured]:
    """Return the numbers that the jobs themselves returned."""
    returned = []
    kinds = find_kinds(sorted({job.kind for job in jobs})).kinds
    for job in jobs:
        result = store.read.result_of(job.id) if job.state is State.DONE else None
        if result:
            data = test_name(kinds.get(job.kind), job.spec)
            returned.append(of_result(job.name, job.spec.model or "", data, result))
    return returned


def _write_rows(rows: Sequence[Row], run: str, form: Format | None, *, everything: bool) -> None:
    match form:
        case Format.JSON:
            click.echo(json_text({"schema": 1, "run": run, "rows": rows}))
        case Format.CSV:
            _say_csv(long_rows(rows))
        case Format.MARKDOWN:
            click.echo(_markdown(rows))
        case None if not sys.stdout.isatty():
            tested, plain = _divided(rows)
            parts = [tabbed(map(_whole_cells, tested)), tabbed_plain(plain)]
            click.echo("\n".join(filter(None, parts)))
        case _:
            click.echo(draw(rows, everything=everything, width=terminal_width()))


def _divided(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return the rows of tests, and those of folders."""
    return [row for row in rows if not is_plain(row)], [row for row in rows if is_plain(row)]


def _markdown(rows: Sequence[Row]) -> str:
    tested, plain = _divided(rows)
    parts = [markdown_plain(plain)] if plain else []
    if tested or not plain:
        table = [MARKDOWN_HEADER, *map(_whole_cells, tested)]
        parts.insert(0, markdown_text(table, right=number_columns(HEADER)))
    return "\n\n".join(parts)


def _say_csv(rows: Iterable[Sequence[Cell]]) -> None:
    text = csv_text(rows)
    if sys.stdout.isatty():  # which no name may steer
        text = "".join(f"{harmless(line)}\n" for line in text.split("\r\n")[:-1])
    click.echo(text, nl=False)


def _write_pivot(table: Pivot, run: str, form: Format | None) -> None:
    head = ("", *table.data)
    plain = [
        (name, *(metric.value if metric else None for metric in row)) for name, row in table.rows()
    ]
    if form is Format.JSON:
        click.echo(json_text({"schema": 1, "run": run, **table.record()}))
    elif form is Format.CSV:
        _say_csv([("model", *table.data), *plain])
    elif form is Format.MARKDOWN:
        texts = [head, *((name, *map(_with_interval, row)) for name, row in table.rows())]
        click.echo(markdown_text(texts, right=frozenset(range(1, len(head)))))
    elif form is Format.TABLE or sys.stdout.isatty():
        click.echo(draw_pivot(table, terminal_width()))
    else:
        cells = [("" if cell is None else str(cell) for cell in row) for row in [head, *plain]]
        click.echo(tabbed([tuple(map(harmless, row)) for row in cells]))


def draw_pivot(table: Pivot, width: int) -> str:
    """Return one metric as a table: with intervals, without, or a line for each number.

    Args:
        table: the metric by name and data.
        width: columns of the terminal; what fits is chosen by them.
    """
    head = (table.metric if table.data != (table.metric,) else "", *table.data)
    right = frozenset(range(1, len(head)))
    for tell in (_with_interval, _without_interval):
        rows = [head, *((name, *map(tell, row)) for name, row in table.rows())]
        lines = columns([tuple(map(harmless, row)) for row in rows], right=right)
        if max(map(width_of, lines)) <= width:
            return "\n".join(lines)
    listed = [(name, data, str(metric)) for (name, data), metric in table.cells.items()]
    rows = [("", "", table.metric), *listed]
    return "\n".join(columns([tuple(map(harmless, row)) for row in rows]))


def _with_interval(metric: Metric | None) -> str:
    return "–" if metric is None else str(metric)


def _without_interval(metric: Metric | None) -> str:
    return "–" if metric is None else short(metric.value)


def _run_of(store: Store, run: str | None) -> list[JobRow]:
    if run is None:
        tests = store.read.tests(but=RUN)
        if not tests:
            raise UsageError(
                "no run has tested anything yet; `launcher results RUN --metric NAME` prints what other "
                "jobs returned"
            )
        run = max(tests, key=lambda job: job.submitted).run
    run = run.removeprefix(RUN_PREFIX)
    chosen = store.read.of_run(run)
    if not chosen:
        names = sorted(store.read.runs())
        close = nearest(run, names)
        hint = f", did you mean {close!r}?" if close else f" ({known_words(run, names)})"
        raise UsageError(f"there is no run {run!r}{hint}")
    newest = max(chosen, key=lambda job: job.submitted)
    return [job for job in chosen if job.root == newest.root]


def _whole_cells(row: Row) -> tuple[str, ...]:
    return (*result_cells(row), harmless(row.get("few_sources") or ""))
