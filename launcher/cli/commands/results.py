"""`launcher results`: what came out of a run, as a table."""

import importlib
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from textwrap import wrap
from typing import Any

import click

from launcher.cli.commands.add import RUN
from launcher.cli.complete import RUNS
from launcher.cli.output import Cell, csv_text, json_text, long_rows, markdown_text
from launcher.cli.select_jobs import RUN_PREFIX
from launcher.errors import UsageError, known_words, nearest
from launcher.kinds import Role, installed
from launcher.screens.format import columns, harmless, tabbed
from launcher.screens.result_table import (
    Measured,
    Metric,
    Pivot,
    known,
    of_result,
    of_rows,
    pivot,
    short,
)
from launcher.screens.text_table import Column, Span, table, width_of
from launcher.states import State
from launcher.store.client import open_queue
from launcher.store.queue import Store
from launcher.store.rows import JobRow

Row = Mapping[str, Any]
HEADER = ("model", "data", "n", "accuracy %", "balanced %", "AUC", "ECE", "loss", "", "made in")
MARKDOWN_HEADER = (*(title or "verdict" for title in HEADER), "sources")
NOTHING = "no results yet"
FEW = ("model", "data", "acc %", "balanced %", "AUC", "ECE", "loss", "", "made in")
FULL_WIDTH = 140
FEW_SOURCES = "intervals are of other sources of images, and rest on few:"
_DISPENSABLE = {"made in": 5, "loss": 4, "ECE": 3, "n": 2, "AUC": 1}  # the highest goes first
_SHORTEST = 24  # columns of a model's name; what tells two apart may be its middle


class Format(StrEnum):
    """How a table is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "markdown"


@click.command()
@click.argument("run", required=False, shell_complete=RUNS)
@click.option("--all", "everything", is_flag=True, help="A row per model and data set, not pooled.")
@click.option(
    "--metric",
    metavar="NAME",
    help="Only this number, models × data: balanced_accuracy, eer, or any that the jobs returned.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice([one.value for one in Format]),
    help="How it is written.  [default: table in a terminal, lines with tabs in a pipe]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
def command(
    run: str | None, everything: bool, metric: str | None, form: str | None, as_json: bool
) -> None:
    """Print the table models × data of RUN; of the newest run when none is named.

    Real images are joined with each set of fakes that has the same modifier. Intervals are 95 %.
    CSV holds every number in full, with its interval in columns of their own; with --metric it
    holds the numbers alone.

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
        told = _returned(store, jobs) if metric is not None or not rows else []
    if metric is not None:
        found = pivot(metric, of_rows(rows), told, everything=everything)
        _write_pivot(found, jobs[0].run, chosen)
    elif rows or chosen is Format.JSON:
        _write_rows(rows, jobs[0].run, chosen, everything=everything)
    else:
        names = known(told)
        hint = f"; --metric prints what its jobs returned: {', '.join(names)}" if names else ""
        click.echo(f"{NOTHING}{harmless(hint)}", err=True)


def _returned(store: Store, jobs: Sequence[JobRow]) -> list[Measured]:
    """Return the numbers that the jobs themselves returned."""
    found = []
    for job in jobs:
        result = store.read.result_of(job.id) if job.state is State.DONE else None
        if result:
            found.append(of_result(job.name, job.spec.model or "", job.spec.data or "", result))
    return found


def _write_rows(rows: Sequence[Row], run: str, form: Format | None, *, everything: bool) -> None:
    match form:
        case Format.JSON:
            click.echo(json_text({"schema": 1, "run": run, "rows": rows}))
        case Format.CSV:
            _say_csv(long_rows(rows))
        case Format.MARKDOWN:
            table = [MARKDOWN_HEADER, *map(_whole_cells, rows)]
            click.echo(markdown_text(table, right=_numbers(HEADER)))
        case None if not sys.stdout.isatty():
            click.echo(tabbed(map(_whole_cells, rows)))
        case _:
            click.echo(draw(rows, everything=everything, width=terminal_width()))


