"""Generators: one job here and now without the queue, and the studies of purification and erasing of a run."""

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from launcher.api import Json, Role, UsageError, read_json
from trueface.audit.run_facts import found_folder
from trueface.cli import run_here
from trueface.cli.run_job import options, perform
from trueface.cli.studies import json_option, missing_models, page_option, page_writer, tests_of_run
from trueface.jobs.generation.purification_kinds import EXAMPLES
from trueface.jobs.job_kind import GenerationKind
from trueface.runtime import paths
from trueface.runtime.errors import DataError

if TYPE_CHECKING:
    from trueface.evaluation.over_seeds import MethodRow
    from trueface.report.generators import StudyColumn

GROUP = "launcher.kinds"
ROOM = "trueface.jobs.generation."
MAKES_MODELS = frozenset({Role.TRAIN, Role.METHOD})
METHOD = "method"  # a setting that the model's ID gives: 'classes:all~uce'

RUN = click.option(
    "--run", default="test", show_default=True, help="Name of the run, a folder in runs/."
)
DEVICE = click.option("--device", default="cuda:0", show_default=True, help="cpu or cuda:N.")
BASE = click.option("--base", help="Model to start from.  [default: the model before its last '~']")
NAME = click.option("--name", help="Name of the folder in runs/RUN/made/.  [default: the kind]")


class Kinds(click.Group):
    """The generators' kinds that are installed; one is imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's shape
        """Return the names of the kinds."""
        return sorted(_offered())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the command of a kind, with an option for each of its settings."""
        point = _offered().get(cmd_name)
        if point is None:
            return None
        kind = point.load()
        if not isinstance(kind, GenerationKind):
            raise UsageError(f"{point.value} is no kind of generators; mend the entry point")
        return _command(kind)


@click.group(cls=Kinds)
def generate() -> None:
    """Do one job about generators: train or erase one, or make a folder of images.

    KIND --help lists its settings, which are those of a task file. A folder's job writes to
    runs/RUN/made/NAME, a model's to runs/RUN/ID.
    """


def _offered() -> dict[str, EntryPoint]:
    points = entry_points(group=GROUP)
    return {point.name: point for point in points if point.module.startswith(ROOM)}


def _command(kind: GenerationKind) -> click.Command:
    """Return the command of a kind; what it asks for beside its settings follows from its role."""

    def work(
        *,
        run: str,
        device: str,
        model: str | None = None,
        base: str | None = None,
        name: str | None = None,
        **given: Any,
    ) -> None:
        if kind.role is Role.FOLDER:
            name = paths.folder_name("--name", name or kind.name)
        result = perform(
            kind, run, given, device=device, flag="--run", model=model, base=base, name=name
        )
        run_here.tell(result)

    command = click.command(kind.name, help=f"{kind.summary[:1].upper()}{kind.summary[1:]}.")
    decorated = options(kind.settings, without=())(work)
    if kind.role is Role.FOLDER:
        decorated = NAME(decorated)
    if kind.role is Role.METHOD:
        decorated = BASE(decorated)
    if kind.role in MAKES_MODELS:
        example = EXAMPLES.get(kind.name, "images:A")
        model_help = f"ID of the model, as '{example}'."
        decorated = click.option("--model", required=True, metavar="ID", help=model_help)(decorated)
    return command(RUN(DEVICE(decorated)))


@click.command(
    epilog="""\b
Examples:
  trueface erasing erasing
  trueface erasing erasing --page runs/erasing/erasing.html
  trueface erasing runs/erasing --json
"""
)
@click.argument("run", metavar="RUN")
@json_option
@page_option
def erasing(run: str, *, as_json: bool, page: Path | None) -> None:
    """Show the erasing methods of RUN, a name below runs/ or a path.

    erased is how often the concept is still drawn at its name, others how well the remaining ones are;
    recovery is how often an attacker with real images gets it back, to be read between its floor and
    ceiling.
    """
    run_folder = found_folder(run)
    # numpy and pictures take long to import; help and wrong names must not wait for them
    from trueface.erasing.study import RULE, erased_methods
    from trueface.report.erasing_page import COLUMNS, Erasing, erasing_page, sentences

    missing = missing_models(run_folder)
    study = Erasing(run_folder.name, erased_methods(_made(run_folder, "erased")), missing)
    if write := page_writer(page):
        write(erasing_page(study))
    if as_json:
        rows = [dict(method.row.record) for method in study.methods]
        said = list(sentences(study))
        content = {"methods": rows, "rule": RULE, "verdict": said, "missing": dict(missing.why)}
        _print_json(run_folder, content)
        return
    lines = [f"erasing {run_folder.name}", "", *_table("method", COLUMNS, study.rows)]
    click.echo("\n".join([*lines, "", *_shown(sentences(study))]))


