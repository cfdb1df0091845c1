"""`trueface benchmark`: the leaderboard of a run, its table, its page, and a check of its numbers."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from launcher.api import UsageError, write_atomic
from trueface.audit.finding import count
from trueface.audit.run_folders import resolve_run_folder
from trueface.cli.studies import (
    figure_options,
    latex_option,
    missing_models,
    page_writer,
    table_records,
)
from trueface.cli.text_tables import align_columns, escape_unprintable, latex_tables, table_lines
from trueface.evaluation.over_seeds import NO_VALUE

if TYPE_CHECKING:  # scipy and torch take a second to import
    from trueface.benchmark.leaderboard import Leaderboard, LeaderboardRow
    from trueface.benchmark.table import Row
    from trueface.benchmark.videos import Benchmark, VideoUnit
    from trueface.jobs.benchmark.benchmarking import RecheckedRow
    from trueface.report.study_table import StudyTable

FOLDER = "benchmark"  # in the run's folder
TABLE, PARQUET, MANIFEST, PAGE = (
    "benchmark.csv", "benchmark.parquet", "manifest.json", "benchmark.html",
)  # fmt: skip


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--csv", "as_csv", is_flag=True, help="Print the long table: one row per measure.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
@latex_option
@click.option("--page", is_flag=True, help=f"Write {PAGE}, with plots.")
@figure_options
@click.option("--open", "opened", is_flag=True, help="Also open the page in the browser.")
@click.option(
    "--join",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Add the rows of another table of the same images to --csv. Repeatable.",
)
@click.option(
    "--check", is_flag=True, help="Score the images of some rows again and compare the values."
)
@click.option("--rows", default=20, show_default=True, help="Number of rows to check.")
@click.option(
    "--seed", default=0, show_default=True, help="Random seed that chooses the rows to check."
)
@click.option(
    "--device",
    metavar="DEVICE",
    default="cpu",
    show_default=True,
    help="Device for --check: cpu or cuda:N.",
)
def benchmark(
    run: str,
    *,
    as_csv: bool,
    as_json: bool,
    latex: bool,
    page: bool,
    opened: bool,
    join: tuple[Path, ...],
    check: bool,
    rows: int,
    seed: int,
    device: str,
) -> None:
    """Rank the models of a benchmark and check its numbers.

    RUN is the name of a folder in runs/, or a path. The files benchmark.csv and manifest.json are
    written to runs/RUN/benchmark/; with pyarrow, also benchmark.parquet.

    If models read different clips, or clips and frames, the table counts videos.

    Models whose names differ only in the seed are averaged. For each benchmark tier, the table shows
    the mean AUC and the worst condition. It also shows the 95 % interval over images and seeds, and the
    probability of being the best model.

    \b
    Tiers:
      white  the model knows the source and the processing of the images
      grey   one of them is new
      black  more than one is new

    \b
    Examples:
      trueface benchmark benchmark
      trueface benchmark benchmark --page --open
      trueface benchmark benchmark --check
      trueface benchmark benchmark --join other/benchmark.csv --csv > both.csv
    """
    if join and not as_csv:
        raise UsageError("--join requires --csv")
    if rows < 1:
        raise UsageError(f"--rows {rows}: expected at least 1")
    folder = resolve_run_folder(run)
    path = folder / FOLDER / PAGE
    write = page_writer(path if page or opened else None)
    # scipy takes a second to import; help and wrong names must not wait for it
    from trueface.benchmark import table
    from trueface.benchmark.leaderboard import leaderboard
    from trueface.benchmark.videos import read_benchmark

    bench = read_benchmark(folder)
    for problem in bench.results.problems:
        click.echo(f"warning: {problem}", err=True)
    if check:
        _recheck_rows(bench, folder, rows, seed, device)
        return
    if bench.unit is not None and join:
        raise UsageError(
            "--join adds rows of the same images, but this table counts the videos that all its models have. Add the "
            "models to this run."
        )
    written = _write_table(bench, folder)
    if as_csv:
        for note in bench.unit.notes if bench.unit else ():
            click.echo(f"warning: {note}", err=True)
        tables = [(str(folder / FOLDER / TABLE), written)]
        tables += [(str(other), table.read_csv(other)) for other in join]
        click.echo(_csv_of(bench, table.join(tables)), nl=False)
        return
    board = leaderboard(bench.results, missing_models(folder), bench.unit)
    if as_json:
        click.echo(json.dumps(document(board)))
    elif latex:
        click.echo(latex_tables(study_tables(board)))
    elif not page and not opened:
        click.echo(text(board))
    if write:
        from trueface.report.benchmark_page import benchmark_page

        write(benchmark_page(board))
        click.echo(path, err=as_json)
        if opened:
            click.launch(str(path))


def _write_table(bench: "Benchmark", folder: Path) -> "tuple[Row, ...]":
    """Write table and manifest to the run's folder; return the rows."""
    from trueface.benchmark import table, video_table
    from trueface.benchmark.cells import write_manifest

    rows = tuple(table.rows_of(bench.results))
    where = folder / FOLDER
    where.mkdir(exist_ok=True)
    write_atomic(where / TABLE, _csv_of(bench, rows))
    write_manifest(where / MANIFEST, bench.results.manifest)
    if table.has_parquet():
        unit = bench.unit
        content = table.as_parquet(rows) if unit is None else video_table.as_parquet(rows, unit)
        write_atomic(where / PARQUET, content)
    return rows