def _say_csv(rows: Iterable[Sequence[Cell]]) -> None:
    text = csv_text(rows)
    if sys.stdout.isatty():  # which no name may steer
        text = "".join(f"{harmless(line)}\n" for line in text.split("\r\n")[:-1])
    click.echo(text, nl=False)


def _write_pivot(found: Pivot, run: str, form: Format | None) -> None:
    head = ("", *found.data)
    plain = [(name, *(one.value if one else None for one in row)) for name, row in found.rows()]
    if form is Format.JSON:
        click.echo(json_text({"schema": 1, "run": run, **found.record()}))
    elif form is Format.CSV:
        _say_csv([("model", *found.data), *plain])
    elif form is Format.MARKDOWN:
        told = [head, *((name, *map(_told, row)) for name, row in found.rows())]
        click.echo(markdown_text(told, right=frozenset(range(1, len(head)))))
    elif form is Format.TABLE or sys.stdout.isatty():
        click.echo(draw_pivot(found, terminal_width()))
    else:
        cells = [("" if cell is None else str(cell) for cell in row) for row in [head, *plain]]
        click.echo(tabbed([tuple(map(harmless, row)) for row in cells]))


def draw_pivot(found: Pivot, width: int) -> str:
    """Return one metric as a table: with intervals, without, or a line for each number.

    Args:
        found: the metric by name and data.
        width: columns of the terminal; what fits is chosen by them.
    """
    head = (found.metric if found.data != (found.metric,) else "", *found.data)
    right = frozenset(range(1, len(head)))
    for tell in (_told, _told_short):
        rows = [head, *((name, *map(tell, row)) for name, row in found.rows())]
        lines = columns([tuple(map(harmless, row)) for row in rows], right=right)
        if max(map(width_of, lines)) <= width:
            return "\n".join(lines)
    listed = [(name, data, str(metric)) for (name, data), metric in found.cells.items()]
    rows = [("", "", found.metric), *listed]
    return "\n".join(columns([tuple(map(harmless, row)) for row in rows]))


def _told(metric: Metric | None) -> str:
    return "–" if metric is None else str(metric)


def _told_short(metric: Metric | None) -> str:
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


def collect(jobs: Sequence[JobRow]) -> list[Row]:
    """Return the rows of a run's tests, each laboratory telling its own."""
    done = [job for job in jobs if job.state is State.DONE and job.spec.role == Role.TEST]
    rows: list[Row] = []
    for name in sorted({job.kind for job in done}):
        kind = installed([name]).get(name)
        if kind is None or not kind.results:
            continue
        module, _, function = kind.results.partition(":")
        # here the laboratory's code enters the command line: only it can read its score files
        table = getattr(importlib.import_module(module), function)
        tests = [(job.spec.model, job.spec.data) for job in done if job.kind == name]
        rows += table(done[0].spec.run_folder, tests)
    return rows


def terminal_width() -> int:
    """Return the terminal's columns; in a pipe or a file, where no name is cut, enough for all."""
    if not sys.stdout.isatty():
        return sys.maxsize
    return shutil.get_terminal_size((FULL_WIDTH, 24)).columns


def draw(rows: Sequence[Row], *, everything: bool = False, width: int = FULL_WIDTH) -> str:
    """Return the table: pooled rows first, then balanced accuracy by model and data set.

    Args:
        rows: of `collect`.
        everything: a row per model and data set instead.
        width: columns of the terminal; where the whole table does not fit, accuracy, calibration
            and loss stand without their intervals.
    """
    if not rows:
        return NOTHING
    pooled = [row for row in rows if row["pooled"]]
    cells, header = (_cells, HEADER) if width >= FULL_WIDTH else (_few_cells, FEW)
    if everything or not pooled:
        return "\n".join([*_fitted(header, map(cells, rows), width), *_few_sources(rows, width)])
    # a pooled row is named by its modifier: the whole ID would fill the line
    short = [(cells(row)[0], row["modifier"], *cells(row)[2:]) for row in pooled]
    lines = ["all sets of a modifier together, with 95 % intervals", ""]
    lines += _fitted(header, short, width)
    lines += _few_sources(pooled, width)
    lines += ["", "balanced accuracy in % by set of fakes, each with the real images beside it", ""]
    lines += _pivot([row for row in rows if not row["pooled"]])
    return "\n".join(lines)


