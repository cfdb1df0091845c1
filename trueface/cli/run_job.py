"""Commands that do one job here and now: sample, forge, poison, unlearn, classify, forget."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from launcher.api import (
    Draft,
    Json,
    Kind,
    Role,
    Settings,
    UnknownName,
    UsageError,
    Words,
    parse_model,
)
from trueface.cli import run_here
from trueface.data.forging.plan import ForgeSettings
from trueface.jobs.classes.kinds import CLASSIFY, FORGET
from trueface.jobs.flags import WORD_HELP, WORD_SHAPE, checked, is_range, is_truth, read_word_flags
from trueface.jobs.forging.kind import FORGE
from trueface.jobs.job_kind import JobKind, refuse_unfit
from trueface.jobs.kinds import POISON, SAMPLE, UNLEARN, before
from trueface.runtime import logs, paths
from trueface.unlearning import METHODS

Command = TypeVar("Command", bound=Callable[..., Any])

RUN = click.option(
    "--name",
    default="test",
    show_default=True,
    help="Name of the run; files go to runs/NAME/MODEL/.",
)
CLASSIFIER_RUN = click.option(
    "--name", default="test", show_default=True, help="Name of the run, a folder in runs/."
)
DEVICE = click.option("--device", default="cuda:0", show_default=True, help="cpu or cuda:N.")
BASE = click.option("--base", help="Model to start from.  [default: MODEL before its last '~']")


def options(model: type[Settings], *, without: tuple[str, ...]) -> Callable[[Command], Command]:
    """Return a decorator that gives a command one option for each setting of a kind."""

    def decorate(command: Command) -> Command:
        for key, field in reversed(model.model_fields.items()):
            if key in without:
                continue
            name = f"--{key.replace('_', '-')}"
            text = f"{field.description}"
            if not field.is_required():
                shown = field.get_default()
                shown = ",".join(map(str, shown)) if isinstance(shown, tuple) else shown
                text += f"  [default: {shown}]"
            if is_truth(field):
                option = click.option(f"{name}/--no-{name[2:]}", key, default=None, help=text)
            else:
                kind = "A[,B]" if is_range(field) else None
                option = click.option(name, key, metavar=kind, help=text)
            command = option(command)
        return command

    return decorate


def own_words(command: Command) -> Command:
    """Give a command the options for user-defined subsets and modifiers."""
    for name, text in reversed(tuple(WORD_HELP.items())):
        shown = f"{text[:1].upper()}{text[1:]}; may be given again."
        option = click.option(f"--{name}", multiple=True, metavar=WORD_SHAPE, help=shown)
        command = option(command)
    return command


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@options(SAMPLE.settings, without=("data_root",))
def sample(folder: Path, **given: Any) -> None:
    """Make a synthetic image set and its splits in FOLDER.

    The images are procedural scenes; each fake method leaves a fingerprint of its own. Nothing is
    downloaded, and the same seed gives the same files.
    """
    perform(SAMPLE, "sample", {"data_root": str(folder), **given})
    click.echo(folder)


@click.command()
@click.argument("faces", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Data root to make; needed but for a preview."
)
@click.option(
    "--preview",
    type=click.Path(path_type=Path),
    help="Write a PNG with a few faces beside their fakes of each type.",
)
@options(FORGE.settings, without=("data_root", "faces"))
def forge(faces: Path, *, out: Path | None, preview: Path | None, **given: Any) -> None:
    """Make fakes of the aligned faces in FACES, and an image set of both with splits in --out.

    FACES is a table (img_path,label,ismale,isasian,iswhite,isblack,intersec_label,split; paths start
    at its folder), or a folder without groups. Each face gets one fake, a blend of itself or with a
    similar face of the same group and list; the same faces and seed give the same files.
    """
    if out is None and preview is None:
        raise UsageError("name a folder to make: --out DIR; or a picture to look at: --preview PNG")
    given |= {"data_root": str(out or "preview"), "faces": str(faces)}
    settings = settings_of(FORGE, given)
    if out is not None:
        result = perform(FORGE, "forge", given)
        click.echo(f"{out}\t{result['images']} images")
    if preview is not None:
        from trueface.data.forging.forged_set import write_contact_sheet

        write_contact_sheet(preview, faces, ForgeSettings.model_validate(settings))
        click.echo(preview)


@click.command()
@click.argument("model_id", metavar="MODEL")
@RUN
@click.option(
    "--for",
    "further",
    multiple=True,
    metavar="MODEL",
    help="Another model of the same data and poison that gets the same labels; repeatable.",
)
@own_words
@options(POISON.settings, without=())
def poison(model_id: str, *, name: str, further: tuple[str, ...], **given: Any) -> None:
    """Choose which training labels are flipped for MODEL, such as 'gan2:pre&real:pre%50'."""
    model = parse_model(model_id)
    if model.last.poison is None:
        raise UsageError(f"{model} names no poison: write 'DATA%50' for half of the labels")
    others = tuple(map(parse_model, further))
    for other in others:
        if (other.last.data, other.last.poison) != (model.last.data, model.last.poison):
            raise UsageError(f"--for {other}: it has other data or another poison than {model}")
    run_here.tell(perform(POISON, name, given, model=model_id, further=tuple(map(str, others))))


@click.command()
@click.argument("model_id", metavar="MODEL")
@RUN
@DEVICE
@BASE
@own_words
@options(UNLEARN.settings, without=("method",))
def unlearn(model_id: str, *, name: str, device: str, base: str | None, **given: Any) -> None:
    """Make MODEL, such as 'gan2:pre&real:pre%50~relabel', from the model before its last '~'."""
    model = parse_model(model_id)
    if not model.last.methods:
        raise UsageError(f"{model} names no method: write MODEL~METHOD ({', '.join(METHODS)})")
    if (method := model.last.methods[-1]) not in METHODS:
        raise UnknownName("unlearning method", method, METHODS, where="docs/unlearning.md")
    run_here.tell(perform(UNLEARN, name, given, device=device, model=model_id, base=base))


@click.command()
@click.argument("model_id", metavar="MODEL")
@CLASSIFIER_RUN
@DEVICE
@options(CLASSIFY.settings, without=())
def classify(model_id: str, *, name: str, device: str, **given: Any) -> None:
    """Train the classifier MODEL, such as 'cifar10:all'."""
    run_here.tell(perform(CLASSIFY, name, given, device=device, model=model_id))


@click.command()
@click.argument("model_id", metavar="MODEL")
@CLASSIFIER_RUN
@DEVICE
@BASE
@options(FORGET.settings, without=("method",))
def forget(model_id: str, *, name: str, device: str, base: str | None, **given: Any) -> None:
    """Unlearn a class or images: make MODEL, such as 'cifar10:all~lau', from the model before '~'."""
    run_here.tell(perform(FORGET, name, given, device=device, model=model_id, base=base))


def settings_of(kind: Kind, given: Mapping[str, Any]) -> dict[str, Json]:
    """Return complete settings; a range was typed as `A,B`, and a number may be one of a choice."""
    fields, typed = kind.settings.model_fields, dict[str, Any]()
    for key, value in given.items():
        if value is not None:
            choices = (each for each in get_args(fields[key].annotation) if str(each) == value)
            typed[key] = value.split(",") if is_range(fields[key]) else next(choices, value)
    dumped: dict[str, Json] = checked(kind.settings, typed, dashes=True).model_dump(mode="json")
    return dumped


def perform(
    kind: JobKind,
    run: str,
    given: Mapping[str, Any],
    *,
    device: str = "cpu",
    flag: str = "--name",
    model: str | None = None,
    base: str | None = None,
    name: str | None = None,
    further: tuple[str, ...] = (),
) -> Mapping[str, Json]:
    """Do a job here and now, where nothing speaks against it; return its result.

    Args:
        kind: of the job.
        run: its name.
        given: what the flags of its settings gave, and those of `own_words`.
        device: see `run_here.device`.
        flag: that named the run.
        model: ID of the model that it makes.
        base: of the role METHOD: ID of the model that it starts from; None: the model before its last '~'.
        name: of the role FOLDER.
        further: see `Draft.further_models`.

    Raises:
        UsageError: why it must not run.
    """
    made, settings = None if model is None else parse_model(model), dict(given)
    own = {key: settings.pop(key) for key in WORD_HELP if key in settings}
    words = read_word_flags(**own, data_root=settings.get("data_root")) if own else Words()
    kind = kind.with_words(words)
    if made is not None and kind.role is Role.METHOD:
        if not made.last.methods:
            raise UsageError(f"{made} names no method: write {made}~METHOD")
        settings["method"] = settings.get("method") or made.last.methods[-1]
        base = str(parse_model(base) if base else before(made))
    draft = Draft(
        kind=kind.name,
        run=paths.folder_name(flag, run),
        run_folder=Path.cwd() / "runs" / run,
        folder=Path.cwd(),
        model=None if made is None else str(made),
        base=base,
        data=None if made is None else str(made.last.data),
        images=None if made is None else str(kind.images(made.last.data)),
        name=name,
        settings=settings_of(kind, settings),
        words=words,
        further_models=further,
    )
    refuse_unfit(kind, draft)
    for each in () if draft.model is None else (draft.model, *further):
        paths.make_folder(draft.model_folder(each), each)
    typed = {key: f"--{key.replace('_', '-')}" for key, value in given.items() if value is not None}
    with logs.shown():
        run_here.warn_without_effect(kind, draft.settings, typed)
        return run_here.perform_draft(kind, draft, device_name=device)