def _csv_of(bench: "Benchmark", rows: "Sequence[Row]") -> str:
    from trueface.benchmark import table, video_table

    return table.as_csv(rows) if bench.unit is None else video_table.as_csv(rows, bench.unit)


def _recheck_rows(bench: "Benchmark", folder: Path, rows: int, seed: int, device: str) -> None:
    """Print some rows with their values now; exit with 1 if one differs.

    If the table counts videos, these are rows of the frames and clips that videos are averaged from.
    """
    import torch

    from trueface.benchmark.table import TOLERANCE
    from trueface.cli.run_here import device as known_device
    from trueface.cli.run_here import with_progress_bar
    from trueface.jobs.benchmark.benchmarking import recheck

    with with_progress_bar("check") as (progress, stop):
        groups = (bench.results,) if bench.unit is None else bench.unit.groups
        checks = [
            each
            for at, results in enumerate(groups)
            for each in recheck(
                results,
                folder,
                count=len(range(at, rows, len(groups))),
                seed=seed,
                device=known_device(device),
                cpus=torch.get_num_threads(),
                progress=progress,
                stop=stop,
            )
        ]
        rechecked = sorted(checks, key=lambda each: each.agrees)  # first what does not agree
    head = ("", "model", "seed", "images", "condition", "measure", "table", "now")
    agree = sum(each.agrees for each in rechecked)
    click.echo(
        "\n".join(align_columns([head, *map(_checked_cells, rechecked)], left_columns=range(6)))
    )
    noun = "rows" if bench.unit is None else "rows of frames and clips"
    click.echo(f"\n{agree} of {len(rechecked)} {noun} agree within {TOLERANCE:g}")
    if agree < len(rechecked):
        raise click.exceptions.Exit(1)


def _checked_cells(checked_row: "RecheckedRow") -> tuple[str, ...]:
    row = checked_row.row
    return (
        "agrees" if checked_row.agrees else "DIFFERS",
        escape_unprintable(row.model),
        NO_VALUE if row.seed is None else str(row.seed),
        escape_unprintable(row.test),
        row.corrupt if row.attack == "none" else row.attack,
        row.measure,
        _number(row.value),
        _number(checked_row.value_now),
    )


