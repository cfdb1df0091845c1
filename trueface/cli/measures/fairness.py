"""`trueface fairness`: how evenly the detectors of a run err over groups of people."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trueface.audit.reading.model_folders import found_folder
from trueface.cli.measures.page_option import page_option
from trueface.cli.measures.run_tests import tests_of_run
from trueface.runtime.errors import DataError

if TYPE_CHECKING:  # scipy takes a second to import
    from trueface.evaluation.fairness.group_columns import Missing
    from trueface.evaluation.fairness.rows import FairnessRow

EXAMPLES = """\b
Examples:
  trueface fairness skew
  trueface fairness skew --by gender --rank
  trueface fairness skew --page runs/skew/fairness.html
  trueface fairness skew --attributes faces.csv --by intersec,age --groups
  trueface fairness results_of_the_original --json
"""


@click.command(epilog=EXAMPLES)
@click.argument("run", metavar="RUN")
@click.option(
    "--by",
    metavar="COLUMN[,…]",
    default="",
    help="Columns of groups.  [default: gender, race and intersec, as far as there are such columns]",
)
@click.option(
    "--attributes",
    metavar="FILE[,…]",
    default="",
    help="Tables of attributes.  [default: those that the tests name]",
)
@click.option(
    "--missing",
    type=click.Choice(["stop", "skip"]),
    help="What to do with an image without a row.  [default: as the tests did]",
)
@click.option(
    "--against",
    metavar="MODEL",
    default="",
    help="Reference: ID of a model, or that without its seed; the AUC of others is compared with it.",
)
@click.option("--groups", is_flag=True, help="Also print the rates of each group, model by model.")
@click.option("--rank", is_flag=True, help="Order by FPR gap, as far as models are comparable.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
@page_option
@click.option(
    "--csv", "csv_out", metavar="OUT", help="Write a long table, one number a line; - prints it."
)
def fairness(
    run: str,
    *,
    by: str,
    attributes: str,
    missing: "Missing | None",
    against: str,
    groups: bool,
    rank: bool,
    as_json: bool,
    csv_out: str | None,
    page: Path | None,
) -> None:
    """Show how evenly the models of RUN err over groups: a name below runs/, or a path.

    RUN may also be a folder of <group>labels.npy and <group>predictions.npy, as
    Fairness-Generalization writes them. Gaps are in per cent, each with its floor: what 95 % of 200
    shuffles of the groups within each class do not exceed. A gap up to its floor is not above chance, up
    to twice its floor it is near it. Models whose AUC is lower than the best one's beyond its interval,
    and constant ones, are not ranked. Models whose names differ in their seed alone are repetitions.
    """
    columns, files = _words(by), [Path(word).expanduser() for word in _words(attributes)]
    name, rows = _rows(run, columns, files, missing, against)
    # scipy takes a second to import; help and wrong names must not wait for it
    from trueface.cli.measures import fairness_text
    from trueface.cli.measures.long_table import STANDARD_OUTPUT, write_csv
    from trueface.evaluation.fairness.rows import methods

    if csv_out is not None:
        write_csv(csv_out, fairness_text.CSV_HEADER, fairness_text.csv_rows(rows))
    if page is not None:
        # jinja2 and Pillow are not needed otherwise
        from trueface.report.fairness.page import write_fairness_page

        write_fairness_page(rows, page, name=name)
    made = methods(rows)
    if as_json:
        click.echo(json.dumps(fairness_text.document(name, rows, made)))
    elif csv_out != STANDARD_OUTPUT:
        click.echo(fairness_text.text(name, rows, made, groups=groups, rank=rank))


def _rows(
    run: str, by: list[str], attributes: list[Path], missing: "Missing | None", against: str
) -> "tuple[str, list[FairnessRow]]":
    folder = found_folder(run)
    from trueface.evaluation.fairness.run import fairness_rows, is_folder, seed_rows

    if is_folder(folder):
        return folder.name, seed_rows(folder, by)
    run_folder, tests = tests_of_run(run)
    rows = fairness_rows(
        run_folder, tests, by, attributes=attributes, missing=missing, reference=against
    )
    if not rows:
        raise DataError(
            f"no test of {run_folder.name} has attributes: write `attributes: faces.csv` into its task "
            "file, or name the table by --attributes"
        )
    return run_folder.name, rows


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
