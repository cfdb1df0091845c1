"""Common parts of the commands that show a study of a run: options, tests, and the CSV table."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from launcher.api import Json, UsageError, write_atomic
from trueface.evaluation.over_seeds import MissingModels
from trueface.runtime.errors import DataError, MachineError, install_command
from trueface.runtime.paths import CONDITIONS

if TYPE_CHECKING:  # jinja2 and numpy take long to import
    from trueface.report.page import FigureKind, Page
    from trueface.report.study_table import StudyTable

STANDARD_OUTPUT = "-"

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object (schema 1)."
)
latex_option = click.option(
    "--latex",
    is_flag=True,
    help="Print the tables for LaTeX instead. The document needs the package booktabs.",
)
FIGURE_FORMATS_KEY = f"{__name__}.drawn"  # key in a command's context: the requested figure formats


def figure_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options `--png` and `--pdf` to a command, which `page_writer` reads.

    Raises:
        MachineError: the command raises it at its start if matplotlib is missing.
    """

    def store_format(context: click.Context, option: click.Parameter, is_set: bool) -> None:
        if is_set and find_spec("matplotlib") is None:
            raise MachineError(f"--{option.name} needs matplotlib: {install_command('plots')}")
        context.meta[FIGURE_FORMATS_KEY] = [
            *context.meta.get(FIGURE_FORMATS_KEY, ()),
            *([option.name] if is_set else []),
        ]

    for kind in ("pdf", "png"):
        command = click.option(
            f"--{kind}",
            is_flag=True,
            expose_value=False,
            callback=store_format,
            help=f"Also write each plot as a {kind.upper()} file, to a folder next to the page.",
        )(command)
    return command


def page_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options `--page`, `--png` and `--pdf` to a command, which `page_writer` reads."""
    option = click.option(
        "--page",
        metavar="OUT",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Also write an HTML page with all images and styles inside. A report in the same folder "
        "links to a page that has the name of this command.",
    )
    return option(figure_options(command))


def page_writer(path: Path | None, *, svg: bool = False) -> "Callable[[Page], None] | None":
    """Return a function that writes the page of the running command, and the requested figure files.

    Args:
        path: path of the page, or None if no page was requested.
        svg: whether the figures are always written as SVG files too.

    Raises:
        UsageError: figures were requested without a page.
    """
    kinds: list[FigureKind] = ["svg"] if svg else []
    kinds += click.get_current_context().meta[FIGURE_FORMATS_KEY]
    if path is None:
        if kinds:
            raise UsageError(f"--{kinds[0]} requires --page")
        return None
    # jinja2 and Pillow are not needed otherwise
    from trueface.report.page import write_page

    return lambda page: write_page(page, path, kinds)


csv_option = click.option(
    "--csv",
    "csv_out",
    metavar="OUT",
    help="Write a long table with one number per row; - prints it.",
)


def split_commas(text: str) -> list[str]:
    """Return the names in an option such as "raw,jpeg75", each once."""
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def tests_of_run(run: str) -> tuple[Path, list[tuple[str, str]]]:
    """Return the folder of a run and its (model ID, test) pairs. A model's folder is accepted as well.

    Raises:
        UsageError: the folder does not exist.
        DataError: the folder has no score file.
    """
    # both import numpy, for which help need not wait
    from trueface.audit.run_folders import (
        data_of,
        model_folders,
        model_name,
        resolve_run_folder,
        score_paths,
    )
    from trueface.predictions.tables import OLD_SUFFIXES

    folder = resolve_run_folder(run)
    folders = model_folders(folder)
    tests = [
        (model, data_of(path, model))
        for each in folders
        for model in (model_name(each),)
        for subfolder in ("scores", CONDITIONS)
        for path in score_paths(each, subfolder)
        if path.suffix not in OLD_SUFFIXES
    ]
    if not tests:
        raise DataError(f"no scores found in {folder}. Test the models of the run first.")
    return folders[0].parent, tests


def missing_models(run_folder: Path) -> MissingModels:
    """Return the models and folders of a run that are in the queue without a result."""
    from launcher.api import unfinished_models  # importing the queue takes 0.1 s

    return MissingModels(unfinished_models(run_folder))


def table_records(tables: "Iterable[StudyTable]") -> list[dict[str, Json]]:
    """Return tables of a study as JSON."""
    return [table.json_record for table in tables]


def write_csv(out_path: str, header: Sequence[str], tables: "Iterable[StudyTable]") -> None:
    """Write tables atomically to a file, or to standard output if `out_path` is "-": a line for each number.

    Args:
        out_path: path of the file.
        header: columns of the tables and of `NUMBER_COLUMNS`. Absent values are empty.
        tables: of a study.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, header, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(line for table in tables for line in table.long_rows())
    if out_path == STANDARD_OUTPUT:
        click.echo(text.getvalue(), nl=False)
        return
    path = Path(out_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.getvalue())
    click.echo(path, err=True)
