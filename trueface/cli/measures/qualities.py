"""`trueface qualities`: the detectors of a run on the same images in several qualities."""

import json
from pathlib import Path

import click

from trueface.cli.measures.page_option import page_option
from trueface.cli.measures.run_tests import tests_of_run
from trueface.runtime.errors import DataError

EXAMPLES = """\b
Examples:
  trueface qualities quality
  trueface qualities quality --against real --qualities raw,jpeg75,jpeg50
  trueface qualities quality --page runs/quality/qualities.html
  trueface qualities runs/quality --json
"""


@click.command(epilog=EXAMPLES)
@click.argument("run", metavar="RUN")
@click.option(
    "--against",
    metavar="MODEL",
    default="",
    help="Reference: ID of a model, or that without its seed; the others are compared with it.",
)
@click.option(
    "--qualities",
    "names",
    metavar="NAME[,…]",
    default="",
    help="Qualities in their order.  [default: all, raw first]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
@page_option
@click.option(
    "--csv", "csv_out", metavar="OUT", help="Write a long table, one number a line; - prints it."
)
def qualities(
    run: str,
    *,
    against: str,
    names: str,
    as_json: bool,
    csv_out: str | None,
    page: Path | None,
) -> None:
    """Show the models of RUN, a name below runs/ or a path, on each quality of their test images.

    A quality is the corruption of a test (`corrupt: [none, jpeg75, jpeg50]`); raw is none. mean and
    worst are over qualities; pooled is one AUC of all qualities together, lower than the mean where
    scores shift with the quality. Intervals are 95 % over images, the same for all qualities and
    models, and over seeds where there are three. Models whose names differ in their seed alone are repetitions.
    """
    run_folder, tests = tests_of_run(run)
    # scipy takes a second to import; help and wrong names must not wait for it
    from trueface.cli.measures import qualities_text
    from trueface.cli.measures.long_table import STANDARD_OUTPUT, write_csv
    from trueface.evaluation.qualities import quality_rows

    chosen = [word.strip() for word in names.split(",") if word.strip()]
    rows = quality_rows(run_folder, tests, reference=against, qualities=chosen)
    if not rows:
        raise DataError(
            f"no model of {run_folder.name} was tested on the same images in two qualities: write "
            "`corrupt: [none, jpeg75, jpeg50]` into the tests of its task file"
        )
    if csv_out is not None:
        write_csv(csv_out, qualities_text.CSV_HEADER, qualities_text.csv_rows(rows))
    if page is not None:
        # jinja2 and Pillow are not needed otherwise
        from trueface.report.qualities.page import write_quality_page

        write_quality_page(rows, page, name=run_folder.name, run=run_folder)
    if as_json:
        click.echo(json.dumps(qualities_text.document(run_folder.name, rows)))
    elif csv_out != STANDARD_OUTPUT:
        click.echo(qualities_text.text(run_folder.name, rows))
