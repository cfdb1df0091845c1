"""`trueface benchmark`: the leaderboard of a run, its table, its page, and a check of its numbers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.api import UsageError, write_atomic
from trueface.audit.run_folders import found_folder

if TYPE_CHECKING:  # scipy and torch take a second to import
    from trueface.benchmark.run_results import RunResults
    from trueface.benchmark.table import Row

FOLDER = "benchmark"  # in the run's folder
TABLE, PARQUET, MANIFEST, PAGE = (
    "benchmark.csv", "benchmark.parquet", "manifest.json", "benchmark.html",
)  # fmt: skip
EXAMPLES = """\b
Examples:
  trueface benchmark benchmark
  trueface benchmark benchmark --page --open
  trueface benchmark benchmark --check
  trueface benchmark benchmark --join other/benchmark.csv --csv > both.csv
"""


@click.command(epilog=EXAMPLES)
@click.argument("run", metavar="RUN")
@click.option("--csv", "as_csv", is_flag=True, help="Print the long table, one row a measure.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
@click.option("--page", is_flag=True, help=f"Write {PAGE}, with plots.")
@click.option("--open", "opened", is_flag=True, help="Also open the page in the browser.")
@click.option(
    "--join",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="With --csv: add the rows of another table of the same images; repeatable.",
)
@click.option("--check", is_flag=True, help="Score images of some rows again, and compare.")
@click.option("--rows", default=20, show_default=True, help="With --check: how many rows.")
@click.option("--seed", default=0, show_default=True, help="With --check: which rows.")
@click.option("--device", default="cpu", show_default=True, help="With --check: to score on.")
def benchmark(
    run: str,
    *,
    as_csv: bool,
    as_json: bool,
    page: bool,
    opened: bool,
    join: tuple[Path, ...],
    check: bool,
    rows: int,
    seed: int,
    device: str,
) -> None:
    """Rank the models that the section `benchmark` of RUN scored; RUN is a name below runs/ or a path.

    Writes benchmark.csv and manifest.json (with pyarrow, benchmark.parquet) to runs/RUN/benchmark.
    Models with names that differ in their seed alone are repetitions of one. For each setting: mean AUC
    with its 95 % interval over images and seeds, the worst cell, and the probability of being the best.
    white: the model knows source and processing of the images; grey: one thing is new; black: more.
    """
    if join and not as_csv:
        raise UsageError("--join adds rows to a table: write --csv, too")
    if rows < 1:
        raise UsageError(f"--rows {rows}: check one row at least")
    folder = found_folder(run)
    # scipy takes a second to import; help and wrong names must not wait for it
    from trueface.benchmark.run_results import read_run

    results = read_run(folder)
    for problem in results.problems:
        click.echo(f"warning: {problem}", err=True)
    if check:
        _check(results, folder, rows, seed, device)
        return
    table = _written(results, folder)
    if as_csv:
        click.echo(_joined(folder / FOLDER / TABLE, table, join), nl=False)
        return
    from trueface.benchmark.leaderboard import leaderboard
    from trueface.cli import benchmark_text

    board = leaderboard(results)
    if as_json:
        click.echo(json.dumps(benchmark_text.document(results, board)))
    elif not page and not opened:
        click.echo(benchmark_text.text(results, board))
    if page or opened:
        from trueface.report.benchmark_page import benchmark_page

        path = folder / FOLDER / PAGE
        write_atomic(path, benchmark_page(results, board))
        click.echo(path, err=as_json)
        if opened:
            click.launch(str(path))


def _written(results: "RunResults", folder: Path) -> "tuple[Row, ...]":
    """Write table and manifest beside the run; return the rows."""
    from trueface.benchmark import manifest, table

    rows = tuple(table.rows_of(results))
    where = folder / FOLDER
    where.mkdir(exist_ok=True)
    write_atomic(where / TABLE, table.as_csv(rows))
    manifest.write(where / MANIFEST, results.manifest)
    if table.has_parquet():
        write_atomic(where / PARQUET, table.as_parquet(rows))
    return rows


def _joined(path: Path, rows: "tuple[Row, ...]", others: tuple[Path, ...]) -> str:
    from trueface.benchmark import table

    tables = [(str(path), rows), *((str(other), table.read_csv(other)) for other in others)]
    return table.as_csv(table.join(tables))


def _check(results: "RunResults", folder: Path, count: int, seed: int, device: str) -> None:
    """Print some rows with their values now; exit with 1 if one differs."""
    import torch

    from trueface.benchmark.table import TOLERANCE
    from trueface.cli.benchmark_text import checked_table
    from trueface.cli.run_here import device as known_device
    from trueface.cli.run_here import under_bar
    from trueface.jobs.benchmark.rechecking import recheck

    with under_bar("check") as (progress, stop):
        checks = recheck(
            results,
            folder,
            count=count,
            seed=seed,
            device=known_device(device),
            cpus=torch.get_num_threads(),
            progress=progress,
            stop=stop,
        )
        rows = tuple(checks)
    agree = sum(row.agrees for row in rows)
    click.echo("\n".join(checked_table(rows)))
    click.echo(f"\n{agree} of {len(rows)} rows agree within {TOLERANCE:g}")
    if agree < len(rows):
        raise click.exceptions.Exit(1)