def document(board: "Leaderboard") -> dict[str, Any]:
    """Return a leaderboard and its run as one JSON object."""
    run = board.run
    return {
        "schema": 1,
        "run": run.name,
        "manifest": {"name": run.manifest.name, "sha256": run.manifest.sha256},
        "training": run.training,
        **({} if board.unit is None else {"unit": _unit_json(board.unit)}),
        "models": [_line_json(line) for line in board.lines],
        "differences": {
            setting: [pair.json_record for pair in pairs] for setting, pairs in board.pairs.items()
        },
        "friedman": asdict(board.omnibus),
        "not_run": list(run.not_run()),
        "problems": list(run.problems),
        "confounded": list(run.confounds),
        "tables": table_records(study_tables(board)),
    }


def _line_json(line: "LeaderboardRow") -> dict[str, Any]:
    columns = {
        setting: {
            **{name: getattr(column, name) for name in ("balanced", "balanced_at_threshold")},
            "mean": column.mean.json_record,
            "worst": {"place": column.worst.key, "value": column.worst.value.json_record},
            "cells": column.cells,
            "ranked": None if column.ranked is None else column.ranked.json_record,
            "reason": column.reason,
        }
        for setting, column in line.columns.items()
    }
    record = asdict(replace(line, columns={}))
    if not line.frames:
        del record["frames"]
    return {**record, "columns": columns}


def _unit_json(unit: "VideoUnit") -> dict[str, Any]:
    return {
        "name": "videos",
        "videos": {test: len(videos) for test, videos in unit.common.items()},
        "left_out": list(unit.notes),
    }


def study_tables(board: "Leaderboard") -> "list[StudyTable]":
    """Return the leaderboard and the paired differences."""
    from trueface.report.leaderboard_tables import differences_table, leaderboard_table

    return [table for table in (leaderboard_table(board), differences_table(board)) if table]


def text(board: "Leaderboard") -> str:
    """Return the leaderboard: a table, reasons for missing ranks, skipped cells, differences."""
    from trueface.report.leaderboard_tables import DIFFERENCES, leaderboard_table

    run = board.run
    tests = len({result.index.test for result in run.results})
    conditions = len({result.cell.condition for result in run.results})
    images = count(len(run.manifest.entries), "image")
    counted = images if board.unit is None else count(board.unit.count, "video")
    parts = (
        count(len(board.lines), "model"),
        f"{count(tests, 'test set')} ({counted})",
        count(conditions, "condition"),
    )
    lines = [
        f"benchmark {run.manifest.name}: {', '.join(parts)}",
        *([f"training: {run.training}"] if run.training else []),
        *(map(escape_unprintable, board.unit.lines) if board.unit else ()),
        "",
        *table_lines(leaderboard_table(board)),
    ]
    longer = (f"{name}: {model}" for model, name in board.names.items() if name != model)
    titles: Sequence[tuple[str, Iterable[str]]] = (
        ("Models", longer),
        ("Predictable from the file format", run.confounds),
        ("Not ranked", board.missing_ranks),
        ("Not run", run.not_run(board.names)),
        (DIFFERENCES, _differences(board)),
    )
    for title, given in titles:
        if notes := [f"  {escape_unprintable(note)}" for note in given]:
            lines += ["", title, *notes]
    lines += ["", f"Friedman's test: {escape_unprintable(board.omnibus.text)}"]
    return "\n".join(lines)


def _differences(board: "Leaderboard") -> Iterator[str]:
    for setting, pairs in board.pairs.items():
        for pair in pairs:
            delong = "" if pair.p_delong is None else f", DeLong p {pair.p_delong:.3f}"
            yield (
                f"{setting}: {board.names[pair.second]} - {board.names[pair.first]} = "
                f"{pair.difference.value:+.3f} ({pair.difference.ends_text('+.3f')}), p {pair.p_holm:.3f}{delong}"
            )


def _number(value: float | None) -> str:
    return NO_VALUE if value is None else f"{value:.4f}"