@click.command(
    epilog="""\b
Examples:
  trueface purification purification
  trueface purification purification --page runs/purification/purification.html
  trueface purification runs/purification --json
"""
)
@click.argument("run", metavar="RUN")
@json_option
@page_option
def purification(run: str, *, as_json: bool, page: Path | None) -> None:
    """Show the attacks and purifiers of RUN, a name below runs/ or a path.

    A purifier is judged by the damage that an attack leaves which knows it (mse_adaptive), and by its
    price: what it does to clean images. The random control tells an attack from noise.
    """
    run_folder = found_folder(run)
    # as above
    from trueface.evaluation import restored as study
    from trueface.report.purification_page import (
        ATTACKS,
        PURIFIERS,
        Purification,
        purification_page,
        sentences,
    )

    measured = study.restored_folders(_made(run_folder, "restored"))
    rows, attacks = study.purifier_rows(measured), study.attack_rows(measured)
    missing = missing_models(run_folder)
    tested = study.detectors(run_folder, _results(run_folder), missing)
    if write := page_writer(page):
        whole = Purification(run_folder.name, rows, attacks, measured, tested, missing)
        write(purification_page(whole))
    if as_json:
        content: dict[str, Any] = {
            "purifiers": [dict(row.record) for row in rows],
            "attacks": [dict(row.record) for row in attacks],
            "detectors": [each._asdict() for each in tested],
            "rule": study.RULE,
            "verdict": list(sentences(rows, missing)),
            "missing": dict(missing.why),
        }
        _print_json(run_folder, content)
        return
    lines = [f"purification {run_folder.name}", "", *_table("method", PURIFIERS, rows), ""]
    lines += _table("attack", ATTACKS, attacks, left=2) if attacks else []
    click.echo("\n".join([*lines, "", *_shown(sentences(rows, missing))]))


def _made(run_folder: Path, kind: str) -> list[Path]:
    """Return what jobs of a kind made in a run, by name; folders that are being made are left out.

    Raises:
        DataError: there is nothing.
    """
    place = run_folder / paths.MADE
    folders = sorted(place.iterdir()) if place.is_dir() else []
    made = [
        folder
        for folder in folders
        if not folder.name.startswith(".")
        and (read_json(folder / paths.MADE_OF) or {}).get("kind") == kind
    ]
    if not made:
        raise DataError(
            f"{run_folder} holds no folder of a job of {kind!r}: run its task file first"
        )
    return made


def _results(run_folder: Path) -> list[dict[str, Json]]:
    """Return the rows of the run's detectors; none where it tested none."""
    from trueface.evaluation.results import table

    try:
        _, tests = tests_of_run(str(run_folder))
    except DataError:
        return []
    return table(run_folder, tests)


def _print_json(run_folder: Path, content: Mapping[str, Any]) -> None:
    click.echo(json.dumps({"schema": 1, "run": run_folder.name, **content}))


def _table(
    first: str, columns: Sequence["StudyColumn"], rows: Sequence["MethodRow"], *, left: int = 1
) -> list[str]:
    from trueface.cli.text_tables import aligned
    from trueface.report.generators import screen_table

    return aligned([tuple(_shown(line)) for line in screen_table(first, columns, rows)], left=left)


def _shown(texts: Iterable[str]) -> list[str]:
    from trueface.cli.text_tables import shown

    return [shown(text) for text in texts]
