"""`trueface qualities`: the models of a run on the same images in several qualities."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from trueface.cli.studies import (
    STANDARD_OUTPUT,
    csv_option,
    json_option,
    latex_option,
    missing_models,
    page_option,
    page_writer,
    split_commas,
    table_records,
    tests_of_run,
    write_csv,
)
from trueface.cli.text_tables import escape_unprintable, latex_tables, table_lines
from trueface.evaluation.over_seeds import NO_MODELS, MissingModels
from trueface.evaluation.qualities import (
    NOT_IN_TWO,
    SUMMARIES,
    ComparedQualities,
    QualityRow,
    comparisons,
    find_unmeasured_models,
    quality_rows,
)
from trueface.report.quality_tables import (
    SCORES,
    areas_table,
    differences_table,
    model_tables,
    scores_table,
)
from trueface.report.study_table import StudyTable
from trueface.runtime.errors import DataError

CSV_HEADER = ("model", "data", "quality", "measure", "value", "low", "high", "why", "verdict")


def text(name: str, rows: Sequence[QualityRow], missing: MissingModels = NO_MODELS) -> str:
    """Return tables of AUC and of mean scores by quality, and the differences to the reference."""
    lines = [
        f"qualities {escape_unprintable(name)}: AUC, ± standard deviation over seeds, or the 95 % interval over "
        "images for one seed"
    ]
    for compared in comparisons(rows, missing, separate_names=True):
        lines += ["", escape_unprintable(compared.data), "", *table_lines(areas_table(compared))]
        lines += ["", SCORES, "", *table_lines(scores_table(compared))]
        notes = list(_notes(compared))
        lines += ["", *notes] if notes else []
    return "\n".join(lines)


def study_tables(
    rows: Sequence[QualityRow], missing: MissingModels = NO_MODELS
) -> Iterator[StudyTable]:
    """Yield the tables of each set of images."""
    for compared in comparisons(rows, missing, separate_names=True):
        yield areas_table(compared)
        yield scores_table(compared)
        if differences := differences_table(compared):
            yield differences


def document(
    name: str, rows: Sequence[QualityRow], missing: MissingModels = NO_MODELS
) -> dict[str, Any]:
    """Return all of it as one JSON object; `missing` are models whose jobs have no result."""
    models = [row.json_record for row in rows]
    return {
        "schema": 1,
        "run": name,
        "models": models,
        "missing": dict(missing.why),
        "tables": table_records(study_tables(rows, missing)),
    }


def _notes(comparison: ComparedQualities) -> Iterator[str]:
    for method in comparison.methods:
        name, first = escape_unprintable(method.model), method.rows[0]
        if first.reference_comparison is not None:
            for summary in SUMMARIES:
                change = first.reference_comparison.differences[summary]
                yield (
                    f"{name} - {escape_unprintable(first.reference_comparison.model)}, {summary}: {100 * change.value:+.1f} "
                    f"({change.ends_text('+.1f', 100)}) points: {change.word}"
                )
        elif first.why_not:
            yield f"{name}: {escape_unprintable(first.why_not)}"
    for count in comparison.left_out:
        yield f"skipped: {count} images that are not in every quality"


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--against",
    metavar="MODEL",
    default="",
    help="ID of the reference model, with or without its seed. The others are compared with it.",
)
@click.option(
    "--qualities",
    "names",
    metavar="NAME[,…]",
    default="",
    help="Qualities to show, in this order.  [default: all, raw first]",
)
@json_option
@latex_option
@page_option
@csv_option
def qualities(
    run: str,
    *,
    against: str,
    names: str,
    as_json: bool,
    latex: bool,
    csv_out: str | None,
    page: Path | None,
) -> None:
    """Compare models on the same images in several qualities.

    RUN is the name of a folder in runs/, or a path. A quality is the corruption of a test
    (`corrupt: [none, jpeg75, jpeg50]`); raw is none. Columns mean and worst are taken over qualities.
    Column pooled is one AUC of all qualities together; it is below the mean if scores shift with the
    quality. Intervals are 95 % intervals over images, and over seeds if there are three or more.
    Models whose names differ only in the seed are averaged.

    \b
    Examples:
      trueface qualities quality
      trueface qualities quality --against real --qualities raw,jpeg75,jpeg50
      trueface qualities quality --page runs/quality/qualities.html
      trueface qualities runs/quality --json
    """
    write = page_writer(page)
    run_folder, tests = tests_of_run(run)
    rows = quality_rows(run_folder, tests, reference=against, qualities=split_commas(names))
    if not rows:
        raise DataError(
            f"run {run_folder.name!r}: no model was tested on the same images in two qualities. Write "
            "`corrupt: [none, jpeg75, jpeg50]` to the tests of its task file."
        )
    missing = missing_models(run_folder)
    if lacking := find_unmeasured_models(tests, (row.model for row in rows)):
        click.echo(
            f"skipped: {', '.join(map(escape_unprintable, lacking))}: {NOT_IN_TWO}", err=True
        )
    if csv_out is not None:
        write_csv(csv_out, CSV_HEADER, (table for row in rows for table in model_tables(row)))
    if write:
        from trueface.report.collaboration import collaborations
        from trueface.report.qualities_page import quality_page

        write(quality_page(rows, run_folder.name, tuple(collaborations(run_folder)), missing))
    if as_json:
        click.echo(json.dumps(document(run_folder.name, rows, missing)))
    elif latex:
        click.echo(latex_tables(study_tables(rows, missing)))
    elif csv_out != STANDARD_OUTPUT:
        click.echo(text(run_folder.name, rows, missing))
