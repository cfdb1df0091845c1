"""`launcher results`: what came out of a run, as a table."""

import importlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from launcher.cli.add import RUN
from launcher.cli.selection import RUN_PREFIX
from launcher.cli.session import open_queue
from launcher.errors import UsageError, nearest
from launcher.kinds import Role, installed
from launcher.states import State
from launcher.store.rows import JobRow
from launcher.store.store import Store
from launcher.views import columns, harmless, tabbed

Row = Mapping[str, Any]
HEADER = ("model", "data", "n", "accuracy %", "balanced %", "AUC", "ECE", "loss", "", "made in")
NOTHING = "no results yet"
FEW = ("model", "data", "acc %", "balanced %", "AUC", "ECE", "loss", "", "made in")
FULL_WIDTH = 140


@click.command()
@click.argument("run", required=False)
@click.option("--all", "everything", is_flag=True, help="A row per model and data set, not pooled.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
def command(run: str | None, everything: bool, as_json: bool) -> None:
    """Print the table models × data of RUN; of the newest run when none is named.

    Real images are joined with each set of fakes that has the same modifier. Intervals are 95 %.

    \b
    Examples:
      launcher results quickstart
      launcher results quickstart --all --json
    """
    with open_queue() as (_, store):
        jobs = _run_of(store, run)
        rows = collect(jobs)
    if as_json:
        click.echo(json.dumps({"schema": 1, "run": jobs[0].run, "rows": rows}))
    elif not rows:
        click.echo(NOTHING, err=True)
    elif sys.stdout.isatty():
        click.echo(draw(rows, everything=everything, width=terminal_width()))
    else:
        click.echo(tabbed(map(_cells, rows)))


def _run_of(store: Store, run: str | None) -> list[JobRow]:
    if run is None:
        tests = store.read.tests(but=RUN)
        if not tests:
            raise UsageError("no run has tested anything yet")
        run = max(tests, key=lambda job: job.submitted).run
    run = run.removeprefix(RUN_PREFIX)
    chosen = store.read.of_run(run)
    if not chosen:
        names = sorted(store.read.runs())
        close = nearest(run, names)
        hint = f", did you mean {close!r}?" if close else f" (known: {', '.join(names) or 'none'})"
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
    """Return the terminal's columns; where there is none, enough for everything."""
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
        return "no results yet"
    pooled = [row for row in rows if row["pooled"]]
    cells, header = (_cells, HEADER) if width >= FULL_WIDTH else (_few_cells, FEW)
    if everything or not pooled:
        return "\n".join(columns([header, *map(cells, rows)], right=_numbers(header)))
    # a pooled row is named by its modifier: the whole ID would fill the line
    short = [(cells(row)[0], row["modifier"], *cells(row)[2:]) for row in pooled]
    lines = ["all sets of a modifier together, with 95 % intervals", ""]
    lines += columns([header, *short], right=_numbers(header))
    lines += ["", "balanced accuracy in % by set of fakes, each with the real images beside it", ""]
    lines += _pivot([row for row in rows if not row["pooled"]])
    return "\n".join(lines)


def _numbers(header: Sequence[str]) -> frozenset[int]:
    return frozenset(
        index for index, title in enumerate(header) if title not in {"model", "data", ""}
    )


def _pivot(rows: Sequence[Row]) -> list[str]:
    models = list(dict.fromkeys(row["model"] for row in rows))
    data = list(dict.fromkeys(row["data"] for row in rows))
    by_place = {(row["model"], row["data"]): row["balanced_accuracy"] for row in rows}
    table = [("model", *data)]
    for model in models:
        cells = [_percent(by_place.get((model, one))) for one in data]
        table.append((model, *cells))
    return columns(table, right=frozenset(range(1, len(data) + 1)))


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
