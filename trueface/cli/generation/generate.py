"""`trueface generate KIND`: one job of a generators' kind here and now, without the queue."""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, get_args

import click

from launcher.api import Draft, Role, UsageError, parse_model
from trueface.cli.run_job import options, settings_of
from trueface.jobs.job_kind import JobKind, refuse_unfit
from trueface.jobs.kinds import before
from trueface.runtime import logs, paths

GROUP = "launcher.kinds"
ROOM = "trueface.jobs.generation."
MAKES_MODELS = frozenset({Role.TRAIN, Role.METHOD})
METHOD = "method"  # a setting that the model's ID gives: 'classes:all~uce'

RUN = click.option(
    "--run", default="test", show_default=True, help="Name of the run, a folder in runs/."
)
DEVICE = click.option("--device", default="cuda:0", show_default=True, help="cpu or cuda:N.")
MODEL = click.option(
    "--model", "model_id", required=True, metavar="ID", help="ID of the model, as 'images:A'."
)
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
        if not isinstance(kind, JobKind):
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


def _command(kind: JobKind) -> click.Command:
    """Return the command of a kind; what it asks for beside its settings follows from its role."""

    def work(*, run: str, device: str, **given: Any) -> None:
        named = {key: given.pop(key, None) for key in ("model_id", "base", "name")}
        _perform(kind, run, device, named, given)

    command = click.command(kind.name, help=f"{kind.summary[:1].upper()}{kind.summary[1:]}.")
    decorated = options(kind.settings, without=())(work)
    if kind.role is Role.FOLDER:
        decorated = NAME(decorated)
    if kind.role is Role.METHOD:
        decorated = BASE(decorated)
    if kind.role in MAKES_MODELS:
        decorated = MODEL(decorated)
    return command(RUN(DEVICE(decorated)))


def _perform(
    kind: JobKind,
    run: str,
    device: str,
    named: Mapping[str, str | None],
    given: Mapping[str, Any],
) -> None:
    draft = _draft(kind, run, named, given)
    refuse_unfit(kind, draft)
    # torch takes seconds to import; help and wrong arguments must not wait for it
    from trueface.cli import run_here

    if draft.model is not None:
        paths.make_folder(draft.model_folder(draft.model), draft.model)
    with logs.shown():
        for key, value in run_here.perform_draft(kind, draft, device_name=device).items():
            click.echo(f"{key}\t{value:.6g}" if isinstance(value, float) else f"{key}\t{value}")


def _draft(
    kind: JobKind, run: str, named: Mapping[str, str | None], given: Mapping[str, Any]
) -> Draft:
    model = None if (text := named["model_id"]) is None else parse_model(text)
    base, settings = None, dict(given)
    if model is not None and kind.role is Role.METHOD:
        if not model.last.methods:
            raise UsageError(f"{model} names no method: write {model}~METHOD")
        settings = {**settings, METHOD: settings.get(METHOD) or model.last.methods[-1]}
        given_base = named["base"]
        base = str(parse_model(given_base) if given_base else before(model))
    name = None
    if kind.role is Role.FOLDER:
        name = paths.folder_name("--name", named["name"] or kind.name)
    return Draft(
        kind=kind.name,
        run=paths.folder_name("--run", run),
        run_folder=Path.cwd() / "runs" / run,
        folder=Path.cwd(),
        model=None if model is None else str(model),
        base=base,
        data=None if model is None else str(model.last.data),
        images=None if model is None else str(kind.images(model.last.data)),
        name=name,
        settings=settings_of(kind, {key: _typed(kind, key, settings[key]) for key in settings}),
    )


def _typed(kind: JobKind, key: str, value: Any) -> Any:
    """Return what was typed; a number where the setting is a choice of numbers."""
    choices = get_args(kind.settings.model_fields[key].annotation)
    return next((choice for choice in choices if str(choice) == value), value)
