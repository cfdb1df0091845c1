"""Commands of generators: run one job without the queue, and show a run's study of purification or erasing."""

import json
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import click

from launcher.api import Json, Role, UsageError, read_json
from trueface.audit.run_folders import resolve_run_folder
from trueface.cli import run_here
from trueface.cli.run_job import DEVICE, perform
from trueface.cli.setting_options import JobCommand, options
from trueface.cli.studies import (
    STANDARD_OUTPUT,
    csv_option,
    json_option,
    latex_option,
    missing_models,
    page_option,
    page_writer,
    table_records,
    tests_of_run,
    write_csv,
)
from trueface.cli.text_tables import escape_unprintable, latex_tables, table_lines
from trueface.generators.jobs.generation_kind import GenerationKind
from trueface.generators.jobs.rules import EXAMPLES
from trueface.report.study_table import NUMBER_COLUMNS
from trueface.runtime import paths
from trueface.runtime.errors import DataError

GROUP = "launcher.kinds"
ROOM = "trueface.generators.jobs."
MAKES_MODELS = frozenset({Role.TRAIN, Role.METHOD})
ERASING_CSV = ("method", "concept", "anchor_class", "seeds", *NUMBER_COLUMNS, "verdict")
PURIFICATION_CSV = (
    "table", "method", "attack", "target", "model", "trained_on", "data", "seeds", *NUMBER_COLUMNS, "verdict",
)  # fmt: skip
METHOD = "method"  # a setting that is part of the model ID: 'classes:all~uce'

RUN = click.option(
    "--run",
    metavar="RUN",
    default="test",
    show_default=True,
    help="Run of the job. Files go to runs/RUN/.",
)
BASE = click.option(
    "--base",
    metavar="ID",
    help="ID of the model to start from.  [default: the ID before its last '~']",
)
NAME = click.option(
    "--name",
    metavar="NAME",
    help="Folder to make in runs/RUN/made/.  [default: the name of the command]",
)


