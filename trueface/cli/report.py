"""`trueface report`: write a run as one HTML page with plots."""

import time
from pathlib import Path

import click

from trueface.audit.check import judge
from trueface.audit.reading import Reader
from trueface.cli.studies import figure_options, missing_models, page_writer
from trueface.report.content import make_model_reports
from trueface.report.run_page import run_page
from trueface.unlearning.evaluation.leaderboard import make_unlearning_leaderboard

FILE = "report.html"  # in the run's folder
BESIDE = (
    ("Fairness", "fairness.html"),
    ("Qualities", "qualities.html"),
    ("Purification", "purification.html"),
    ("Erasing", "erasing.html"),
)  # linked if the file exists in the folder of the report


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"File to write.  [default: {FILE} in the run's folder]",
)
@figure_options
@click.option("--open", "opened", is_flag=True, help="Also open the page in the browser.")
@click.option(
    "--data-root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder with the images, for the audit.  [default: from the run]",
)
@click.option(
    "--split-path",
    type=click.Path(path_type=Path, exists=True),
    help="Folder or file of the split, for the audit.  [default: from the run]",
)
@click.option(
    "--seconds",
    default=10.0,
    show_default=True,
    help="Time limit for comparing image files, in seconds.",
)
def report(
    run: str,
    *,
    out: Path | None,
    opened: bool,
    data_root: Path | None,
    split_path: Path | None,
    seconds: float,
) -> None:
    """Write an HTML page about a run, with plots.

    RUN is the name of a folder in runs/, or a path. Runs of the original system are read too. The page
    needs no other file. It contains the findings of the audit, the table of models and data, and the
    provenance of each model. Its plots are ROC curves, score histograms, confusion matrices, learning
    curves, augmented samples, and comparisons of unlearned models. Without --out, the plots are also written to
    runs/RUN/report-figures/ as SVG files.

    \b
    Examples:
      trueface report study --open
      trueface report study --out study.html --png
    """
    run_facts = Reader(data_root=data_root, split_path=split_path, seconds=seconds).run(run)
    models = make_model_reports(run_facts.models)
    date = time.strftime("%Y-%m-%d %H:%M")
    path = out or run_facts.folder / FILE
    # a folder name that is not valid Unicode is shown with replacement characters
    beside = [(title, file) for title, file in BESIDE if (path.parent / file).is_file()]
    missing = missing_models(run_facts.folder)
    page = run_page(
        run_facts,
        judge(run_facts),
        models,
        date=date,
        leaderboard=make_unlearning_leaderboard(run_facts.folder, missing),
        other_pages=beside,
        missing=missing,
    )
    if write := page_writer(path, svg=out is None):
        write(page)
    click.echo(path)
    if opened:
        click.launch(str(path))
