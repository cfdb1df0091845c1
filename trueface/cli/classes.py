"""`trueface classify` and `trueface forget`: train a network of classes, and make it forget one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from launcher.api import Draft, ModelId, UsageError, parse_model
from trueface.cli.run_job import options, settings_of
from trueface.jobs.classes.kinds import CLASSIFY, FORGET
from trueface.jobs.job_kind import JobKind, refuse_unfit
from trueface.jobs.kinds import before
from trueface.runtime import logs, paths

RUN = click.option(
    "--name", default="test", show_default=True, help="Name of the run, a folder in runs/."
)
DEVICE = click.option("--device", default="cuda:0", show_default=True, help="cpu or cuda:N.")


@click.command()
@click.argument("model_id", metavar="MODEL")
@RUN
@DEVICE
@options(CLASSIFY.settings, without=())
def classify(model_id: str, *, name: str, device: str, **given: Any) -> None:
    """Train the classifier MODEL, such as 'cifar10:all'."""
    _perform(CLASSIFY, parse_model(model_id), None, name, device, given)


@click.command()
@click.argument("model_id", metavar="MODEL")
@RUN
@DEVICE
@click.option("--base", help="Model to start from.  [default: MODEL before its last '~']")
@options(FORGET.settings, without=("method",))
def forget(model_id: str, *, name: str, device: str, base: str | None, **given: Any) -> None:
    """Unlearn a class or images: make MODEL, such as 'cifar10:all~lau', from the model before '~'."""
    model = parse_model(model_id)
    if not model.last.methods:
        raise UsageError(f"{model} names no method: write {model}~METHOD")
    start = str(parse_model(base)) if base else str(before(model))
    method = model.last.methods[-1]
    _perform(FORGET, model, start, name, device, {"method": method, **given})


def _perform(
    kind: JobKind,
    model: ModelId,
    base: str | None,
    run: str,
    device: str,
    given: Mapping[str, Any],
) -> None:
    draft = Draft(
        kind=kind.name,
        run=paths.folder_name("--name", run),
        run_folder=Path.cwd() / "runs" / run,
        folder=Path.cwd(),
        model=str(model),
        base=base,
        data=str(model.last.data),
        images=str(kind.images(model.last.data)),
        settings=settings_of(kind, given),
    )
    refuse_unfit(kind, draft)
    # torch takes seconds to import; help and wrong arguments must not wait for it
    from trueface.cli import run_here

    paths.make_folder(draft.model_folder(str(model)), str(model))
    with logs.shown():
        for key, value in run_here.perform_draft(kind, draft, device_name=device).items():
            click.echo(f"{key}\t{value:.6g}" if isinstance(value, float) else f"{key}\t{value}")