class Kinds(click.Group):
    """The installed job types of generators. Each is imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's shape
        """Return the names of the job types."""
        return sorted(_list_job_types())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the command of a job type, with an option for each of its settings."""
        point = _list_job_types().get(cmd_name)
        if point is None:
            return None
        kind = point.load()
        if not isinstance(kind, GenerationKind):
            raise UsageError(f"entry point {point.value} is not a job type of generators")
        return _command(kind)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the job types with their complete summaries."""
        rows = [(name, _summary(point.load())) for name, point in sorted(_list_job_types().items())]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=Kinds)
def generate() -> None:
    """Train, edit and apply image generators.

    The options of a command are the settings of its job type in task files. Models are written to
    runs/RUN/ID/, folders to runs/RUN/made/NAME/.

    \b
    Examples:
      trueface generate draw --data-root faces --content portraits
      trueface generate diffuser --help
    """


def _summary(kind: GenerationKind) -> str:
    return f"{kind.summary[:1].upper()}{kind.summary[1:].rstrip('.')}."


def _list_job_types() -> dict[str, EntryPoint]:
    points = entry_points(group=GROUP)
    return {point.name: point for point in points if point.module.startswith(ROOM)}


def _command(kind: GenerationKind) -> click.Command:
    """Return the command of a job type. Options other than settings depend on its role."""

    def work(
        *,
        run: str,
        device: str,
        model: str | None = None,
        base: str | None = None,
        name: str | None = None,
        **option_values: Any,
    ) -> None:
        if kind.role is Role.FOLDER:
            name = paths.folder_name("--name", name or kind.name)
        result = perform(
            kind, run, option_values, device=device, flag="--run", model=model, base=base, name=name
        )
        run_here.print_result(result)

    command = click.command(kind.name, cls=JobCommand, help=_summary(kind))
    decorated = options(kind.settings, excluded_names=())(work)
    if kind.role is Role.FOLDER:
        decorated = NAME(decorated)
    if kind.role is Role.METHOD:
        decorated = BASE(decorated)
    if kind.role in MAKES_MODELS:
        example = EXAMPLES.get(kind.name, "images:A")
        model_help = f"ID of the model to make, such as '{example}'."
        decorated = click.option("--model", required=True, metavar="ID", help=model_help)(decorated)
    return command(RUN(DEVICE(decorated)))


@click.command()
@click.argument("run", metavar="RUN")
@json_option
@latex_option
@page_option
@csv_option
def erasing(
    run: str, *, as_json: bool, latex: bool, csv_out: str | None, page: Path | None
) -> None:
    """Compare methods that erase a concept from a diffuser.

    RUN is the name of a folder in runs/, or a path.

    \b
    Columns:
      erased:    fraction of images that are still drawn as the concept
      others:    how well the other concepts are drawn
      recovery:  how often an attacker with real images recovers the concept.
                 Compare it with its floor and ceiling.

    A second table contains the published numbers of All but One (AAAI 2024), with the methods of RUN below.

    \b
    Examples:
      trueface erasing concept_erasing_cpu
      trueface erasing concept_erasing_cpu --page runs/concept_erasing_cpu/erasing.html
      trueface erasing runs/concept_erasing_cpu --json
      trueface erasing concept_erasing_cpu --csv erasing.csv
    """
    run_folder = resolve_run_folder(run)
    # numpy and figures take long to import; help and wrong names must not wait for them
    from trueface.generators.erasing.study import RULE, erased_methods
    from trueface.generators.report.erasing_page import (
        Erasing,
        erasing_page,
        published_notes,
        sentences,
    )
    from trueface.generators.report.erasing_tables import (
        LATEX,
        TERMINAL,
        methods_table,
        published_table,
    )

    missing = missing_models(run_folder)
    study = Erasing(run_folder.name, erased_methods(_output_folders(run_folder, "erased")), missing)
    if write := page_writer(page):
        write(erasing_page(study))
    table = methods_table(study.rows)
    published = published_table([row.name for row in study.rows], study.methods)
    if csv_out is not None:
        write_csv(csv_out, ERASING_CSV, [table.without_empty()])
    if as_json:
        content: dict[str, Any] = {
            "methods": [dict(method.row.record) for method in study.methods],
            "rule": RULE,
            "verdict": list(sentences(study)),
            "missing": dict(missing.why),
            "tables": table_records([table.without_empty(), published]),
        }
        _print_json(run_folder, content)
    elif latex:
        click.echo(latex_tables([table.select(LATEX), published]))
    elif csv_out != STANDARD_OUTPUT:
        lines = [f"erasing {run_folder.name}", "", *table_lines(table.select(TERMINAL))]
        lines += ["", *map(escape_unprintable, sentences(study)), "", *table_lines(published), ""]
        click.echo("\n".join([*lines, *map(escape_unprintable, published_notes(study))]))


@click.command()
@click.argument("run", metavar="RUN")
@json_option
@latex_option
@page_option
@csv_option
def purification(
    run: str, *, as_json: bool, latex: bool, csv_out: str | None, page: Path | None
) -> None:
    """Compare purifiers of disrupted images.

    RUN is the name of a folder in runs/, or a path. A purifier is measured by the damage that remains
    after an attack that knows the purifier (mse_adaptive), and by the damage to clean images. The
    random attack is the control: noise of the same size. A generator that was trained against
    disruption is compared like a purifier.

    \b
    Examples:
      trueface purification purification_cpu
      trueface purification purification_cpu --page runs/purification_cpu/purification.html
      trueface purification runs/purification_cpu --json
      trueface purification purification_cpu --csv purification.csv
    """
    run_folder = resolve_run_folder(run)
    # slow imports, as in `erasing`
    from trueface.generators.purification import study as study
    from trueface.generators.report.purification_page import (
        Purification,
        purification_page,
        sentences,
    )
    from trueface.generators.report.purification_tables import (
        ATTACKS_IN_TERMINAL,
        attacks_table,
        detectors_table,
        purifiers_table,
        terminal_table,
    )

    measured = study.restored_folders(_output_folders(run_folder, "restored"))
    rows, attacks = study.purifier_rows(measured), study.attack_rows(measured)
    missing = missing_models(run_folder)
    tested = study.detectors(run_folder, _results(run_folder), missing)
    if write := page_writer(page):
        whole = Purification(run_folder.name, rows, attacks, measured, tested, missing)
        write(purification_page(whole))
    attacked, of_detectors = attacks_table(attacks), detectors_table(tested)
    every = [purifiers_table(rows).without_empty(), attacked, of_detectors]
    if csv_out is not None:
        write_csv(csv_out, PURIFICATION_CSV, every)
    if as_json:
        content: dict[str, Any] = {
            "purifiers": [dict(row.record) for row in rows],
            "attacks": [dict(row.record) for row in attacks],
            "detectors": [each._asdict() for each in tested],
            "rule": study.RULE,
            "verdict": list(sentences(rows, missing)),
            "missing": dict(missing.why),
            "tables": table_records(every),
        }
        _print_json(run_folder, content)
    elif latex:
        tables = (terminal_table(rows, verdicts=True), attacked, of_detectors)
        click.echo(latex_tables(table for table in tables if table.rows))
    elif csv_out != STANDARD_OUTPUT:
        lines = [f"purification {run_folder.name}", "", *table_lines(terminal_table(rows)), ""]
        lines += table_lines(attacked.select(ATTACKS_IN_TERMINAL)) if attacks else []
        click.echo("\n".join([*lines, "", *map(escape_unprintable, sentences(rows, missing))]))


def _output_folders(run_folder: Path, kind: str) -> list[Path]:
    """Return the output folders of a job type in a run, sorted by name. Unfinished ones are left out.

    Raises:
        DataError: there is no such folder.
    """
    outputs = run_folder / paths.OUTPUTS_FOLDER
    folders = sorted(outputs.iterdir()) if outputs.is_dir() else []
    finished = [
        folder
        for folder in folders
        if not folder.name.startswith(".")
        and (read_json(folder / paths.OUTPUT_RECORD) or {}).get("kind") == kind
    ]
    if not finished:
        raise DataError(
            f"{run_folder} has no finished job of type {kind}. Run the task file of the run first."
        )
    return finished


def _results(run_folder: Path) -> list[dict[str, Json]]:
    """Return the result rows of the run's detectors, or none if it tested no detector."""
    from trueface.evaluation.results import table

    try:
        _, tests = tests_of_run(str(run_folder))
    except DataError:
        return []
    return table(run_folder, tests)


def _print_json(run_folder: Path, content: Mapping[str, Any]) -> None:
    click.echo(json.dumps({"schema": 1, "run": run_folder.name, **content}))