def _fitted(header: Sequence[str], rows: Iterable[Sequence[str]], width: int) -> list[str]:
    """Return the table in so many columns; what a model's making took goes first where they are few."""
    numbers = _numbers(header)
    shapes = [
        Column(
            title=title,
            right=index in numbers,
            drop=_DISPENSABLE.get(title, 0),
            least=0 if index in numbers or not title else _SHORTEST,
            middle=title in {"model", "data"},
        )
        for index, title in enumerate(header)
    ]
    cells = (([Span(cell) for cell in row], None) for row in rows)
    return [one.text for one in table(shapes, cells, width)]


def _numbers(header: Sequence[str]) -> frozenset[int]:
    return frozenset(
        index for index, title in enumerate(header) if title not in {"model", "data", ""}
    )


def _pivot(rows: Sequence[Row]) -> list[str]:
    models = list(dict.fromkeys(row["model"] for row in rows))
    data = list(dict.fromkeys(row["data"] for row in rows))
    by_place = {(row["model"], row["data"]): row["balanced_accuracy"] for row in rows}
    listed = [("model", *data)]
    for model in models:
        cells = [_percent(by_place.get((model, one))) for one in data]
        listed.append((model, *cells))
    return columns(listed, right=frozenset(range(1, len(data) + 1)))


def _cells(row: Row) -> tuple[str, ...]:
    seconds = row.get("seconds")
    return (
        harmless(row["model"]),
        harmless(row["data"]),
        str(row["n"]),
        _interval(row["accuracy"], percent=True),
        _interval(row["balanced_accuracy"], percent=True),
        _interval(row["auc"], percent=False),
        _interval(row["ece"], percent=False),
        _plain(row.get("loss")),
        row.get("verdict") or "",
        "" if seconds is None else f"{seconds:.1f} s",
    )


def _whole_cells(row: Row) -> tuple[str, ...]:
    return (*_cells(row), harmless(row.get("few_sources") or ""))


def _few_sources(rows: Sequence[Row], width: int) -> list[str]:
    """Return lines on what so few sources of images tell; none where all rows have many."""
    data: dict[str, list[str]] = {}
    for row in rows:
        if text := row.get("few_sources"):
            data.setdefault(harmless(text), []).append(harmless(row["data"]))
    same = len(data) == 1 and all(row.get("few_sources") for row in rows)
    lines = [
        f"{text}" if same else f"{', '.join(dict.fromkeys(names))}: {text}"
        for text, names in data.items()
    ]
    told = [FEW_SOURCES, *(f"  {line}" for line in lines)] if lines else []
    return (
        ["", *(part for line in told for part in wrap(line, width, subsequent_indent="    "))]
        if told
        else []
    )


def _few_cells(row: Row) -> tuple[str, ...]:
    whole = _cells(row)
    return (
        *whole[:2],
        _percent(row["accuracy"]),
        *whole[4:6],
        *(_plain(row.get(key)) for key in ("ece", "loss")),
        *whole[8:],
    )


def _percent(value: Row | None) -> str:
    return "–" if value is None else f"{100 * value['value']:.1f}"


def _plain(value: Row | None) -> str:
    return "–" if value is None else f"{value['value']:.3f}"


def _interval(value: Row | None, *, percent: bool) -> str:
    if value is None:
        return "–"
    factor, digits = (100, 1) if percent else (1, 3)
    middle, low, high = (factor * value[key] for key in ("value", "low", "high"))
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
