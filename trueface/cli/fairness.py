"""`trueface fairness`: how evenly the models of a run err over groups of people."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from trueface.audit.run_folders import resolve_run_folder
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
from trueface.evaluation.fairness import (
    FairnessMethod,
    FairnessRow,
    fairness_rows,
    methods,
    original_rows,
)
from trueface.evaluation.group_columns import Missing, is_original
from trueface.evaluation.npy_folder import write_npy_folders
from trueface.evaluation.published_gaps import PUBLISHED_LEGEND
from trueface.report.fairness_tables import (
    GAP_AT_COMMON,
    further_table,
    methods_table,
    model_groups_table,
    model_tables,
)
from trueface.report.study_table import StudyTable
from trueface.runtime.errors import DataError

CSV_HEADER = (
    "model", "data", "by", "threshold", "group", "measure", "value", "low", "high", "n_real", "n_fake", "why", "verdict",
)  # fmt: skip
MOST_UNDEFINED = 12  # lines on undefined rates; a column that names images has thousands
LEGEND = (
    "gaps and rates in %, ± standard deviation over seeds. [floor] is the 95th percentile of shuffled "
    "groups. FPR gap is the largest rate minus the smallest. F_FPR and F_EO are sums of distances "
    "from the overall rates"
)


def text(
    name: str,
    rows: Sequence[FairnessRow],
    methods: Sequence[FairnessMethod],
    *,
    groups: bool,
    rank: bool,
    measures: bool = False,
) -> str:
    """Return a table of the methods for each set of images and grouping, and notes below it."""
    lines = [f"fairness {escape_unprintable(name)}: {LEGEND}"]
    for here in _comparisons(methods, rank=rank):
        table = methods_table(here, rank=rank)
        title = escape_unprintable(table.title)
        lines += ["", title, "", *table_lines(table), *_comparability_lines(here)]
        if measures:
            title = f"all measures over groups. {PUBLISHED_LEGEND}"
            lines += ["", title, "", *table_lines(further_table(here))]
    lines += _notes(rows)
    for table in map(model_groups_table, rows if groups else ()):
        lines += ["", escape_unprintable(table.title), "", *table_lines(table)]
    return "\n".join(lines)


def study_tables(
    rows: Sequence[FairnessRow],
    methods: Sequence[FairnessMethod],
    *,
    groups: bool,
    rank: bool,
    measures: bool = False,
) -> Iterator[StudyTable]:
    """Yield the tables of `text`."""
    for here in _comparisons(methods, rank=rank):
        yield methods_table(here, rank=rank)
        if measures:
            yield further_table(here)
    yield from map(model_groups_table, rows if groups else ())


def _comparisons(
    methods: Sequence[FairnessMethod], *, rank: bool
) -> Iterator[list[FairnessMethod]]:
    """Yield the methods of each set of images and grouping."""
    for key in dict.fromkeys(method.comparison_key for method in methods):
        here = [method for method in methods if method.comparison_key == key]
        if rank:
            here.sort(key=lambda method: (method.rank is None, method.rank or 0))
        yield here


def document(
    name: str,
    rows: Sequence[FairnessRow],
    methods: Sequence[FairnessMethod],
    tables: Iterable[StudyTable] = (),
) -> dict[str, Any]:
    """Return all of it as one JSON object; `models` are single trainings, `methods` over seeds."""
    return {
        "schema": 1,
        "run": name,
        "models": [row.json_record for row in rows],
        "methods": [method.json_record for method in methods],
        "tables": table_records(tables),
    }


def _comparability_lines(methods: Sequence[FairnessMethod]) -> list[str]:
    """Return lines on why methods are not comparable, and on the reference."""
    lines = []
    for method in methods:
        to_reference = method.rows[0].to_reference
        if to_reference is not None:
            ends = f"({to_reference.ends_text('+.3f')})"
            change = f"AUC {to_reference.value:+.3f} {ends} compared with the reference: {to_reference.word}"
            lines.append(f"{escape_unprintable(method.model)}: {change}")
        if method.why_not:
            lines.append(
                f"{escape_unprintable(method.model)}: {escape_unprintable(method.why_not)}"
            )
    return ["", *lines] if lines else []


def _notes(rows: Sequence[FairnessRow]) -> list[str]:
    """Return lines on undefined measures and on omitted or lost values, each once."""
    notes: dict[str, None] = {}
    undefined: dict[str, None] = {}
    for row in rows:
        for each in row.table.undefined:
            named = f"{each.rate} of {each.group}" if each.group else f"{each.rate} by {row.by}"
            undefined[f"undefined: {named}, {each.reason}"] = None
        if row.ungrouped:
            notes[f"skipped: {row.ungrouped} {row.unit} without a group"] = None
        if row.common is None:
            notes[f"no {GAP_AT_COMMON}: {row.validation.reason}"] = None
        if row.note:
            notes[f"note: {row.note}"] = None
    lines = [*list(undefined)[:MOST_UNDEFINED], *notes]
    if len(undefined) > MOST_UNDEFINED:
        more = len(undefined) - MOST_UNDEFINED
        lines.insert(MOST_UNDEFINED, f"undefined: {more} more rates. List all: --json")
    return ["", *map(escape_unprintable, lines)] if lines else []


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--by",
    metavar="COLUMN[,…]",
    default="",
    help="Columns of groups.  [default: those of gender, race and intersec that exist]",
)
@click.option(
    "--attributes",
    metavar="FILE[,…]",
    default="",
    help="Tables of attributes.  [default: the tables of the tests]",
)
@click.option(
    "--missing",
    type=click.Choice(["stop", "skip"]),
    help="Stop at an image without a row, or skip it.  [default: as in the tests]",
)
@click.option(
    "--against",
    metavar="MODEL",
    default="",
    help="ID of the reference model, with or without its seed. The AUC of the others is compared with it.",
)
@click.option("--groups", is_flag=True, help="Also print the rates of each group for each model.")
@click.option("--rank", is_flag=True, help="Rank the comparable models by FPR gap.")
@click.option(
    "--measures",
    is_flag=True,
    help="Also print the other measures: TPR gap, F_OAE, F_DP, F_MEO, AUC gap, F_G, F_A and F_COV.",
)
@click.option(
    "--npy",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also write the predictions as GROUPlabels.npy and GROUPpredictions.npy: to DIR for one model and test, "
    "otherwise to DIR/MODEL/TEST.",
)
@json_option
@latex_option
@page_option
@csv_option
def fairness(
    run: str,
    *,
    by: str,
    attributes: str,
    missing: Missing | None,
    against: str,
    groups: bool,
    rank: bool,
    measures: bool,
    npy: Path | None,
    as_json: bool,
    latex: bool,
    csv_out: str | None,
    page: Path | None,
) -> None:
    """Compare the errors of models between groups of people.

    RUN is the name of a folder in runs/, or a path. It may also be a folder of <group>labels.npy and
    <group>predictions.npy, as Fairness-Generalization writes them.

    Gaps are in percentage points. The floor of a gap is the 95th percentile of 200 shuffles of the
    groups within each class. A gap up to its floor can be chance; a gap up to twice its floor is
    close to chance. A model is not ranked if it is constant, or if its AUC is significantly below the
    best AUC. Models whose names differ only in the seed are averaged.

    \b
    Examples:
      trueface fairness skew
      trueface fairness skew --by gender --rank
      trueface fairness skew --page runs/skew/fairness.html
      trueface fairness skew --attributes faces.csv --by intersec,age --groups
      trueface fairness skew --by intersec --measures --npy skew_npy
    """
    write = page_writer(page)
    columns, files = (
        split_commas(by),
        [Path(word).expanduser() for word in split_commas(attributes)],
    )
    name, rows = _rows(run, columns, files, missing, against)
    without = missing_models(resolve_run_folder(run))
    for folder in () if npy is None else write_npy_folders(npy, rows):
        click.echo(folder, err=True)
    if csv_out is not None:
        write_csv(csv_out, CSV_HEADER, (table for row in rows for table in model_tables(row)))
    if write:
        from trueface.report.fairness_page import fairness_page

        write(fairness_page(rows, name or Path(run).absolute().name, without))
    found = methods(rows, without)
    tables = study_tables(rows, found, groups=groups, rank=rank, measures=measures)
    if as_json:
        click.echo(json.dumps(document(name, rows, found, tables)))
    elif latex:
        click.echo(latex_tables(tables))
    elif csv_out != STANDARD_OUTPUT:
        click.echo(text(name, rows, found, groups=groups, rank=rank, measures=measures))


def _rows(
    run: str, columns: list[str], attributes: list[Path], missing: Missing | None, reference: str
) -> tuple[str, list[FairnessRow]]:
    folder = resolve_run_folder(run)
    if is_original(folder):
        return folder.name, original_rows(folder, columns)
    run_folder, tests = tests_of_run(run)
    rows = fairness_rows(
        run_folder, tests, columns, attributes=attributes, missing=missing, reference=reference
    )
    if not rows:
        raise DataError(
            f"run {run_folder.name!r}: no test has attributes. Write `attributes: faces.csv` to its task "
            "file, or give the table: --attributes faces.csv"
        )
    return run_folder.name, rows
