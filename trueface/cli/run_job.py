"""Commands that do one job here and now: sample, forge, poison, unlearn, classify, forget, checkpoint."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click

from launcher.api import (
    Draft,
    Json,
    Kind,
    Role,
    UnknownName,
    UsageError,
    Words,
    parse_model,
)
from trueface.cli import run_here
from trueface.cli.setting_options import command, custom_word_options, options
from trueface.data.forging.settings import ForgeSettings
from trueface.jobs.classes.kinds import CLASSIFY, FORGET
from trueface.jobs.flags import WORD_HELP, is_range, read_word_flags, validate_flags
from trueface.jobs.forging.kind import FORGE
from trueface.jobs.job_kind import JobKind, refuse_unfit
from trueface.jobs.kinds import POISON, SAMPLE, UNLEARN, parent_model
from trueface.jobs.published.kind import CHECKPOINT
from trueface.runtime import logs, paths
from trueface.unlearning import METHODS

RUN = click.option(
    "--name",
    metavar="RUN",
    default="test",
    show_default=True,
    help="Run of the model. Files go to runs/RUN/MODEL/.",
)
DEVICE = click.option(
    "--device",
    metavar="DEVICE",
    default="cuda:0",
    show_default=True,
    help="Device to compute on: cpu, cuda:N, or auto.",
)
BASE = click.option(
    "--base",
    metavar="MODEL",
    help="Model to start from.  [default: MODEL before its last '~']",
)


@command()
@click.argument("folder", type=click.Path(path_type=Path))
@options(SAMPLE.settings, excluded_names=("data_root",))
def sample(folder: Path, **option_values: Any) -> None:
    """Make a synthetic data set with its splits in FOLDER.

    The images are procedural scenes. Each fake method leaves its own fingerprint. Nothing is
    downloaded. The same seed gives the same files.

    \b
    Examples:
      trueface sample data
      trueface sample data --size 64 --train 200 --seed 7
    """
    perform(SAMPLE, "sample", {"data_root": str(folder), **option_values})
    click.echo(folder)


@command()
@click.argument("faces", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Data set to write. Required, except with --preview.",
)
@click.option(
    "--preview",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a PNG with examples of each type. Without --out, write nothing else.",
)
@options(FORGE.settings, excluded_names=("data_root", "faces"))
def forge(faces: Path, *, out: Path | None, preview: Path | None, **option_values: Any) -> None:
    """Make one fake of each aligned face, and a data set with splits.

    FACES is a folder, or a CSV table with columns img_path, label, ismale, isasian, iswhite, isblack,
    intersec_label, split. Paths in the table start at its folder. Each fake is a face blended with
    itself, or with a similar face of the same group and split. The same faces and seed give the same
    files.

    \b
    Examples:
      trueface forge faces.csv --out data
      trueface forge faces.csv --preview examples.png
    """
    if out is None and preview is None:
        raise UsageError("--out FOLDER or --preview FILE is required")
    option_values |= {"data_root": str(out or "preview"), "faces": str(faces)}
    settings = settings_of(FORGE, option_values)
    if out is not None:
        result = perform(FORGE, "forge", option_values)
        click.echo(f"{out}\t{result['images']} images")
    if preview is not None:
        from trueface.data.forging.forged_set import write_contact_sheet

        write_contact_sheet(preview, faces, ForgeSettings.model_validate(settings))
        click.echo(preview)


@command()
@click.argument("model_id", metavar="MODEL")
@RUN
@click.option(
    "--for",
    "further",
    multiple=True,
    metavar="MODEL",
    help="Another model that gets the same labels. Its data and poison are the same. Repeatable.",
)
@custom_word_options
@options(POISON.settings, excluded_names=())
def poison(model_id: str, *, name: str, further: tuple[str, ...], **option_values: Any) -> None:
    """Choose the training labels to flip for a model.

    MODEL gives the data and the poison: 'gan2:pre&real:pre%50' flips 50 % of the labels. The choice is
    written to runs/RUN/MODEL/poison.json. The training of MODEL reads it.

    \b
    Examples:
      trueface poison 'gan2:pre%50' --name study --data-root data --split-path data/splits
      trueface poison 'gan2:pre%20' --data-root data --split-path data/splits --poison-per class
    """
    model = parse_model(model_id)
    if model.last.poison is None:
        raise UsageError(f"{model} has no poison. To flip half of the labels, write '{model}%50'")
    others = tuple(map(parse_model, further))
    for other in others:
        if (other.last.data, other.last.poison) != (model.last.data, model.last.poison):
            raise UsageError(f"--for {other}: its data or poison differs from {model}")
    run_here.print_result(
        perform(POISON, name, option_values, model=model_id, further_models=tuple(map(str, others)))
    )


@command()
@click.argument("model_id", metavar="MODEL")
@RUN
@DEVICE
@BASE
@custom_word_options
@options(UNLEARN.settings, excluded_names=("method",))
def unlearn(
    model_id: str, *, name: str, device: str, base: str | None, **option_values: Any
) -> None:
    """Unlearn the flipped labels of a poisoned model.

    MODEL names the result: 'gan2:pre&real:pre%50~relabel' starts from the model before the last '~'.

    \b
    Examples:
      trueface unlearn 'gan2:pre%50~relabel' --data-root data --split-path data/splits
      trueface unlearn 'gan2:pre%50~scrub' --data-root data --split-path data/splits \\
          --name study --unlearn-epochs 3 --scrub-alpha 0.1
    """
    model = parse_model(model_id)
    if not model.last.methods:
        raise UsageError(
            f"{model} has no unlearning method. Write '{model}~METHOD' with one of {', '.join(METHODS)}"
        )
    if (method := model.last.methods[-1]) not in METHODS:
        raise UnknownName("unlearning method", method, METHODS, where="launcher help unlearning")
    run_here.print_result(
        perform(UNLEARN, name, option_values, device=device, model=model_id, base=base)
    )


@command()
@click.argument("model_id", metavar="MODEL")
@RUN
@DEVICE
@options(CLASSIFY.settings, excluded_names=())
def classify(model_id: str, *, name: str, device: str, **option_values: Any) -> None:
    """Train a classifier of image classes.

    MODEL is NAME:all, such as 'cifar10:all'.

    \b
    Examples:
      trueface classify 'cifar10:all' --data-root cifar10 --num-epochs 20
      trueface classify 'cifar10:all' --data-root cifar10 --name study --device cpu
    """
    run_here.print_result(perform(CLASSIFY, name, option_values, device=device, model=model_id))


@command()
@click.argument("model_id", metavar="MODEL")
@RUN
@DEVICE
@BASE
@options(FORGET.settings, excluded_names=("method",))
def forget(
    model_id: str, *, name: str, device: str, base: str | None, **option_values: Any
) -> None:
    """Unlearn a class or images of a classifier.

    MODEL names the result: 'cifar10:all~lau' starts from the model before the last '~'.

    \b
    Examples:
      trueface forget 'cifar10:all~lau' --data-root cifar10 --forget-class 3
      trueface forget 'cifar10:all~ssd' --data-root cifar10 --forget-fraction 0.1
    """
    run_here.print_result(
        perform(FORGET, name, option_values, device=device, model=model_id, base=base)
    )


@command()
@click.argument("model_id", metavar="MODEL")
@RUN
@options(CHECKPOINT.settings, excluded_names=())
def checkpoint(model_id: str, *, name: str, **option_values: Any) -> None:
    """Take a published checkpoint over as a model of a run, without training.

    MODEL is published:NAME, with a name of your choice. Tests and `trueface predict` use it like a
    trained model. Nothing in the file is executed.

    \b
    Examples:
      trueface checkpoint published:cnn --architecture tv/resnet50 --weights cnn.pth
      trueface checkpoint published:f3 --architecture tv/resnet18 --weights f3.safetensors \\
          --logits 2 --resize 256 --crop 256 --squash --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5
    """
    run_here.print_result(perform(CHECKPOINT, name, option_values, model=model_id))


def settings_of(kind: Kind, option_values: Mapping[str, Any]) -> dict[str, Json]:
    """Return complete settings; a range was typed as `A,B`, and a number may be one of a choice."""
    fields, typed = kind.settings.model_fields, dict[str, Any]()
    for key, value in option_values.items():
        if value is not None:
            choices = (each for each in get_args(fields[key].annotation) if str(each) == value)
            typed[key] = value.split(",") if is_range(fields[key]) else next(choices, value)
    dumped: dict[str, Json] = validate_flags(kind.settings, typed, dashes=True).model_dump(
        mode="json"
    )
    return dumped


def perform(
    kind: JobKind,
    run: str,
    option_values: Mapping[str, Any],
    *,
    device: str = "cpu",
    flag: str = "--name",
    model: str | None = None,
    base: str | None = None,
    name: str | None = None,
    further_models: tuple[str, ...] = (),
) -> Mapping[str, Json]:
    """Run a job in this process, unless it is rejected, and return its result.

    Args:
        kind: of the job.
        run: its name.
        option_values: what the flags of its settings gave, and those of `custom_word_options`.
        device: see `run_here.device`.
        flag: that named the run.
        model: ID of the model that it makes.
        base: for the role METHOD, the ID of the model that it starts from. None means the model before its last '~'.
        name: of the role FOLDER.
        further_models: see `Draft.further_models`.

    Raises:
        UsageError: why it must not run.
    """
    model_id, settings = None if model is None else parse_model(model), dict(option_values)
    own = {key: settings.pop(key) for key in WORD_HELP if key in settings}
    words = read_word_flags(**own, data_root=settings.get("data_root")) if own else Words()
    kind = kind.with_words(words)
    if model_id is not None and kind.role is Role.METHOD:
        if not model_id.last.methods:
            raise UsageError(f"{model_id} has no method. Write '{model_id}~METHOD'")
        settings["method"] = settings.get("method") or model_id.last.methods[-1]
        base = str(parse_model(base) if base else parent_model(model_id))
    draft = Draft(
        kind=kind.name,
        run=paths.folder_name(flag, run),
        run_folder=Path.cwd() / "runs" / run,
        folder=Path.cwd(),
        model=None if model_id is None else str(model_id),
        base=base,
        data=None if model_id is None else str(model_id.last.data),
        images=None if model_id is None else str(kind.images(model_id.last.data)),
        name=name,
        settings=settings_of(kind, settings),
        words=words,
        further_models=further_models,
    )
    inherited = {
        key: value
        for key, value in kind.inherited_settings(draft, ()).items()
        if option_values.get(key) is None
    }
    draft = replace(draft, settings={**draft.settings, **inherited})
    refuse_unfit(kind, draft)
    for each in () if draft.model is None else (draft.model, *further_models):
        paths.make_folder(draft.model_folder(each), each)
    typed = {
        key: f"--{key.replace('_', '-')}"
        for key, value in option_values.items()
        if value is not None
    }
    with logs.log_to_stderr():
        run_here.warn_without_effect(kind, draft.settings, typed, draft.images)
        return run_here.perform_draft(kind, draft, device_name=device)
