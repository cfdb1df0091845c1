"""`trueface report`: write a run as one HTML page with plots."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import click

from launcher.api import write_atomic
from trueface.audit.check import judge
from trueface.audit.reading import Reader
from trueface.report import erasing_page, purification_page
from trueface.report import fairness_page as fairness
from trueface.report import qualities_page as qualities
from trueface.report.content import Shown, shown
from trueface.report.page import figure_files, page
from trueface.unlearning.evaluation.leaderboard import ladder

FILE = "report.html"  # in the run's folder
FIGURES = "report-figures"  # beside it, a folder for each model
BESIDE = (
    ("Fairness", fairness.FILE),
    ("Qualities", qualities.FILE),
    ("Purification", purification_page.FILE),
    ("Erasing", erasing_page.FILE),
)  # linked to where they lie there


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"File to write.  [default: {FILE} in the run's folder]",
)
@click.option("--open", "opened", is_flag=True, help="Also open it in the browser.")
@click.option(
    "--data-root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder with the images, for the audit.  [default: from the run]",
)
@click.option(
    "--split-path",
    type=click.Path(path_type=Path, exists=True),
    help="Lists of the split, for the audit.  [default: from the run]",
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
    """Write RUN, a name below runs/ or a path, as one HTML page that needs no other file.

    The page has the findings of the audit, the table of models and data, ROC curves, score
    histograms, confusion matrices, learning curves, augmented samples, the provenance of each model,
    and comparisons of unlearned models. Also reads runs of the original system.
    Plots lie as SVG files in report-figures/ beside a page in the run's folder, too.
    """
    run_facts = Reader(data_root=data_root, split_path=split_path, seconds=seconds).run(run)
    models = [shown(model) for model in run_facts.models]
    date = time.strftime("%Y-%m-%d %H:%M")
    path = out or run_facts.folder / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    # a name of a folder that is no Unicode is shown as it can be
    beside = [(title, file) for title, file in BESIDE if (path.parent / file).is_file()]
    text = page(
        run_facts,
        judge(run_facts),
        models,
        date=date,
        unlearned=ladder(run_facts.folder),
        beside=beside,
    )
    write_atomic(path, text)
    if out is None:
        _write_figures(run_facts.folder / FIGURES, models)
    click.echo(path)
    if opened:
        click.launch(str(path))


def _write_figures(folder: Path, models: Sequence[Shown]) -> None:
    """Write the plots of the models as files, in the place of those of an earlier report."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, drawing in figure_files(models):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, drawing)
