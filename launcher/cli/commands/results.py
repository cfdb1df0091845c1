"""`launcher results`: what came out of a run, as a table or as a database."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from launcher.cli.complete import FILES, RUNS
from launcher.cli.option_types import RUN
from launcher.cli.output import long_rows
from launcher.cli.run_results import (
    HEADER,
    NOTHING,
    Row,
    draw,
    is_plain,
    number_columns,
    plain_tables,
    result_cells,
    tabbed_plain,
)
from launcher.cli.tables import (
    Choice,
    Format,
    chosen,
    chosen_form,
    form_options,
    listed,
    write_chosen,
    write_table,
    write_texts,
)
from launcher.errors import UsageError, counted
from launcher.job import Spec
from launcher.kinds import find_kinds
from launcher.results.columns import PLACE, RunResults
from launcher.results.database.write import write_run
from launcher.results.rows import measured, results_by_job, results_of, returned_rows
from launcher.screens.format import columns, harmless, tabbed
from launcher.screens.result_table import (
    Measured,
    Metric,
    Pivot,
    metric_names,
    of_rows,
    pivot,
    short,
)
from launcher.screens.terminal import terminal_width
from launcher.screens.text_table import width_of
from launcher.store.client import newest_run, open_queue
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.store.selection import RUN_PREFIX
from launcher.system.files import Json
from launcher.system.paths import Home

Returned = tuple[Spec, Mapping[str, Json]]  # a job, and what it returned
MARKDOWN_HEADER = (*(title or "verdict" for title in HEADER), "sources")


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
    "--over",
    metavar="COLUMN",
    help="Take rows together that differ in this column only, such as seed: mean ± standard deviation, "
    "their number, and the 95 % interval of the mean (Student's t).",
)
@click.option(
    "--best",
    metavar="METRIC",
    help="Print of each data set only the best row by this metric; METRIC:low or METRIC:high says "
    "which values are good, where that is not known.",
)
@click.option(
    "--sort", metavar="COLUMN", help="Order the rows by this column; -COLUMN: the highest first."
)
@click.option(
    "--columns", "names", metavar="NAMES", help="Print these columns, with commas between."
)
@click.option(
    "--db",
    "database",
    metavar="FILE",
    type=click.Path(path_type=Path),
    shell_complete=FILES,
    help="Write the run into this SQLite file, made or brought up to date, and print nothing else.",
)
@form_options
def command(
    run: str | None,
    everything: bool,
    metric: str | None,
    over: str | None,
    best: str | None,
    sort: str | None,
    names: str | None,
    database: Path | None,
    form: str | None,
    as_json: bool,
) -> None:
    """Print the results of RUN, models × data; without RUN, those of the newest run.

    Where folders were made of others (images purified, for example), their table follows.
    Real images are joined with each set of fakes of the same modifier. Intervals are 95 % confidence
    intervals. CSV, JSON and Parquet have full precision and all columns: the parts of each model, its
    seed, and the settings in which the models differ; with --metric they have the values only.

    \b
    Examples:
      launcher results quickstart
      launcher results quickstart --all --json
      launcher results quickstart --metric balanced_accuracy --format csv
      launcher results sweep --over seed --best auc
      launcher results sweep --over seed --sort -auc --format latex
      launcher results sweep --db results.sqlite
    """
    choice = Choice(over=listed(over), best=best or "", sort=listed(sort), columns=listed(names))
    shape = chosen_form(form, as_json=as_json)
    with open_queue() as (home, store):
        jobs = _run_of(store, run)
        if database is not None:
            _refuse_beside_database(choice, metric, form, as_json=as_json)
            written = write_run(database, home, store, jobs)
            click.echo(f"{database}: {counted(written, 'new or changed row')}", err=True)
            return
        results = results_of(jobs)
        wanted = metric is not None or choice or not results.rows
        returned = _returned(home, store, jobs) if wanted else []
    name = jobs[0].run
    if choice:
        results = chosen(_sole(results, returned), choice, jobs)
    if metric is not None:
        numbers = [] if choice else _measured(returned)
        table = pivot(
            metric, of_rows(results.rows, results.columns), numbers, everything=everything
        )
        _write_pivot(table, name, shape)
    elif choice:
        write_chosen(results, choice, name, shape)
    elif (form or as_json) and (flat := _sole(results, returned)).rows and not results.rows:
        write_chosen(
            flat, choice, name, shape
        )  # who names a form wants data, and this is all there is
    elif results.rows or shape is Format.JSON:
        _write_rows(results.rows, name, shape, everything=everything, parts=_parts(results))
    else:
        returns = metric_names(_measured(returned))
        hint = f"; --metric prints what its jobs returned: {', '.join(returns)}" if returns else ""
        click.echo(f"{NOTHING}{harmless(hint)}", err=True)


def _refuse_beside_database(
    choice: Choice, metric: str | None, form: str | None, *, as_json: bool
) -> None:
    """Refuse options that choose what is printed, as nothing is."""
    if choice or metric is not None or form or as_json:
        raise UsageError(
            "--db writes everything and prints nothing; ask with `launcher query --db FILE SQL`"
        )


def _returned(home: Home, store: Store, jobs: Sequence[JobRow]) -> list[Returned]:
    """Return the jobs that are done, with what they returned."""
    results = results_by_job(home, store, jobs)
    return [(job.plain_spec, results[job.id]) for job in jobs if job.id in results]


def _measured(returned: Sequence[Returned]) -> list[Measured]:
    """Return the numbers that jobs returned."""
    kinds = find_kinds(sorted({spec.kind for spec, _ in returned})).kinds
    return [measured(spec, result, kinds) for spec, result in returned]


def _sole(results: RunResults, returned: Sequence[Returned]) -> RunResults:
    """Return the rows of one sort: those of tests, else those of folders, else what jobs returned."""
    if not results.rows:
        kinds = find_kinds(sorted({spec.kind for spec, _ in returned})).kinds
        return returned_rows(returned, kinds)
    tested = [row for row in results.rows if not is_plain(row)]
    return RunResults(rows=tested or results.rows, columns=results.columns)


def _parts(results: RunResults) -> list[str]:
    """Return the columns that tell models apart: their parts, and the settings that were swept."""
    return [name for name in results.varying if name not in PLACE]


def _write_rows(
    rows: Sequence[Row], run: str, form: Format, *, everything: bool, parts: Sequence[str] = ()
) -> None:
    tested, plain = _divided(rows)
    match form:
        case Format.TABLE:
            width = terminal_width()
            click.echo(draw(rows, everything=everything, width=width, parts=parts))
        case Format.TABS:
            parts = [tabbed(map(_whole_cells, tested)), tabbed_plain(plain)]
            click.echo("\n".join(filter(None, parts)))
        case Format.MARKDOWN | Format.LATEX:
            _write_texts(tested, plain, form)
        case _:
            head, *cells = long_rows(rows)
            record = {"schema": 1, "run": run, "rows": rows}
            write_table([str(name) for name in head], cells, form, record)


def _write_texts(tested: Sequence[Row], plain: Sequence[Row], form: Format) -> None:
    """Write the tables of tests and of folders for a text."""
    if tested:
        table = [MARKDOWN_HEADER, *map(_whole_cells, tested)]
        write_texts(table, form, number_columns(HEADER))
    for part in plain_tables(plain):
        if tested:
            click.echo()
        write_texts(part.lines, form, part.right)


def _divided(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return the rows of tests, and those of folders."""
    return [row for row in rows if not is_plain(row)], [row for row in rows if is_plain(row)]


def _write_pivot(table: Pivot, run: str, form: Format) -> None:
    head = ("", *table.data)
    plain = [
        (name, *(metric.value if metric else None for metric in row)) for name, row in table.rows()
    ]
    if form is Format.TABLE:
        click.echo(draw_pivot(table, terminal_width()))
    elif form in {Format.MARKDOWN, Format.LATEX}:
        texts = [head, *((name, *map(_with_interval, row)) for name, row in table.rows())]
        write_texts(texts, form, frozenset(range(1, len(head))))
    else:
        titles = head if form is Format.TABS else ("model", *table.data)
        write_table(titles, plain, form, {"schema": 1, "run": run, **table.record()})


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
    return newest_run(store, run.removeprefix(RUN_PREFIX))


def _whole_cells(row: Row) -> tuple[str, ...]:
    return (*result_cells(row), harmless(row.get("few_sources") or ""))
