"""What the commands that show a study of a run share: its options, its tests, and its long table as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from launcher.api import write_atomic
from trueface.audit.run_facts import (
    data_of,
    found_folder,
    model_folders,
    model_name,
    score_paths,
)
from trueface.evaluation.intervals import Difference, Measure
from trueface.evaluation.score_tables import OLD_SUFFIXES
from trueface.runtime.errors import DataError
from trueface.runtime.paths import CONDITIONS

STANDARD_OUTPUT = "-"

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object (schema 1)."
)
page_option = click.option(
    "--page",
    metavar="OUT",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write an HTML page that needs no other file; a report in the same folder links to "
    "one with the verb's name.",
)
csv_option = click.option(
    "--csv", "csv_out", metavar="OUT", help="Write a long table, one number a line; - prints it."
)


def tests_of_run(run: str) -> tuple[Path, list[tuple[str, str]]]:
    """Return a run's folder and its (model ID, test) pairs; a model's folder has its own tests.

    Raises:
        UsageError: there is no such folder.
        DataError: it has no score file.
    """
    folder = found_folder(run)
    folders = model_folders(folder)
    tests = [
        (model, data_of(path, model))
        for each in folders
        for model in (model_name(each),)
        for place in ("scores", CONDITIONS)
        for path in score_paths(each, place)
        if path.suffix not in OLD_SUFFIXES
    ]
    if not tests:
        raise DataError(f"no scores in {folder}: test its models first")
    return folders[0].parent, tests


def value_cells(measure: Measure | Difference | None) -> tuple[object, object, object]:
    """Return the cells of a value and of both ends of its interval; empty ones where there is none."""
    return ("", "", "") if measure is None else (measure.value, measure.low, measure.high)


def write_csv(out: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table atomically to a file, or to the standard output where `out` is "-"."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    if out == STANDARD_OUTPUT:
        click.echo(text.getvalue(), nl=False)
        return
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.getvalue())
    click.echo(path, err=True)
